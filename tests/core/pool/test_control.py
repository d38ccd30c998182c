"""What a pool does with what its heart brings: about its runs, and about itself."""

import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from fang_core.claims.expiry import ClaimTime
from fang_core.claims.inflight import InFlight
from fang_core.config import RetentionMode
from fang_core.events import EventBus
from fang_core.liveness import Beat, BeatRequest, CancelRequest
from fang_core.logs import LOGGERS
from fang_core.messages import Delivery
from fang_core.pool import control
from fang_core.pool.control import RUNNING_FOR, PoolControl
from fang_core.pool.heartbeat import Heartbeat
from fang_core.pool.identity import PoolIdentity
from fang_core.runs.interrupt import Interrupt
from fang_core.runs.run import Run
from tests.core.pool.fakes import NOW, FakeHeart, FakeRuntime, claim

ME, OTHER = UUID(int=1), UUID(int=2)


class Workers:
    """Note who is interrupted."""

    def __init__(self) -> None:
        self.interrupted: list[tuple[Run, Interrupt, str]] = []
        self.missing = 0
        self.size = 4
        self.looks = 0

    def look(self) -> None:
        self.looks += 1

    def interrupt(self, run: Run, why: Interrupt, reason: str = "") -> bool:
        self.interrupted.append((run, why, reason))
        return True


class NothingHangs:
    """Stands in for ``HungRuns``."""

    def look(self) -> None: ...

    def as_json(self, pool_id: UUID) -> str:
        return "{}"


class Pool:
    """The runs of a pool, and its control."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.in_flight = InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, 4)
        self.workers = Workers()
        self.stops = 0
        self.sizes: list[int] = []
        workers: Any = self.workers
        hung: Any = NothingHangs()
        self.control = PoolControl(
            runtime,
            self.in_flight,
            workers,
            hung,
            on_stop=self.stop,
            on_resize=self.sizes.append,
            on_missing=lambda: None,
        )

    def stop(self) -> None:
        self.stops += 1

    def run(self, number: int, *, pool_id: UUID = ME) -> Run:
        """One that begins now."""
        (run,) = self.in_flight.take(claim(number).tasks, pool_id, ClaimTime(NOW, 0.0)).ready
        run.began = self.runtime.now
        return run

    def tell(self, kind: str, **body: Any) -> None:
        self.control.on_message(Delivery(1, kind, body, "someone"))


@pytest.fixture
def pool(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(control, "time", runtime)
    return Pool(runtime)


@pytest.fixture
def levels() -> Iterator[list[int]]:
    """The levels of the library's loggers, which are set back."""
    former = [logging.getLogger(name).level for name in LOGGERS]
    yield former
    for name, level in zip(LOGGERS, former, strict=True):
        logging.getLogger(name).setLevel(level)


def ends(run: Run) -> None:
    run.over = True


def completes(run: Run) -> None:
    run.completed = True


def is_lost(run: Run) -> None:
    run.is_lost = True


ENDINGS = [ends, completes, is_lost]


# Runs -----------------------------------------------------------------------------------------------------------------


def test_beats_ask_about_runs_that_have_gone_on_for_a_while_or_about_every_one(pool: Pool) -> None:
    first = pool.run(1)
    pool.runtime.advance(RUNNING_FOR)
    second = pool.run(2)
    assert pool.control.held(ME, every=False) == [first]
    assert pool.control.held(ME, every=True) == [first, second]


class Heart(FakeHeart):
    """Reads at the end of a beat, 50 ms after its beginning, which of the runs are to be cancelled."""

    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__([])
        self._runtime = runtime
        self.cancelled: set[UUID] = set()

    async def beat(self, request: BeatRequest, /) -> Beat:
        await self._runtime.wait(self._runtime.event(), 0.05)
        beat = await super().beat(request)
        asked = [CancelRequest(id, "a mistake", "someone") for id, _ in request.held if id in self.cancelled]
        return beat._replace(cancels=asked)


@pytest.mark.parametrize("late", [n / 20 for n in range(20)])
def test_a_run_hears_within_a_second_and_a_bit_of_a_cancel_that_nobody_notifies_of(pool: Pool, late: float) -> None:
    """Also if it has just begun, however soon the next beat comes."""
    heart = Heart(pool.runtime)
    identity, events = PoolIdentity(ME), EventBus(())
    heartbeat = Heartbeat(
        pool.runtime,
        heart,
        identity,
        lease=60,
        max_crashes=3,
        events=events,
        on_declared_dead=lambda _: None,
        control=pool.control,
    )
    pool.runtime.begin(heartbeat.start())
    pool.runtime.advance(5.0 + late)
    run = pool.run(1)
    heart.cancelled.add(run.task.id)
    pool.runtime.advance(1.2)
    assert pool.workers.interrupted[:1] == [(run, Interrupt.CANCELLED, "a mistake")]


def test_the_workers_look_at_each_beat_for_what_is_to_be_tried_again(pool: Pool) -> None:
    pool.control.look()
    pool.control.look()
    assert pool.workers.looks == 2


def test_a_run_that_is_held_under_another_id_is_not_asked_about(pool: Pool) -> None:
    pool.run(1, pool_id=OTHER)
    assert pool.control.held(ME, every=True) == []


def test_a_run_that_waits_is_asked_about_if_something_was_said(pool: Pool) -> None:
    (run,) = pool.in_flight.take(claim(1).tasks, ME, ClaimTime(NOW, 0.0)).ready
    pool.runtime.advance(RUNNING_FOR)
    assert pool.control.held(ME, every=False) == []
    assert pool.control.held(ME, every=True) == [run]


def test_a_run_that_waits_and_is_cancelled_must_not_begin(pool: Pool) -> None:
    (run,) = pool.in_flight.take(claim(1).tasks, ME, ClaimTime(NOW, 0.0)).ready
    pool.control.on_cancel(run, "a mistake", "someone")
    assert (run.cancelled, run.expires, pool.workers.interrupted) == ("a mistake", 0.0, [])


def test_a_run_that_waits_is_not_lost_before_it_begins(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    (run,) = pool.in_flight.take(claim(1).tasks, ME, ClaimTime(NOW, 0.0)).ready
    pool.control.on_lost(run)
    assert (run.is_lost, caplog.records) == (False, [])


@pytest.mark.parametrize("happens", ENDINGS)
def test_a_run_that_can_lose_nothing_is_not_asked_about(pool: Pool, happens: Any) -> None:
    happens(pool.run(1))
    assert pool.control.held(ME, every=True) == []


def test_a_run_whose_task_was_taken_away_is_lost_and_interrupted(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    run = pool.run(1)
    pool.control.on_lost(run)
    pool.control.on_lost(run)
    assert run.is_lost
    assert pool.workers.interrupted == [(run, Interrupt.LOST, "")]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("happens", ENDINGS)
def test_a_row_that_is_gone_because_its_run_ended_meanwhile_loses_nothing(pool: Pool, happens: Any) -> None:
    run = pool.run(1)
    was_asked = pool.control.held(ME, every=True)
    happens(run)
    for each in was_asked:
        pool.control.on_lost(each)
        pool.control.on_cancel(each, "a mistake", "someone")
    assert run.is_lost is (happens is is_lost)
    assert pool.workers.interrupted == []


def test_a_run_of_a_cancelled_task_is_interrupted_with_the_reason(pool: Pool) -> None:
    run = pool.run(1)
    pool.control.on_cancel(run, "a mistake", "someone")
    assert pool.workers.interrupted == [(run, Interrupt.CANCELLED, "a mistake")]
    assert not run.is_lost


# The pool itself ------------------------------------------------------------------------------------------------------


def test_it_stops_as_it_is_told(pool: Pool) -> None:
    pool.tell("stop")
    pool.tell("stop", within=7)  # of a later version
    assert pool.stops == 2


def test_it_takes_the_size_that_it_is_told(pool: Pool) -> None:
    pool.tell("resize", workers=7)
    assert pool.sizes == [7]


def test_it_sets_the_level_of_all_loggers(pool: Pool, levels: list[int]) -> None:
    pool.tell("set_log_level", level="DEBUG")
    assert {logging.getLogger(name).level for name in LOGGERS} == {logging.DEBUG}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("dance", {}),
        ("set_log_level", {"level": "LOUD"}),
        ("set_log_level", {"level": ["DEBUG"]}),
        ("set_log_level", {}),
        ("resize", {"workers": "many"}),
        ("resize", {"workers": True}),
    ],
)
def test_it_ignores_what_it_does_not_know(
    pool: Pool, levels: list[int], caplog: pytest.LogCaptureFixture, kind: str, body: dict[str, Any]
) -> None:
    pool.tell(kind, **body)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert [logging.getLogger(name).level for name in LOGGERS] == levels
    assert pool.stops == 0
    assert pool.sizes == []


def test_a_line_of_the_log_stays_one_whatever_a_message_says_of_itself(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for kind in ("stop", "dance\nERROR\x1b[31m" + 1_000 * "x"):
        pool.control.on_message(Delivery(1, kind, {}, "someone\nERROR\x1b[31m" + 1_000 * "x"))
    assert len(caplog.messages) == 2
    assert all(line.isprintable() and len(line) < 600 for line in caplog.messages)
