"""Runs in threads are interrupted: none is missed, none is mistaken for another, and every worker goes on."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from fang_core import (
    ClaimedTask,
    Interrupt,
    Interrupted,
    Runnable,
    Snooze,
    TaskConfig,
    TimedOut,
    current_run,
    uninterruptible,
)
from fang_core.config import PoolOptions
from fang_core.driving import drive
from fang_core.events import EventBus
from fang_core.lifecycle import Cancelled, Failure, Result, Snoozed, Success
from fang_core.pool.identity import PoolIdentity
from fang_core.runs.interrupt import INTERRUPTED
from fang_core.runs.run import Run
from fang_threaded import interrupting
from fang_threaded.workers import ThreadWorkers
from tests.modes import eventually
from tests.patience import PATIENT
from tests.threaded.interrupts import NOW, interrupt

# The second interruption of a run may come while the source that a traceback shows is read: that file is closed late.
CLOSED_LATE = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@CLOSED_LATE
def test_a_thousand_interruptions_hit_their_runs_and_nothing_else() -> None:
    assert interrupt(1_000)["not struck"] > 0


@CLOSED_LATE
@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_hundred_thousand_interruptions_hit_their_runs_and_nothing_else() -> None:
    assert interrupt(100_000)["not struck"] > 0


# One at a time --------------------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)
DOES: dict[str, Callable[[], None]] = {}


class Does(Runnable):
    task_config = TaskConfig(kind="interrupting.Does")
    deed: int = 0

    def run(self, queue: Any) -> None:
        DOES["act"]()


class Scene:
    """One worker that runs what the test says, and tells its results."""

    def __init__(self) -> None:
        self.results: list[Result | None] = []
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.seen: list[Any] = []
        DOES["act"] = self.waits
        kinds: Any = SimpleNamespace(class_of=lambda _: Does)
        self.workers = ThreadWorkers(kinds, None, PoolOptions(), identity=PoolIdentity(), events=EventBus(()))
        self.workers.start(
            on_taken=lambda _: None,
            on_ended=lambda run, result, _: self.results.append(result),
            is_over=lambda: True,
            on_fewer=lambda: None,
            held=lambda: 0,
            on_too_many_stuck=lambda: None,
        )

    def begin(self, act: Callable[[], None] | None = None, timeout: timedelta | None = None) -> Run:
        DOES["act"] = act or self.waits
        self.begun.clear()
        task = ClaimedTask(uuid4(), "any", "{}", 1, 0, 20, 0, "common", 0, NOW, timeout=timeout)
        run = Run(task, uuid4())
        self.workers.put([run])
        assert self.begun.wait(PATIENT)
        return run

    def waits(self) -> None:
        self.begun.set()
        while not self.may_end.is_set():
            time.sleep(0.001)

    def ended(self, count: int = 1) -> list[Result | None]:
        eventually(lambda: len(self.results) == count)
        return self.results


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.may_end.set()
    assert drive(scene.workers.stop(time.monotonic() + 10)) == 0


def test_a_run_is_interrupted_once_there_is_a_thread_for_it_though_nothing_else_asks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start
    has_room = threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "fang-interrupter" and not has_room.is_set():
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    scene.begin(timeout=timedelta(milliseconds=1))
    for _ in range(3):
        scene.workers.look()
    assert scene.results == []
    has_room.set()
    scene.workers.look()
    (result,) = scene.ended()
    assert isinstance(result, Failure)
    assert isinstance(result.exception, TimedOut)
    assert [record.getMessage() for record in caplog.records] == [
        "runs cannot be interrupted until there is a thread for that: can't start new thread",
        "runs can be interrupted again",
    ]


def test_a_run_knows_why_it_was_interrupted(scene: Scene) -> None:
    def act() -> None:
        try:
            scene.waits()
        except Interrupted as interrupted:
            run = current_run()
            scene.seen += [interrupted.why, run.interrupt, run.interrupt_reason, str(interrupted)]
            raise

    run = scene.begin(act)
    assert scene.workers.interrupt(run, Interrupt.CANCELLED, "not needed")
    assert scene.ended() == [Cancelled("not needed")]
    assert scene.seen == [Interrupt.CANCELLED, Interrupt.CANCELLED, "not needed", "the run was interrupted (cancelled)"]


def test_a_run_is_interrupted_once_and_its_answer_counts(scene: Scene) -> None:
    def act() -> None:
        with suppress(Interrupted):
            scene.waits()
        scene.begun.set()
        scene.waits()

    run = scene.begin(act)
    scene.begun.clear()
    assert scene.workers.interrupt(run, Interrupt.CANCELLED)
    assert scene.begun.wait(PATIENT)
    assert not scene.workers.interrupt(run, Interrupt.CANCELLED)
    assert not scene.workers.interrupt(run, Interrupt.TIME_LIMIT)
    scene.may_end.set()
    assert scene.ended() == [Success()]
    assert run.interrupt is Interrupt.CANCELLED


def test_a_run_that_went_on_is_interrupted_once_more_for_each_higher_reason(scene: Scene) -> None:
    def act() -> None:
        for _ in range(2):
            with suppress(Interrupted):
                scene.waits()
            scene.seen.append(current_run().interrupt)
        scene.waits()

    run = scene.begin(act)
    for turn, why in enumerate((Interrupt.TIME_LIMIT, Interrupt.CANCELLED, Interrupt.LOST)):
        eventually(lambda turn=turn: len(scene.seen) == turn)
        assert scene.workers.interrupt(run, why, "not needed")
    assert scene.ended() == [Cancelled("not needed")]
    assert scene.seen == [Interrupt.TIME_LIMIT, Interrupt.CANCELLED]
    scene.begin(scene.begun.set)
    assert scene.ended(2)[1] == Success()


def test_what_is_held_back_strikes_once_for_the_highest_reason(scene: Scene) -> None:
    def act() -> None:
        try:
            with uninterruptible():
                scene.waits()
        except Interrupted as interrupted:
            scene.seen.append(interrupted.why)
        spin()

    run = scene.begin(act)
    for why in (Interrupt.TIME_LIMIT, Interrupt.LOST):
        assert scene.workers.interrupt(run, why)
        eventually(lambda why=why: run.interrupt is why)
    scene.may_end.set()
    assert scene.ended() == [Success()]
    assert scene.seen == [Interrupt.LOST]


def test_a_run_is_interrupted_though_a_tool_wraps_what_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Error trackers and tracers do, to hand their context on."""
    of_threads = threading.Thread.run

    def wrapped(thread: threading.Thread) -> None:
        of_threads(thread)

    monkeypatch.setattr(threading.Thread, "run", wrapped)
    scene = Scene()
    run = scene.begin()
    assert scene.workers.interrupt(run, Interrupt.CANCELLED)
    assert scene.ended() == [Cancelled("")]
    assert drive(scene.workers.stop(time.monotonic() + 10)) == 0


def test_what_has_ended_is_not_interrupted_and_nor_is_its_successor(scene: Scene) -> None:
    former = scene.begin(scene.begun.set)
    scene.ended()
    run = scene.begin()
    assert not scene.workers.interrupt(former, Interrupt.CANCELLED)
    scene.may_end.set()
    assert scene.ended(2) == [Success(), Success()]
    assert run.interrupt is None


def test_threads_are_not_interrupted_for_a_shutdown(scene: Scene) -> None:
    run = scene.begin()
    assert not scene.workers.interrupt(run, Interrupt.SHUTDOWN)
    scene.may_end.set()
    assert scene.ended() == [Success()]


def test_an_interruption_is_held_back_until_the_outermost_block_ends(scene: Scene) -> None:
    def act() -> None:
        with uninterruptible():
            with uninterruptible():
                scene.waits()
            scene.seen.append("inner")
            spin()
            scene.seen.append("outer")
        scene.seen.append("never")

    run = scene.begin(act)
    assert scene.workers.interrupt(run, Interrupt.CANCELLED)
    eventually(lambda: run.interrupt is Interrupt.CANCELLED)
    scene.may_end.set()
    assert scene.ended() == [Cancelled("")]
    assert scene.seen == ["inner", "outer"]


def test_a_block_that_is_not_interrupted_changes_nothing(scene: Scene) -> None:
    def act() -> None:
        for _ in range(3):
            with uninterruptible():
                spin()
        scene.waits()

    run = scene.begin(act)
    assert run.held_back == 0
    scene.workers.interrupt(run, Interrupt.CANCELLED)
    assert scene.ended() == [Cancelled("")]


def test_a_block_in_a_thread_that_the_run_has_started_holds_nothing_back(scene: Scene) -> None:
    def other() -> None:
        with uninterruptible():
            scene.waits()

    def act() -> None:
        context = copy_context()
        thread = threading.Thread(target=context.run, args=(other,))
        thread.start()
        assert scene.begun.wait(PATIENT)
        while True:
            spin()

    run = scene.begin(act)
    scene.workers.interrupt(run, Interrupt.CANCELLED)
    assert scene.ended() == [Cancelled("")]


def test_what_a_run_answers_in_a_block_counts(scene: Scene) -> None:
    def act() -> None:
        with uninterruptible():
            scene.waits()
            raise Snooze(HOUR)

    run = scene.begin(act)
    assert scene.workers.interrupt(run, Interrupt.LOST)
    eventually(lambda: run.interrupt is Interrupt.LOST)
    scene.may_end.set()
    assert scene.ended() == [Snoozed(HOUR)]


def test_a_run_that_goes_on_after_a_block_that_raised_is_struck_then(scene: Scene) -> None:
    def act() -> None:
        with suppress(OSError), uninterruptible():
            scene.waits()
            raise OSError
        scene.seen.append("goes on")
        while True:
            spin()

    run = scene.begin(act)
    assert scene.workers.interrupt(run, Interrupt.CANCELLED)
    eventually(lambda: run.interrupt is Interrupt.CANCELLED)
    scene.may_end.set()
    assert scene.ended() == [Cancelled("")]
    assert scene.seen == ["goes on"]


def test_one_manager_may_be_used_for_several_blocks_also_one_inside_of_the_other(scene: Scene) -> None:
    whole = uninterruptible()

    def act() -> None:
        with whole, whole:
            spin()
        scene.begun.set()
        while True:
            spin()

    assert scene.workers.interrupt(scene.begin(act), Interrupt.CANCELLED)
    assert scene.ended() == [Cancelled("")]


def test_outside_of_a_run_a_block_does_nothing() -> None:
    with uninterruptible():
        spin()


def test_what_holds_a_lock_of_logging_is_not_struck(scene: Scene) -> None:
    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            scene.waits()

    handler = Waits()
    logger = logging.Logger("held")
    logger.addHandler(handler)

    def act() -> None:
        logger.warning("a line")
        scene.seen.append("logged")
        while True:
            spin()

    run = scene.begin(act)
    assert scene.workers.interrupt(run, Interrupt.CANCELLED)
    eventually(lambda: run.interrupt is Interrupt.CANCELLED)
    scene.may_end.set()
    assert scene.ended() == [Cancelled("")]
    assert scene.seen == ["logged"]


@pytest.mark.parametrize("module", ["psycopg_pool.pool", "sqlalchemy.pool.base", "sqlalchemy.util.queue", "weakref"])
def test_what_lends_connections_or_swallows_exceptions_is_not_struck(scene: Scene, module: str) -> None:
    there = {"__name__": module}
    exec("def wait(until):\n    return until()", there)

    def act() -> None:
        there["wait"](scene.waits)
        scene.seen.append("left")
        while True:
            spin()

    run = scene.begin(act)
    assert scene.workers.interrupt(run, Interrupt.CANCELLED)
    eventually(lambda: run.interrupt is Interrupt.CANCELLED)
    scene.may_end.set()
    assert scene.ended() == [Cancelled("")]
    assert scene.seen == ["left"]


def test_callbacks_of_the_garbage_collector_are_not_struck(scene: Scene) -> None:
    def callback(phase: str, info: Any) -> None:
        if phase == "start" and not scene.begun.is_set():
            scene.waits()

    def act() -> None:
        gc.callbacks.append(callback)
        gc.collect()
        gc.callbacks.remove(callback)
        scene.seen.append("left")
        until = time.monotonic() + 10.0
        while time.monotonic() < until:  # it ends by itself if the interruption was swallowed
            spin()

    run = scene.begin(act)
    assert scene.workers.interrupt(run, Interrupt.CANCELLED)
    eventually(lambda: run.interrupt is Interrupt.CANCELLED)
    scene.may_end.set()
    assert scene.ended() == [Cancelled("")]
    assert scene.seen == ["left"]


def test_a_run_that_ends_while_the_exception_is_on_its_way_waits_and_the_next_one_is_not_struck(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, may_raise = threading.Event(), threading.Event()

    def late(_: Any) -> bool:
        looked.set()
        return may_raise.wait(PATIENT)

    monkeypatch.setattr(interrupting, "_is_in_task", late)
    scene.workers.interrupt(scene.begin(), Interrupt.CANCELLED, "too late")
    assert looked.wait(PATIENT)
    (worker,) = scene.workers._by_number().values()
    scene.may_end.set()
    eventually(lambda: worker.current is None)  # the run has ended, and the worker waits
    assert scene.results == []
    may_raise.set()
    assert scene.ended() in ([Success()], [Cancelled("too late")])
    scene.begin(scene.begun.set)
    assert scene.ended(2)[1] == Success()


def spin() -> None:
    for _ in range(1_000):
        pass


def test_one_that_an_application_raises_can_be_written() -> None:
    assert str(Interrupted()) == "the run was interrupted"
    assert str(INTERRUPTED[Interrupt.CANCELLED]()) == "the run was interrupted (cancelled)"
