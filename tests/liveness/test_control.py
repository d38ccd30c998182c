"""What pools are told while they work: messages of other processes, and tasks that are taken away from their runs."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, Final

import psycopg
import pytest

from fang_core import (
    AsyncRunnable,
    Interrupt,
    Lease,
    RetentionMode,
    Run,
    Runnable,
    SetLogLevel,
    Stop,
    TaskConfig,
    TaskState,
    UnknownPool,
    current_run,
)
from fang_core.backends.memory.state import MemoryState
from fang_core.events import Events
from fang_core.logs import LOGGERS
from fang_core.pool import control, heartbeat
from tests.modes import GATES, HOUR, Database, Harness, eventually, ran
from tests.patience import PATIENT

RUNS: Final[SimpleQueue[Run]] = SimpleQueue()
"""Those that have begun."""
ENDED: Final[SimpleQueue[Run]] = SimpleQueue()
"""Those that were interrupted."""
TRIES: Final = 500


class ThreadedPatient(Runnable):
    """Goes on until it is interrupted."""

    task_config = TaskConfig(kind="tests.ThreadedPatient")

    def run(self, queue: Any) -> None:
        RUNS.put(current_run())
        try:
            while not GATES["gate"].is_set():
                time.sleep(0.005)
        finally:
            ENDED.put(current_run())


class AsyncPatient(AsyncRunnable):
    """Goes on until it is interrupted."""

    task_config = TaskConfig(kind="tests.AsyncPatient")

    async def run(self, queue: Any) -> None:
        RUNS.put(current_run())
        try:
            await asyncio.to_thread(GATES["gate"].wait)
        finally:
            ENDED.put(current_run())


class ThreadedBrief(Runnable):
    """Ends while the answer to a beat is on its way."""

    task_config = TaskConfig(kind="tests.ThreadedBrief")

    def run(self, queue: Any) -> None:
        RUNS.put(current_run())
        time.sleep(0.002)


class AsyncBrief(AsyncRunnable):
    """Ends while the answer to a beat is on its way."""

    task_config = TaskConfig(kind="tests.AsyncBrief")

    async def run(self, queue: Any) -> None:
        RUNS.put(current_run())
        await asyncio.sleep(0.002)


class Stopped(Events):
    def __init__(self) -> None:
        self.event = threading.Event()

    def pool_stopped(self, pool_id: Any) -> None:
        self.event.set()


@pytest.fixture(autouse=True)
def empty() -> None:
    for queue in (RUNS, ENDED):
        while not queue.empty():
            queue.get()


@pytest.fixture(params=["memory", "postgres", "postgres, listen=False"])
def queue(request: pytest.FixtureRequest, url: str, harness: Harness) -> Any:
    return harness.memory_queue(MemoryState()) if request.param == "memory" else harness.queue(url)


@pytest.fixture
def options(request: pytest.FixtureRequest, queue: Any) -> dict[str, Any]:
    """Of pools on that queue."""
    listens = "listen=False" not in request.node.name
    return {"listen": listens, "poll": HOUR if listens else timedelta(milliseconds=50)}


def patient(harness: Harness) -> Any:
    return ThreadedPatient() if harness.mode == "threaded" else AsyncPatient()


def begun(harness: Harness, queue: Any) -> Run:
    """A run that goes on."""
    harness.call(queue.insert_task, patient(harness))
    return RUNS.get(timeout=PATIENT)


# Messages -------------------------------------------------------------------------------------------------------------


def test_a_pool_stops_when_it_is_told(harness: Harness, queue: Any, options: dict[str, Any]) -> None:
    stopped = Stopped()
    pool = harness.pool(queue, events=[stopped], **options)
    (info,) = harness.call(queue.pools)
    assert (info.id, info.mode, info.workers, info.stopping) == (pool.id, harness.mode, 1, False)
    harness.call(queue.control, info.id, Stop())
    assert stopped.event.wait(PATIENT)
    assert pool.is_clean
    assert harness.call(queue.pools) == []
    with pytest.raises(UnknownPool):
        harness.call(queue.control, info.id, Stop())


def test_its_run_returns_and_its_own_runs_have_had_their_time(
    harness: Harness, queue: Any, options: dict[str, Any]
) -> None:
    pool = harness.pool(queue, retention_mode=RetentionMode.KEEP_ALL, **options)
    harness.stop(pool)
    running = harness.begin(pool.run)
    eventually(lambda: harness.call(queue.pools))
    run = begun(harness, queue)
    harness.call(queue.control, pool.id, Stop())
    eventually(lambda: [info.stopping for info in harness.call(queue.pools)] == [True])
    assert not running.done()
    GATES["gate"].set()
    assert running.result(PATIENT) == 0
    assert harness.call(queue.find_task_by_id, run.task.id).state is TaskState.FINISHED


def test_it_logs_as_it_is_told(harness: Harness, queue: Any, options: dict[str, Any]) -> None:
    levels = [logging.getLogger(name).level for name in LOGGERS]
    pool = harness.pool(queue, **options)
    try:
        harness.call(queue.control, pool.id, SetLogLevel("CRITICAL"))
        eventually(lambda: {logging.getLogger(name).level for name in LOGGERS} == {logging.CRITICAL})
    finally:
        for name, level in zip(LOGGERS, levels, strict=True):
            logging.getLogger(name).setLevel(level)


def test_with_listen_it_does_not_wait_for_its_next_beat(
    harness: Harness, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY", 3600.0)
    queue, stopped = harness.queue(url), Stopped()
    pool = harness.pool(queue, events=[stopped])
    while not stopped.event.wait(0.1):  # LISTEN may not have begun yet
        with suppress(UnknownPool):  # it is about to have stopped
            harness.call(queue.control, pool.id, Stop())


def test_with_its_listen_connection_lost_it_hears_of_a_message_by_its_beat(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, stopped = harness.queue(url), Stopped()
    pool = harness.pool(queue, events=[stopped])
    eventually(lambda: database.listeners)
    monkeypatch.setattr("fang_postgres.pool.listener.Listener._listen", never)
    database.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", database.listeners)
    eventually(lambda: not database.listeners)
    harness.call(queue.control, pool.id, Stop())
    assert stopped.event.wait(PATIENT)


async def never(*_: Any) -> None:
    raise OSError("no LISTEN")


# Tasks that are taken away --------------------------------------------------------------------------------------------


def remove(harness: Harness, queue: Any, run: Run) -> None:
    assert harness.call(queue.remove_task, run.task.id) == 1


def cancel_by_hand(harness: Harness, queue: Any, run: Run) -> None:
    row = harness.call(queue.find_task_by_id, run.task.id)
    harness.call(queue.update_task_state, row, TaskState.CANCELLED)


def is_lost_and_ends(run: Run) -> None:
    """The run reads that it is lost, and is interrupted."""
    assert ENDED.get(timeout=PATIENT) is run
    assert run.lease is Lease.LOST
    assert run.interrupt is Interrupt.LOST


@pytest.mark.parametrize("take", [remove, cancel_by_hand])
def test_a_run_whose_task_is_taken_away_is_lost_and_its_worker_goes_on(
    harness: Harness, queue: Any, options: dict[str, Any], take: Callable[..., None]
) -> None:
    harness.pool(queue, **options)
    run = begun(harness, queue)
    take(harness, queue, run)
    is_lost_and_ends(run)
    harness.call(queue.insert_task, harness.note(n=7))
    assert ran() == [7]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM fang.fang_tasks WHERE id = %s",
        "UPDATE fang.fang_tasks SET state = 'new', pool_id = NULL WHERE id = %s",
        "UPDATE fang.fang_tasks SET pool_id = gen_random_uuid() WHERE id = %s",
        "UPDATE fang.fang_tasks SET attempt = attempt + 1 WHERE id = %s",
    ],
)
def test_a_run_whose_row_is_taken_away_by_sql_is_lost(harness: Harness, url: str, database: Database, sql: str) -> None:
    queue = harness.queue(url)
    harness.pool(queue)
    run = begun(harness, queue)
    database.execute(sql, run.task.id)
    is_lost_and_ends(run)


def test_while_the_tasks_are_locked_the_heart_beats_and_then_tells_what_was_lost(
    harness: Harness, url: str, database: Database
) -> None:
    """As a migration locks them."""
    queue = harness.queue(url)
    pool = harness.pool(queue)
    run = begun(harness, queue)
    beats = "SELECT beats FROM fang.fang_pools WHERE id = %s"
    with psycopg.connect(url) as locker:
        locker.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
        locker.execute("DELETE FROM fang.fang_tasks WHERE id = %s", (run.task.id,))
        ((before,),) = database.rows(beats, pool.id)
        eventually(lambda: database.rows(beats, pool.id)[0][0] >= before + 3)
        assert run.lease is Lease.HELD
    is_lost_and_ends(run)
    ((locks,),) = database.rows("SELECT locks FROM fang.fang_pools WHERE id = %s", pool.id)
    assert locks


@pytest.fixture
def beats_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats follow each other, and ask about each run."""
    monkeypatch.setattr(heartbeat, "EVERY", 0.001)
    monkeypatch.setattr(heartbeat, "APART", 0.001)
    monkeypatch.setattr(control, "RUNNING_FOR", 0.0)


class ThreadedTransfer(Runnable):
    """Completes its task in a transaction of its own, and goes on for a while."""

    task_config = TaskConfig(kind="tests.ThreadedTransfer")
    url: str

    def run(self, queue: Any) -> None:
        RUNS.put(current_run())
        with psycopg.connect(self.url) as connection:
            queue.complete(connection=connection)
        time.sleep(0.01)


@pytest.mark.usefixtures("beats_without_pause")
def test_no_run_is_taken_for_lost_that_ends_while_beats_ask_about_it(
    harness: Harness, queue: Any, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    brief = ThreadedBrief if harness.mode == "threaded" else AsyncBrief
    pool = harness.pool(queue, number_of_workers=4, **options)
    harness.call(queue.insert_tasks, [brief() for _ in range(TRIES)])
    runs = [RUNS.get(timeout=PATIENT) for _ in range(TRIES)]
    harness.stop(pool)
    assert not any(run.is_lost for run in runs)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("harness", ["threaded"], indirect=True)  # what complete() marks is the same in both modes
@pytest.mark.usefixtures("beats_without_pause")
def test_no_run_is_taken_for_lost_that_completes_its_task_itself(
    url: str, harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, number_of_workers=4)
    harness.call(queue.insert_tasks, [ThreadedTransfer(url=url) for _ in range(100)])
    runs = [RUNS.get(timeout=PATIENT) for _ in range(100)]
    harness.stop(pool)
    assert not any(run.is_lost for run in runs)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
