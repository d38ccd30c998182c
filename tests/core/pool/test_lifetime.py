"""A lifetime of a pool without a backend: in which order it starts and ends, and how it goes on after its death."""

import time
from typing import Any
from uuid import UUID

import pytest

from fang_core import BackendUnavailable, Interrupt
from fang_core.config import PoolOptions
from fang_core.errors import RowsLocked
from fang_core.events import EventBus, Events
from fang_core.pool.lifetime import FLUSHING, PoolLifetime
from fang_core.runs.isolation import Isolates, Isolation
from tests.core.pool.fakes import FakeQueue, FakeRuntime, FakeService, FakeWorkers, FullStore, claim

AWAY = BackendUnavailable("away")
GRACE = 20.0
SERVICES = ["fang-completer", "fang-maintenance", "fang-ticker", "fang-recorder", "fang-claimer", "fang-live"]


def refused() -> Isolation:
    raise AssertionError("no task is isolated")


class Heard(Events):
    def __init__(self) -> None:
        self.died: list[tuple[UUID, UUID]] = []

    def pool_declared_dead(self, pool_id: UUID, successor: UUID) -> None:
        self.died.append((pool_id, successor))


class Pool:
    """A lifetime, and what stands around it."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.queue: Any = FakeQueue(runtime)
        self.store: FullStore = self.queue.full_store
        self.heard = Heard()
        self.lifetime = self.make()
        self.workers: Any = self.lifetime.workers

    def make(self) -> PoolLifetime:
        options = PoolOptions(number_of_workers=2, warn_after=None)
        events = EventBus([self.heard])
        return PoolLifetime(
            self.runtime,
            self.store,
            self.queue,
            options,
            events=events,
            make_workers=FakeWorkers,
            on_stop=lambda: None,
            on_resize=lambda workers: None,
            on_too_many_stuck=lambda: None,
            isolates=Isolates(refused, self.runtime.aside),
        )

    def start(self) -> None:
        self.runtime.call(self.lifetime.register())
        self.runtime.call(self.lifetime.start())
        self.runtime.settle()

    def start_with(self, *numbers: int) -> None:
        """Starts, and claims these tasks."""
        self.store.reply("claim", claim(*numbers))
        self.start()

    def stop(self) -> FakeService:
        return self.runtime.begin(self.lifetime.stop(self.runtime.now + GRACE))

    def leave(self) -> bool:
        return self.runtime.call(self.lifetime.leave(time.monotonic()))

    def die(self) -> None:
        """Other pools take it for dead, and its heart hears of it."""
        self.store.made_heart.gone.add(self.lifetime.id)
        self.runtime.advance(1.0)


@pytest.fixture
def pool(runtime: FakeRuntime) -> Pool:
    return Pool(runtime)


# The start ------------------------------------------------------------------------------------------------------------


def test_it_is_registered_and_has_its_lock_before_it_claims(pool: Pool) -> None:
    pool.runtime.call(pool.lifetime.register())
    assert pool.store.calls == [("register", pool.lifetime.id), ("beat", pool.lifetime.id, False)]
    assert pool.runtime.serving == ["fang-heartbeat"]
    pool.runtime.call(pool.lifetime.start())
    pool.runtime.settle()
    assert pool.store.verbs[:5] == ["register", "beat", "declare", "workers started", "claim"]
    assert pool.runtime.serving == ["fang-heartbeat", *SERVICES]


def test_a_pool_that_cannot_be_registered_has_no_heart(pool: Pool) -> None:
    pool.store.fail("register", AWAY)
    with pytest.raises(BackendUnavailable):
        pool.runtime.call(pool.lifetime.register())
    pool.runtime.call(pool.lifetime.close())
    pool.runtime.advance(5.0)
    assert pool.store.verbs == ["register", "close"]


@pytest.mark.parametrize("answers", [True, False])
def test_a_pool_whose_heart_cannot_start_is_not_left_registered(pool: Pool, answers: bool) -> None:
    pool.runtime.refused = "fang-heartbeat"
    if not answers:
        pool.store.fail("unregister", AWAY)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.runtime.call(pool.lifetime.register())
    assert pool.store.verbs == ["register", "unregister"]


# The stop -------------------------------------------------------------------------------------------------------------


def test_a_stop_waits_for_the_claim_that_is_under_way_before_it_stops_the_workers(pool: Pool) -> None:
    answers = pool.runtime.event()
    pool.store.reply("claim", answers, claim(1, 2))
    pool.start()
    stopping = pool.stop()
    assert ("beat", pool.lifetime.id, True) in pool.store.calls  # other pools know at once
    assert "workers stopped" not in pool.store.verbs
    answers.set()
    pool.runtime.settle()
    assert stopping.result == 0
    assert pool.store.called("complete") == [("complete", pool.lifetime.id, [1, 2])]
    assert pool.workers.runs == []


def test_a_stop_gives_back_what_waits_and_writes_what_runs(pool: Pool) -> None:
    pool.start_with(1, 2)
    pool.workers.take()
    stopping = pool.stop()
    assert pool.store.called("complete") == [("complete", pool.lifetime.id, [2])]
    pool.runtime.advance(GRACE / 2)
    assert not stopping.has_ended
    pool.workers.end_all()
    assert stopping.result == 0
    assert pool.store.called("complete")[1:] == [("complete", pool.lifetime.id, [1])]
    assert pool.store.called("claim", "unregister") == [("claim", pool.lifetime.id)]
    assert pool.runtime.serving == ["fang-heartbeat", "fang-completer", "fang-recorder", "fang-live"]


def test_a_stop_returns_when_outcomes_are_written_though_there_is_no_time_left(pool: Pool) -> None:
    answers = pool.runtime.event()
    pool.store.reply("complete", answers)
    pool.start_with(1)
    pool.workers.take()
    pool.workers.end_all()
    stopping = pool.runtime.begin(pool.lifetime.stop(pool.runtime.now))
    assert not stopping.has_ended
    answers.set()
    pool.runtime.settle()
    assert stopping.result == 0


def test_runs_that_do_not_end_in_time_are_counted_and_their_outcomes_written_later(pool: Pool) -> None:
    pool.start_with(1)
    pool.workers.take()
    stopping = pool.stop()
    pool.runtime.advance(GRACE + FLUSHING)
    assert stopping.result == 1
    pool.store.calls.clear()
    pool.runtime.advance(5.0)
    assert set(pool.store.calls) == {("beat", pool.lifetime.id, True)}  # it lives, and holds its task
    pool.store.calls.clear()
    pool.workers.end_all()
    assert pool.leave()
    verbs = pool.store.verbs
    assert [verb for verb in verbs if verb != "flush_stats"] == [
        "complete",
        "reconcile",
        "unregister",
        "close",
        "heart closed",
    ]
    assert 0 < verbs.index("flush_stats") < verbs.index("close")  # beside what deregisters the pool


def test_a_stop_ends_drains(pool: Pool) -> None:
    pool.start_with(1)
    pool.workers.ended_runs = 7
    pool.workers.take()
    draining = pool.runtime.begin(pool.lifetime.drain(before=7))
    pool.runtime.advance(5.0)
    assert not draining.has_ended
    stopping = pool.stop()
    pool.workers.end_all()
    assert stopping.has_ended
    assert draining.result == 1


# The end --------------------------------------------------------------------------------------------------------------


def test_it_deregisters_when_all_is_written_and_keeps_its_lock_until_the_last(pool: Pool) -> None:
    pool.start()
    assert pool.stop().result == 0
    pool.store.calls.clear()
    assert pool.leave()
    pool_id = pool.lifetime.id
    assert pool.store.calls == [("reconcile", pool_id, []), ("unregister", pool_id), ("close",), ("heart closed",)]
    assert pool.runtime.serving == []


def test_a_pool_that_still_holds_a_task_stays_registered(pool: Pool) -> None:
    pool.start_with(1)
    locked = RowsLocked("locked", locked=[UUID(int=101)])
    pool.store.fail("complete", locked, times=1_000)
    pool.workers.take()
    pool.workers.end_all()
    stopping = pool.stop()
    pool.runtime.advance(GRACE)
    assert stopping.result == 0
    leaving = pool.runtime.begin(pool.lifetime.leave(time.monotonic()))
    pool.runtime.advance(FLUSHING)
    assert leaving.result is False
    assert pool.store.called("reconcile", "unregister") == [("reconcile", pool.lifetime.id, [1])]
    assert pool.store.verbs[-2:] == ["close", "heart closed"]


@pytest.mark.parametrize("verb", ["reconcile", "unregister"])
def test_a_deregistration_that_fails_is_told(pool: Pool, caplog: pytest.LogCaptureFixture, verb: str) -> None:
    pool.start()
    assert pool.stop().result == 0
    pool.store.fail(verb, AWAY)
    assert not pool.leave()
    assert [record.args for record in caplog.records if "could not deregister" in record.msg] == [
        (pool.lifetime.id, AWAY)
    ]
    assert pool.store.verbs[-2:] == ["close", "heart closed"]
    assert not pool.leave()  # and still so when it is asked again


def test_whatever_the_backend_raises_everything_is_closed(pool: Pool) -> None:
    pool.start()
    assert pool.stop().result == 0
    pool.store.fail("unregister", ValueError("nobody expected this"))
    with pytest.raises(ValueError, match="nobody expected this"):
        pool.leave()
    assert pool.store.verbs[-2:] == ["close", "heart closed"]
    assert not pool.leave()


def test_the_heart_is_closed_even_if_the_store_is_not(pool: Pool) -> None:
    pool.start()
    assert pool.stop().result == 0
    pool.store.fail("close", AWAY)
    with pytest.raises(BackendUnavailable):
        pool.leave()
    assert pool.store.verbs[-2:] == ["close", "heart closed"]


@pytest.mark.parametrize(
    ("verb", "rest"),
    [
        ("reconcile", ["reconcile", "unregister", "close", "heart closed"]),
        ("unregister", ["reconcile", "unregister", "close", "heart closed"]),
        ("close", ["close"]),
    ],
)
def test_it_goes_on_where_its_end_was_interrupted(pool: Pool, verb: str, rest: list[str]) -> None:
    pool.start()
    assert pool.stop().result == 0
    pool.store.fail(verb, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pool.leave()
    pool.runtime.settle()
    pool.store.calls.clear()
    assert pool.leave()
    assert pool.store.verbs == rest


# A pool that is taken for dead ----------------------------------------------------------------------------------------


def test_it_goes_on_under_another_id(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    pool.start_with(1, 2)
    run = pool.workers.take()
    former = pool.lifetime.id
    pool.store.calls.clear()
    pool.die()
    successor = pool.lifetime.id
    assert successor != former
    # What a lost claim took under the former id goes back before anything can be claimed under the new one.
    assert pool.store.called("reconcile", "register") == [("reconcile", former, []), ("register", successor)]
    assert {call[1] for call in pool.store.called("claim")} == {successor}
    assert pool.heard.died == [(former, successor)]
    assert [record.args for record in caplog.records if record.levelname == "WARNING"] == [(former, successor)]

    assert run.is_lost
    assert ("runs interrupted", Interrupt.LOST) in pool.store.calls
    assert pool.workers.runs == []
    assert [call[2] for call in pool.store.called("complete")] == [[2]]

    pool.store.calls.clear()
    pool.workers.end_all()
    pool.runtime.advance(1.0)
    assert pool.store.called("complete", "beat") == [("complete", successor, [1]), ("beat", successor, False)]


def test_it_keeps_its_id_until_it_could_register_under_another_one(pool: Pool) -> None:
    pool.start()
    former = pool.lifetime.id
    pool.store.calls.clear()
    pool.store.fail("register", AWAY)
    pool.die()
    assert pool.lifetime.id == former
    assert pool.heard.died == []
    pool.runtime.advance(5.0)
    assert [successor for _, successor in pool.heard.died] == [pool.lifetime.id]
    assert pool.lifetime.id != former


def test_a_stopping_pool_does_not_rejoin(pool: Pool) -> None:
    pool.start_with(1)
    run = pool.workers.take()
    former = pool.lifetime.id
    stopping = pool.stop()
    assert not run.is_lost
    pool.die()
    assert run.is_lost
    assert ("runs interrupted", Interrupt.LOST) in pool.store.calls
    pool.workers.end_all()
    assert stopping.result == 0
    assert pool.leave()
    assert pool.store.called("register", "unregister") == [("register", former), ("unregister", former)]
    assert pool.heard.died == []
