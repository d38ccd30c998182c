"""Tasks that are cancelled while pools work: how soon their runs hear of it, what they answer, and who wins a race."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from queue import SimpleQueue
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import psycopg
import pytest

from fang_async import AsyncQueue
from fang_core import (
    AsyncRunnable,
    BackendError,
    Constant,
    Events,
    Interrupt,
    Interrupted,
    RetentionMode,
    Runnable,
    Snooze,
    TaskConfig,
    TaskFilter,
    TaskState,
    current_run,
)
from fang_threaded import Queue
from tests.modes import HOUR, Database, Harness, eventually
from tests.patience import PATIENT

AT_ONCE: Final = Constant(delay=timedelta(0), jitter=0)
BEGAN: Final[SimpleQueue[UUID]] = SimpleQueue()
HEARD: Final[SimpleQueue[tuple[UUID, Interrupt | None]]] = SimpleQueue()
"""Why each run was interrupted, when it hears of that."""
GATES: Final[dict[str, threading.Event]] = {}


class ThreadedEndless(Runnable):
    """Runs until it is interrupted, and then answers; or does what it is to do at once."""

    task_config = TaskConfig(kind="tests.ThreadedEndless", backoff=AT_ONCE, max_retries=1_000)
    answer: str = ""
    n: int = 0

    def run(self, queue: Any) -> None:
        BEGAN.put(current_run().task.id)
        if self.answer == "at once":
            return
        if self.answer == "fails at once":
            raise ValueError("no")
        if self.answer == "completes":
            with psycopg.connect(queue_url()) as connection:
                queue.complete(connection=connection)
                COMPLETING.set()
                assert GATES["commit"].wait(PATIENT)
            return
        try:
            while True:
                time.sleep(0.005)
        except Interrupted:
            HEARD.put((current_run().task.id, current_run().interrupt))
            _answer(self.answer)
            raise


class AsyncEndless(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncEndless", backoff=AT_ONCE, max_retries=1_000)
    answer: str = ""
    n: int = 0

    async def run(self, queue: Any) -> None:
        BEGAN.put(current_run().task.id)
        if self.answer == "at once":
            return
        if self.answer == "fails at once":
            raise ValueError("no")
        if self.answer == "completes":
            connection = await asyncpg.connect(queue_url())
            async with connection.transaction():
                await queue.complete(connection=connection)
                COMPLETING.set()
                assert await asyncio.to_thread(GATES["commit"].wait, 20)
            await connection.close()
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            HEARD.put((current_run().task.id, current_run().interrupt))
            _answer(self.answer)
            raise


COMPLETING: Final = threading.Event()
_URL: Final[list[str]] = []


def queue_url() -> str:
    return _URL[-1]


def _answer(answer: str) -> None:
    match answer:
        case "snooze":
            raise Snooze(timedelta(hours=1))
        case "fail":
            raise ValueError("no")


class Began(NamedTuple):
    task: UUID
    attempt: int


class Told(Events):
    def __init__(self) -> None:
        self.began: list[Began] = []
        self.cancelled: list[tuple[UUID, str]] = []

    def run_started(self, task: Any) -> None:
        self.began.append(Began(task.id, task.attempt))

    def task_cancelled(self, task: Any, reason: str) -> None:
        self.cancelled.append((task.id, reason))


@pytest.fixture(autouse=True)
def fresh(url: str) -> Iterator[None]:
    for queue in (BEGAN, HEARD):
        while not queue.empty():
            queue.get()
    COMPLETING.clear()
    GATES["commit"] = threading.Event()
    _URL.append(url)
    yield
    GATES["commit"].set()


def endless(harness: Harness, answer: str = "", n: int = 0) -> Any:
    return (ThreadedEndless if harness.mode == "threaded" else AsyncEndless)(answer=answer, n=n)


def insert(harness: Harness, queue: Any, answer: str = "") -> Any:
    return harness.call(queue.insert_task, endless(harness, answer))


def state(database: Database, task_id: UUID) -> str | None:
    rows = database.rows("SELECT state::text FROM fang.fang_tasks WHERE id = %s", task_id)
    return rows[0][0] if rows else None


# How soon -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_run_hears_of_it_at_once_if_its_pool_listens(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """Only a notification can tell it: the next beat is far away."""
    monkeypatch.setattr("fang_core.pool.heartbeat.EVERY", 600.0)
    queue = harness.queue(url)
    harness.pool(queue)
    eventually(lambda: database.listeners)
    task = insert(harness, queue)
    assert BEGAN.get(timeout=PATIENT) == task.id
    began = time.monotonic()
    with Queue(url) as elsewhere:
        if many:
            assert elsewhere.cancel_tasks(TaskFilter(ids=[task.id]), "a mistake", by="ada") == 1
        else:
            elsewhere.cancel_task(task.id, "a mistake", by="ada")
    assert HEARD.get(timeout=PATIENT) == (task.id, Interrupt.CANCELLED)
    print(f"heard after {time.monotonic() - began:.3f} s")
    eventually(lambda: state(database, task.id) == "cancelled")
    row = harness.call(queue.find_task_by_id, task.id)
    assert (row.error_message, row.retries, row.errors) == ("a mistake", 0, ())
    assert (row.cancel_request["reason"], row.cancel_request["by"]) == ("a mistake", "ada")


def test_a_run_hears_of_it_with_the_next_beat_if_its_pool_does_not_listen(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)
    harness.pool(queue, listen=False, poll=timedelta(seconds=0.1))
    task = insert(harness, queue)
    assert BEGAN.get(timeout=PATIENT) == task.id
    began = time.monotonic()
    with Queue(url) as elsewhere:
        elsewhere.cancel_task(task.id)
    assert HEARD.get(timeout=4) == (task.id, Interrupt.CANCELLED)
    print(f"heard after {time.monotonic() - began:.3f} s")
    eventually(lambda: state(database, task.id) == "cancelled")


# What a run answers ---------------------------------------------------------------------------------------------------


def test_the_answer_of_a_run_counts(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    harness.pool(queue, number_of_workers=3)
    for answer, expected in (("snooze", "new"), ("fail", "cancelled"), ("", "cancelled")):
        task = insert(harness, queue, answer)
        assert BEGAN.get(timeout=PATIENT) == task.id
        harness.call(queue.cancel_task, task.id, "a mistake")
        assert HEARD.get(timeout=PATIENT) == (task.id, Interrupt.CANCELLED)
        eventually(lambda task=task, expected=expected: state(database, task.id) == expected)
        row = harness.call(queue.find_task_by_id, task.id)
        assert (row.cancel_request is None) == (answer == "snooze")


# Races ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["at once", "fails at once"])
def test_no_run_begins_after_the_task_was_cancelled(
    harness: Harness, url: str, database: Database, answer: str
) -> None:
    """Beside one that had been claimed before: whoever wins the race with claims, outcomes and retries."""
    chance = Random(7)
    queue, told = harness.queue(url), Told()
    tasks = harness.call(queue.insert_tasks, [endless(harness, answer, n) for n in range(200)])
    chance.shuffle(tasks)
    rows = {}
    with Queue(url) as elsewhere:
        for place, task in enumerate(tasks):
            if place == 10:
                harness.pool(queue, events=[told], number_of_workers=4, retention_mode=RetentionMode.KEEP_ALL)
            rows[task.id] = elsewhere.cancel_task(task.id, "a mistake")
            if chance.random() < 0.2:
                time.sleep(0.005)
    eventually(
        lambda: not database.rows("SELECT 1 FROM fang.fang_tasks WHERE state IN ('new', 'retried', 'in_progress')")
    )
    states = defaultdict(int)
    for (found,) in database.rows("SELECT state::text FROM fang.fang_tasks"):
        states[found] += 1
    assert set(states) <= {"cancelled", "finished"}
    assert states["cancelled"] >= 10  # those from before the pool
    assert sum(states.values()) == len(tasks)
    last_begun = {began.task: began.attempt for began in told.began}
    for task_id, row in rows.items():
        assert row is not None
        assert last_begun.get(task_id, 0) <= row.attempt
        if row.state is TaskState.CANCELLED:
            assert state(database, task_id) == "cancelled"


def test_bulk_and_single_cancels_at_once_leave_no_task_behind(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    harness.pool(queue, number_of_workers=4)
    tasks = harness.call(queue.insert_tasks, [endless(harness, "fails at once", n) for n in range(300)])
    kind = type(endless(harness)).__fang_options__.kind
    calls = [harness.begin(queue.cancel_tasks, TaskFilter(kinds=kind), "all of them") for _ in range(3)]
    calls += [harness.begin(queue.cancel_task, task.id, "one by one") for task in tasks[::10]]
    for call in calls:
        call.result(PATIENT)
    eventually(lambda: database.rows("SELECT DISTINCT state::text FROM fang.fang_tasks") == [("cancelled",)])
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(300,)]


def test_what_a_stopping_pool_gives_back_is_cancelled_by_the_next(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, number_of_workers=2, grace_period=timedelta(seconds=5))
    tasks = harness.call(queue.insert_tasks, [endless(harness, n=n) for n in range(4)])
    for _ in range(2):
        BEGAN.get(timeout=PATIENT)
    stopping = harness.begin(pool.stop)
    with Queue(url) as elsewhere:
        assert elsewhere.cancel_tasks(TaskFilter(ids=[task.id for task in tasks]), "a mistake") == 4
    assert stopping.result(PATIENT) == 0
    harness._pools.remove(pool)
    told = Told()
    harness.pool(queue, events=[told], poll=timedelta(seconds=0.1))
    eventually(lambda: database.rows("SELECT DISTINCT state::text FROM fang.fang_tasks") == [("cancelled",)], 10)
    assert told.began == []


def test_a_cancel_waits_for_a_run_that_completes_its_task_in_a_transaction(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)
    harness.pool(queue, retention_mode=RetentionMode.KEEP_ALL)
    task = insert(harness, queue, "completes")
    assert COMPLETING.wait(PATIENT)
    cancelling = harness.begin(queue.cancel_task, task.id, "too late")
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    eventually(lambda: database.rows(waits))
    GATES["commit"].set()
    row = cancelling.result(PATIENT)
    assert (row.state, row.cancel_request) == (TaskState.FINISHED, None)


@pytest.mark.long
def test_a_cancel_does_not_wait_for_ever(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    task = harness.call(queue.insert_task, endless(harness), delay=HOUR)
    with psycopg.connect(url) as locking:
        locking.execute("SELECT 1 FROM fang.fang_tasks WHERE id = %s FOR UPDATE", (task.id,))
        began = time.monotonic()
        with pytest.raises(BackendError):
            harness.call(queue.cancel_task, task.id)
        assert time.monotonic() - began < 15
    assert harness.call(queue.cancel_task, task.id).state is TaskState.CANCELLED


async def test_requests_in_an_open_transaction_are_heard_when_it_is_committed(url: str, database: Database) -> None:
    async with AsyncQueue(url) as queue:
        task = await queue.insert_task(AsyncEndless(), delay=HOUR)
        with psycopg.connect(url) as connection, Queue(url) as threaded:
            row = threaded.cancel_task(task.id, connection=connection)
            assert row is not None
            assert state(database, task.id) == "new"
        assert state(database, task.id) == "cancelled"
