"""What users see of time limits and of interrupted runs, in both modes."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final
from uuid import UUID

import pytest

from fang_core import (
    AsyncRunnable,
    Cancelled,
    ClaimedTask,
    Constant,
    Events,
    Failure,
    Interrupt,
    Interrupted,
    Lease,
    Result,
    RetentionMode,
    Runnable,
    Snooze,
    Task,
    TaskConfig,
    TaskState,
    TimedOut,
    current_run,
    uninterruptible,
)
from fang_core.backends.memory.state import MemoryState
from fang_core.config import EXIT_STUCK
from fang_core.lifecycle import NOT_RUN
from tests.modes import Harness, eventually
from tests.patience import PATIENT

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = timedelta(milliseconds=200)
SOON: Final = timedelta(milliseconds=300)
HOUR: Final = timedelta(hours=1)
SEEN: Final[SimpleQueue[Any]] = SimpleQueue()
MAY_END: Final = threading.Event()
CONFIG: Final = {"timeout": LIMIT, "backoff": Constant(delay=HOUR, jitter=0)}
CUT: Final = (Interrupted, asyncio.CancelledError)


def waits() -> None:
    while not MAY_END.is_set():
        time.sleep(0.005)


async def waits_async() -> None:
    while not MAY_END.is_set():  # noqa: ASYNC110 - the test sets it, on another thread
        await asyncio.sleep(0.005)


class ThreadedLimited(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedLimited", **CONFIG)
    does: str = "waits"

    def run(self, queue: Any) -> None:
        SEEN.put("begun")
        match self.does:
            case "waits":
                waits()
            case "ends":
                pass
            case "swallows":
                with suppress(Interrupted):
                    waits()
                SEEN.put(current_run().interrupt)
            case "falls back":
                with suppress(Interrupted):
                    waits()
                SEEN.put(current_run().interrupt)
                waits()
                SEEN.put("never")
            case "snoozes":
                try:
                    waits()
                except Interrupted:
                    raise Snooze(2 * HOUR) from None
            case "is shielded":
                with uninterruptible():
                    waits()
                    SEEN.put("block ended")
                waits()
                SEEN.put("never")
            case "goes on":
                for _ in range(2):
                    with suppress(Interrupted):
                        waits()
                SEEN.put(current_run().lease)


class AsyncLimited(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncLimited", **CONFIG)
    does: str = "waits"

    async def run(self, queue: Any) -> None:
        SEEN.put("begun")
        match self.does:
            case "waits":
                await waits_async()
            case "ends":
                pass
            case "swallows":
                with suppress(asyncio.CancelledError):
                    await waits_async()
                SEEN.put(current_run().interrupt)
            case "falls back":
                with suppress(asyncio.CancelledError):
                    await waits_async()
                SEEN.put(current_run().interrupt)
                await waits_async()
                SEEN.put("never")
            case "snoozes":
                try:
                    await waits_async()
                except asyncio.CancelledError:
                    raise Snooze(2 * HOUR) from None
            case "is shielded":
                with uninterruptible():
                    await waits_async()
                    SEEN.put("block ended")
                await asyncio.sleep(0)
                SEEN.put("never")
            case "goes on":
                for _ in range(2):
                    with suppress(asyncio.CancelledError):
                        await waits_async()
                SEEN.put(current_run().lease)


class Told(Events):
    def __init__(self) -> None:
        self.results: SimpleQueue[Result] = SimpleQueue()
        self.stuck: SimpleQueue[tuple[UUID, str | None]] = SimpleQueue()

    def run_ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        self.results.put(result)

    def run_stuck(self, pool_id: UUID, task: ClaimedTask, place: str | None) -> None:
        self.stuck.put((task.id, place))


class Scene:
    """A pool of one worker, in memory."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.queue = harness.memory_queue(MemoryState())
        self.events = Told()
        self.task: Any = ThreadedLimited if harness.mode == "threaded" else AsyncLimited

    def start(self, **options: Any) -> None:
        self.pool = self.harness.pool(
            self.queue,
            poll=timedelta(milliseconds=20),
            events=[self.events],
            retention_mode=RetentionMode.KEEP_ALL,
            **options,
        )

    def insert(self, does: str = "waits", **options: Any) -> UUID:
        inserted: Task = self.harness.call(self.queue.insert_task, self.task(does=does), **options)
        return inserted.id

    def row(self, task_id: UUID) -> Task:
        row: Task = self.harness.call(self.queue.find_task_by_id, task_id)
        return row

    def written(self, task_id: UUID, state: TaskState) -> Task:
        eventually(lambda: self.row(task_id).state is state)
        return self.row(task_id)

    @property
    def stuck(self) -> int:
        stuck: int = self.pool._lifetime.workers.stuck
        return stuck

    def interrupt(self, why: Interrupt, reason: str = "") -> None:
        """Interrupts the run that is under way."""
        lifetime = self.pool._lifetime
        (run,) = lifetime.in_flight._runs.values()
        lifetime.runtime.call_soon(lambda: lifetime.workers.interrupt(run, why, reason))


@pytest.fixture
def scene(harness: Harness) -> Iterator[Scene]:
    MAY_END.clear()
    while not SEEN.empty():
        SEEN.get()
    yield Scene(harness)
    MAY_END.set()


def test_a_run_that_takes_too_long_has_failed_as_timed_out_and_is_retried(scene: Scene) -> None:
    scene.start()
    task = scene.insert()
    row = scene.written(task, TaskState.RETRIED)
    assert row.error_message == "TimedOut: the run took longer than its timeout of 0.2 s"
    assert row.retries == 1
    assert row.scheduled_at - row.updated_at > HOUR / 2
    assert [entry["error"] for entry in row.errors] == [row.error_message]
    assert "waits" in row.errors[0]["traceback"]
    result = scene.events.results.get(timeout=PATIENT)
    assert isinstance(result, Failure)
    assert isinstance(result.exception, TimedOut)
    assert os.path.basename(__file__) in str(result.error.place)


def test_the_last_retry_that_times_out_fails_the_task(scene: Scene) -> None:
    scene.start()
    assert scene.written(scene.insert(max_retries=0), TaskState.FAILED).errors[0]["error"].startswith("TimedOut: ")


def test_the_limit_of_an_insert_comes_before_that_of_its_class(scene: Scene) -> None:
    scene.start()
    row = scene.written(scene.insert(timeout=LIMIT / 2), TaskState.RETRIED)
    assert row.error_message == "TimedOut: the run took longer than its timeout of 0.1 s"


def test_the_limit_begins_with_the_run(scene: Scene) -> None:
    waiting = scene.insert("ends")
    time.sleep(2 * LIMIT.total_seconds())  # as long as a task may wait
    scene.start()
    scene.written(waiting, TaskState.FINISHED)


def test_a_limit_is_that_of_its_own_run(scene: Scene) -> None:
    """A short run's limit strikes none of those that follow on its worker."""
    scene.start()
    for _ in range(5):
        scene.written(scene.insert("ends"), TaskState.FINISHED)
    longer = scene.insert(timeout=HOUR)
    time.sleep(2 * LIMIT.total_seconds())
    MAY_END.set()
    scene.written(longer, TaskState.FINISHED)


def test_a_run_that_goes_on_after_its_limit_and_returns_has_succeeded(scene: Scene) -> None:
    scene.start()
    scene.written(scene.insert("swallows"), TaskState.FINISHED)
    assert [SEEN.get(timeout=PATIENT) for _ in range(2)] == ["begun", Interrupt.TIME_LIMIT]


def test_what_a_run_answers_to_its_limit_counts(scene: Scene) -> None:
    scene.start()
    task = scene.insert("snoozes")
    assert SEEN.get(timeout=PATIENT) == "begun"
    row = scene.written(task, TaskState.NEW)
    assert row.retries == 0
    assert row.scheduled_at - row.updated_at > HOUR


def test_a_block_may_hold_the_limit_back(scene: Scene) -> None:
    scene.start()
    task = scene.insert("is shielded")
    assert SEEN.get(timeout=PATIENT) == "begun"
    (run,) = scene.pool._lifetime.in_flight._runs.values()
    eventually(lambda: run.interrupt is Interrupt.TIME_LIMIT)
    MAY_END.set()
    assert SEEN.get(timeout=PATIENT) == "block ended"
    scene.written(task, TaskState.RETRIED)
    assert SEEN.empty()


# Interrupted again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "result"), [(Interrupt.CANCELLED, Cancelled("not needed")), (Interrupt.LOST, NOT_RUN)], ids=str
)
def test_a_run_that_went_on_after_its_limit_is_interrupted_once_more_for_a_higher_reason(
    scene: Scene, why: Interrupt, result: Result, caplog: pytest.LogCaptureFixture
) -> None:
    scene.start()
    scene.insert("falls back", timeout=LIMIT / 4)
    assert [SEEN.get(timeout=PATIENT) for _ in range(2)] == ["begun", Interrupt.TIME_LIMIT]
    scene.interrupt(why, "not needed")
    assert scene.events.results.get(timeout=PATIENT) == result
    assert "never" not in [SEEN.get() for _ in range(SEEN.qsize())]
    MAY_END.set()
    scene.written(scene.insert("ends"), TaskState.FINISHED)
    assert "could not go on" not in caplog.text  # the same worker ran both


@pytest.mark.parametrize("harness", ["async"], indirect=True)
def test_a_run_that_went_on_after_its_limit_is_cancelled_at_the_end_of_the_grace_period(scene: Scene) -> None:
    scene.start(grace_period=LIMIT)
    task = scene.insert("falls back")
    assert [SEEN.get(timeout=PATIENT) for _ in range(2)] == ["begun", Interrupt.TIME_LIMIT]
    assert scene.harness.stop(scene.pool) == 0
    row = scene.row(task)
    assert (row.state, row.retries) == (TaskState.NEW, 0)
    assert SEEN.empty()


# Stuck ----------------------------------------------------------------------------------------------------------------


def test_a_run_that_does_not_end_is_stuck_and_its_worker_is_replaced(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.start(stuck_after=SOON)
    with caplog.at_level(logging.INFO):
        task = scene.insert("goes on")
        row = scene.written(task, TaskState.RETRIED)
        assert row.error_message is not None
        assert row.error_message.endswith("timeout of 0.2 s, and did not end when it was interrupted")
        stuck, place = scene.events.stuck.get(timeout=PATIENT)
        assert stuck == task
        assert os.path.basename(__file__) in str(place)
        (line,) = [record for record in caplog.records if "goes on" in record.message]
        assert line.levelname == "ERROR"
        assert str(place) in line.message
        assert scene.stuck == 1

        scene.written(scene.insert("ends"), TaskState.FINISHED)  # by the one worker that there is

        MAY_END.set()
        assert [SEEN.get(timeout=PATIENT) for _ in range(3)] == ["begun", "begun", Lease.LOST]
        eventually(lambda: scene.stuck == 0)
        eventually(lambda: [record for record in caplog.records if "has ended after" in record.message])
        scene.written(scene.insert("ends"), TaskState.FINISHED)
    late = scene.row(task)
    assert (late.state, late.attempt, late.error_message) == (TaskState.RETRIED, 1, row.error_message)
    assert scene.events.results.qsize() == 3


class HasHangingBackoff(ThreadedLimited):
    task_config = TaskConfig(kind="tests.HasHangingBackoff", backoff=lambda failures: MAY_END.wait() and HOUR)


@pytest.mark.parametrize("harness", ["threaded"], indirect=True)
def test_a_backoff_that_hangs_does_not_keep_other_runs_from_their_limits(scene: Scene) -> None:
    scene.start(stuck_after=SOON)
    scene.harness.call(scene.queue.insert_task, HasHangingBackoff(does="goes on"))
    eventually(lambda: scene.stuck == 1)
    scene.written(scene.insert(), TaskState.RETRIED)


def test_a_stuck_run_counts_as_left_when_the_pool_stops(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.start(stuck_after=SOON, grace_period=HOUR)
    scene.written(scene.insert("goes on"), TaskState.RETRIED)
    assert scene.harness.stop(scene.pool) == 1  # within the patience of the test, and not of the pool
    MAY_END.set()
    eventually(lambda: not scene.pool._is_alive)
    assert [line for line in caplog.messages if line.endswith("runs not ended: 1; all of them stuck")]


def test_a_pool_with_too_many_stuck_runs_says_so_and_goes_on(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.start(stuck_after=SOON, max_stuck=0)
    scene.written(scene.insert("goes on"), TaskState.RETRIED)
    eventually(lambda: scene.pool.has_too_many_stuck)
    assert [record for record in caplog.records if "max_stuck is 0" in record.message]
    scene.written(scene.insert("ends"), TaskState.FINISHED)
    MAY_END.set()


def test_a_lost_run_is_interrupted_in_both_modes(scene: Scene) -> None:
    scene.start()
    scene.insert("swallows", timeout=HOUR)
    assert SEEN.get(timeout=PATIENT) == "begun"
    lifetime = scene.pool._lifetime
    lifetime.runtime.call_soon(lambda: lifetime.workers.interrupt_all(Interrupt.LOST))
    assert SEEN.get(timeout=PATIENT) is Interrupt.LOST


# The end of a process -------------------------------------------------------------------------------------------------

APP: Final = """
import asyncio, os, sys, time
from contextlib import suppress
from datetime import timedelta
from fang_async import AsyncMemoryQueue, AsyncRunnable, AsyncWorkerPool
from fang_threaded import Interrupted, MemoryQueue, Runnable, TaskConfig, WorkerPool

SOON = timedelta(milliseconds=100)

class Hangs(Runnable):
    task_config = TaskConfig(timeout=SOON)
    def run(self, queue):
        while True:
            with suppress(Interrupted):
                time.sleep(0.01)

class HangsToo(AsyncRunnable):
    task_config = TaskConfig(timeout=SOON)
    async def run(self, queue):
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

threaded, asynchronous = MemoryQueue(), AsyncMemoryQueue()
options = {"stuck_after": SOON, "max_stuck": 1, "number_of_workers": 2}
pool, async_pool = WorkerPool(threaded, **options), AsyncWorkerPool(asynchronous, **options)
threaded.insert_tasks([Hangs(), Hangs()])

async def run():
    await asynchronous.insert_tasks([HangsToo(), HangsToo()])
    await async_pool.run()

if __name__ == "__main__":
    {how}
    print("it goes on")
"""


FANG_WORKER = "os.execv(sys.executable, [sys.executable, '-m', 'fang_cli', 'worker', 'app:pool'])"


@pytest.mark.parametrize("how", ["pool.run()", "asyncio.run(run())", FANG_WORKER])
def test_a_process_with_too_many_stuck_runs_ends_with_a_code_of_its_own(how: str, tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP.replace("{how}", how))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, str(app)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (EXIT_STUCK, ""), ended.stderr
