"""What both modes' pools do between start and stop, without a backend: refusals, failures, and interruptions."""

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import pytest

from fang_core import BackendUnavailable, UsageError
from fang_core.events import Events
from fang_core.messages import Delivery
from fang_core.pool.base import PoolBase
from fang_core.pool.lifetime import FLUSHING, PoolLifetime
from fang_core.pool.signals import StopSignals
from fang_core.pool.workers import MakeWorkers
from fang_core.runs.isolation import Isolation
from tests.core.pool.fakes import FakeLock, FakeQueue, FakeRuntime, FakeService, FakeWorkers, FullStore, claim

AWAY = BackendUnavailable("away")
GRACE = 20.0
STOP = Delivery(1, "stop", {}, "someone")


class Heard(Events):
    def __init__(self) -> None:
        self.said: list[str] = []

    def pool_started(self, pool_id: UUID) -> None:
        self.said.append("started")

    def pool_stopped(self, pool_id: UUID) -> None:
        self.said.append("stopped")


class Pool(PoolBase[Any]):
    """A pool of a mode that a test drives."""

    _make_workers: ClassVar[MakeWorkers] = FakeWorkers

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.heard = Heard()
        super().__init__(FakeQueue(runtime), grace_period=timedelta(seconds=GRACE), events=[self.heard])
        self.store: FullStore = self.queue.full_store

    def _set_up(self, queue: Any) -> None: ...

    def _make_lock(self) -> FakeLock:
        return FakeLock(self.runtime)

    def _make_runtime(self) -> FakeRuntime:
        return self.runtime

    async def _open_store(self) -> FullStore:
        return self.store

    def _make_isolation(self) -> Isolation:
        raise AssertionError("no task is isolated")

    def _make_signals(self) -> StopSignals:
        raise AssertionError("run() belongs to the modes")

    async def _call_start(self) -> None:
        await self._start()

    async def _call_stop(self) -> int:
        return await self._stop()

    # What a test calls ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.runtime.call(self._start())

    def start_with(self, *numbers: int) -> None:
        """Starts, and claims these tasks."""
        self.store.reply("claim", claim(*numbers))
        self.start()

    def stop(self) -> FakeService:
        return self.runtime.begin(self._stop())

    @property
    def workers(self) -> Any:
        assert self._lifetime is not None
        return self._lifetime.workers


@pytest.fixture
def pool(runtime: FakeRuntime) -> Pool:
    return Pool(runtime)


def check_that_nothing_is_left(pool: Pool) -> None:
    assert pool.runtime.serving == []
    assert ("unregister", pool.id) in pool.store.calls
    ends = [call[0] for call in pool.store.called("register", "close", "heart closed")]
    assert ends.index("close") < ends.index("heart closed")  # the lock goes last
    assert ends.count("heart closed") == ends.count("register")
    assert pool.is_clean


def check_that_it_can_start_again(pool: Pool) -> None:
    pool.start()
    assert not pool.is_clean
    assert pool.stop().result == 0
    check_that_nothing_is_left(pool)


def test_it_starts_and_stops_and_starts_again_under_another_id(pool: Pool) -> None:
    assert pool.id is None
    pool.start()
    first = pool.id
    assert pool.stop().result == 0
    check_that_nothing_is_left(pool)
    check_that_it_can_start_again(pool)
    assert pool.store.called("register") == [("register", first), ("register", pool.id)]
    assert first != pool.id
    assert pool.heard.said == ["started", "stopped"] * 2


def test_a_pool_that_runs_cannot_be_started(pool: Pool) -> None:
    pool.start()
    with pytest.raises(UsageError, match="running already"):
        pool.start()
    assert len(pool.store.called("register")) == 1
    assert pool.stop().result == 0


def test_a_stop_of_a_pool_that_does_not_run_does_nothing_but_wake(pool: Pool) -> None:
    woken: list[int] = []
    pool.on_stop(lambda: woken.append(1))
    assert pool.stop().result == 0
    assert woken == [1]
    assert pool.store.calls == []
    assert pool.heard.said == []


# What other processes tell it -----------------------------------------------------------------------------------------


def test_it_stops_when_it_is_told(pool: Pool) -> None:
    woken: list[int] = []
    pool.on_stop(lambda: woken.append(1))
    pool.start()
    pool.store.made_heart.messages = [STOP]
    pool.runtime.advance(1.0)
    assert woken == [1]
    check_that_nothing_is_left(pool)
    pool.store.made_heart.messages = []
    check_that_it_can_start_again(pool)


def test_told_to_stop_while_it_starts_it_stops_once_it_has_started(pool: Pool) -> None:
    pool.store.made_heart.messages = [STOP]
    pool.start()
    pool.runtime.settle()
    check_that_nothing_is_left(pool)
    assert pool.heard.said == ["started", "stopped"]


def test_that_it_could_not_stop_as_it_was_told_is_logged(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    pool.start()
    pool.store.fail("close", ValueError("nobody expected this"))
    pool.store.made_heart.messages = [STOP]
    pool.runtime.advance(1.0)
    assert "told to stop" in caplog.text
    assert "nobody expected this" in caplog.text


# A start that fails ---------------------------------------------------------------------------------------------------


def test_a_pool_that_cannot_be_registered_closes_its_store(pool: Pool) -> None:
    pool.store.fail("register", AWAY)
    with pytest.raises(BackendUnavailable):
        pool.start()
    assert pool.store.verbs == ["register", "close"]
    assert pool.runtime.serving == []
    assert pool.is_clean
    assert pool.stop().result == 0


def test_a_pool_whose_heart_cannot_start_leaves_no_record(pool: Pool) -> None:
    pool.runtime.refused = "fang-heartbeat"
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.start()
    assert pool.store.verbs == ["register", "unregister", "close"]


@pytest.mark.parametrize("refused", ["fang-completer", "fang-maintenance", "fang-ticker", "fang-claimer"])
def test_all_services_start_or_none_stays(pool: Pool, refused: str) -> None:
    pool.runtime.refused = refused
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.start()
    check_that_nothing_is_left(pool)
    assert pool.heard.said == []
    pool.runtime.refused = None
    check_that_it_can_start_again(pool)


def test_a_start_that_fails_and_cannot_deregister_is_not_clean(pool: Pool) -> None:
    pool.runtime.refused = "fang-claimer"
    pool.store.fail("unregister", AWAY)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.start()
    assert pool.runtime.serving == []
    assert not pool.is_clean


# Interruptions --------------------------------------------------------------------------------------------------------


def interrupt_start(pool: Pool, patch: pytest.MonkeyPatch, *, after_a_run_began: bool = False) -> None:
    """Starts the pool, and interrupts that when all services have started."""
    start = PoolLifetime.start

    async def interrupted(lifetime: PoolLifetime) -> None:
        await start(lifetime)
        while after_a_run_began and not lifetime.workers.backlog:
            await pool.runtime.yield_now()
        if after_a_run_began:
            pool.workers.take()
        raise KeyboardInterrupt

    with patch.context() as context:
        context.setattr(PoolLifetime, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.start()


def test_a_start_that_is_interrupted_at_its_end_leaves_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_start(pool, monkeypatch)
    check_that_nothing_is_left(pool)
    assert pool.heard.said == []
    check_that_it_can_start_again(pool)


def test_runs_that_an_interrupted_start_has_begun_are_kept_alive_until_they_end(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.store.reply("claim", claim(1))
    interrupt_start(pool, monkeypatch, after_a_run_began=True)
    pool.runtime.advance(GRACE)
    assert pool.store.calls[-1] == ("beat", pool.id, True)
    with pytest.raises(UsageError, match="runs of its last life have not ended"):
        pool.start()
    pool.workers.end_all()
    assert pool.store.called("complete") == [("complete", pool.id, [1])]
    check_that_nothing_is_left(pool)


def test_a_start_that_is_interrupted_twice_ends_in_the_background(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.store.fail("reconcile", KeyboardInterrupt())
    interrupt_start(pool, monkeypatch)
    pool.runtime.settle()
    check_that_nothing_is_left(pool)
    check_that_it_can_start_again(pool)


def test_a_stop_that_is_interrupted_goes_on_in_the_background(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(_: float) -> int:
        raise KeyboardInterrupt

    pool.start_with(1, 2)
    pool.workers.take()
    with monkeypatch.context() as patch:
        patch.setattr(pool.workers, "stop", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.stop()
    pool.runtime.settle()
    assert "workers stopped" in pool.store.verbs
    assert pool.stop().result == 0  # there is nothing more to stop
    with pytest.raises(UsageError, match="runs of its last life have not ended"):
        pool.start()
    pool.workers.end_all()
    assert sorted(call[2] for call in pool.store.called("complete")) == [[1], [2]]
    check_that_nothing_is_left(pool)
    check_that_it_can_start_again(pool)


@pytest.mark.parametrize("verb", ["reconcile", "unregister", "close"])
def test_a_stop_that_is_interrupted_while_it_deregisters_goes_on_in_the_background(pool: Pool, verb: str) -> None:
    pool.start()
    pool.store.fail(verb, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pool.stop()
    pool.runtime.settle()
    check_that_nothing_is_left(pool)
    check_that_it_can_start_again(pool)


# Runs that go on ------------------------------------------------------------------------------------------------------


def test_runs_that_a_stop_leaves_are_kept_alive_until_they_end(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    pool.start_with(1)
    pool.workers.take()
    stopping = pool.stop()
    pool.runtime.advance(GRACE + FLUSHING)
    assert stopping.result == 1
    assert pool.heard.said == ["started", "stopped"]
    assert [record.args for record in caplog.records if "runs not ended" in record.msg] == [(pool.id, 1)]
    with pytest.raises(UsageError, match="runs of its last life have not ended"):
        pool.start()
    assert not pool.is_clean
    pool.workers.end_all()
    check_that_nothing_is_left(pool)
    check_that_it_can_start_again(pool)


def test_a_run_that_asks_for_the_stop_that_waits_for_it_goes_on(pool: Pool) -> None:
    pool.start_with(1)
    pool.workers.take()
    stopping = pool.stop()
    pool.workers.is_called_by_run = True
    assert pool.stop().result == 0
    assert not stopping.has_ended
    pool.workers.end_all()
    assert stopping.result == 0
    check_that_nothing_is_left(pool)


def test_a_run_may_stop_its_pool(pool: Pool) -> None:
    pool.start_with(1)
    pool.workers.take()
    pool.workers.is_called_by_run = True
    stopping = pool.stop()
    assert "workers stopped" in pool.store.verbs
    pool.workers.end_all()
    assert stopping.result == 0


# Drains ---------------------------------------------------------------------------------------------------------------


def test_a_drain_starts_the_pool_and_stops_it(pool: Pool) -> None:
    pool.store.reply("claim", claim(1, 2))
    draining = pool.runtime.begin(pool._drain())
    for _ in range(2):
        assert not draining.has_ended
        pool.workers.take()
        pool.workers.end_all()
    assert draining.result == 2
    check_that_nothing_is_left(pool)


def test_a_drain_of_a_pool_that_runs_counts_from_then_on_and_leaves_it_running(pool: Pool) -> None:
    pool.start_with(1)
    pool.workers.take()
    pool.workers.end_all()
    pool.store.reply("claim", claim(2))
    draining = pool.runtime.begin(pool._drain())
    pool.workers.take()
    pool.workers.end_all()
    assert draining.result == 1
    assert "fang-claimer" in pool.runtime.serving
    assert pool.stop().result == 0
