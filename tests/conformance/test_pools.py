"""What every backend and both modes must do alike.

The async shell is driven through one portal, so that each test is written once.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool
from fang_core import (
    AsyncMemoryQueue,
    Cancel,
    Constant,
    MemoryQueue,
    PayloadError,
    RetentionMode,
    RetryAfter,
    Runnable,
    Snooze,
    TaskConfig,
    TaskState,
    UsageError,
    current_run,
)
from fang_threaded import Queue, WorkerPool

SEEN: list[Any] = []
AT_ONCE = Constant(delay=timedelta(0), jitter=0)


class SyncNote(Runnable):
    task_config = TaskConfig(max_retries=2, backoff=AT_ONCE)
    n: int = 0
    what: str = "ok"

    def run(self, queue: Any) -> None:
        SEEN.append((self.n, current_run().task.attempt))
        act(self.what)


class AsyncNote(AsyncRunnable):
    task_config = TaskConfig(max_retries=2, backoff=AT_ONCE)
    n: int = 0
    what: str = "ok"

    async def run(self, queue: Any) -> None:
        await asyncio.sleep(0)
        SEEN.append((self.n, current_run().task.attempt))
        act(self.what)


def act(what: str) -> None:
    match what:
        case "fail":
            raise ValueError("no")
        case "hostile":
            raise SystemExit("\0\ud800" + "x" * 100_000)
        case "snooze":
            raise Snooze(timedelta(hours=1))
        case "cancel":
            raise Cancel("not wanted")
        case "later":
            raise RetryAfter(timedelta(hours=1))


class Backend:
    """One backend in one mode, driven synchronously."""

    def __init__(self, note: type, make_queue: Callable[[], Any], pool: Any) -> None:
        self.note = note
        self._pool = pool
        self._loop = asyncio.Runner()
        self.queue = make_queue()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            value = function(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        return self._loop.run(call()) if inspect.iscoroutinefunction(function) else function(*args, **kwargs)

    def insert(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(self.queue.insert_task, *args, **kwargs)

    def find(self, task: Any) -> Any:
        return self.call(self.queue.find_task_by_id, task.id)

    def drain(self, **options: Any) -> int:
        return self.call(self._pool(self.queue, **options).drain)

    def close(self) -> None:
        self.call(self.queue.close)
        self._loop.close()


@pytest.fixture(params=["memory-threaded", "memory-async", "postgres-threaded", "postgres-async"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    SEEN.clear()
    match request.param:
        case "memory-threaded":
            made = Backend(SyncNote, MemoryQueue, WorkerPool)
        case "memory-async":
            made = Backend(AsyncNote, AsyncMemoryQueue, AsyncWorkerPool)
        case "postgres-threaded":
            url = request.getfixturevalue("url")
            made = Backend(SyncNote, lambda: Queue(url), WorkerPool)
        case _:
            url = request.getfixturevalue("url")
            made = Backend(AsyncNote, lambda: AsyncQueue(url), AsyncWorkerPool)
    yield made
    made.close()


def test_a_task_runs_once_and_its_row_goes(backend: Backend) -> None:
    task = backend.insert(backend.note(n=7))
    assert task.state is TaskState.NEW
    assert task.metadata == {"type": backend.note.__name__, "n": 7, "what": "ok"}
    assert backend.find(task) is not None
    assert backend.drain(number_of_workers=3) == 1
    assert SEEN == [(7, 1)]
    assert backend.find(task) is None


@pytest.mark.parametrize(
    ("what", "mode", "state"),
    [
        ("ok", RetentionMode.KEEP_ALL, TaskState.FINISHED),
        ("ok", RetentionMode.REMOVE_ALL, None),
        ("ok", RetentionMode.REMOVE_FINISHED, None),
        ("fail", RetentionMode.KEEP_ALL, TaskState.FAILED),
        ("fail", RetentionMode.REMOVE_ALL, None),
        ("fail", RetentionMode.REMOVE_FINISHED, TaskState.FAILED),
        ("cancel", RetentionMode.KEEP_ALL, TaskState.CANCELLED),
        ("cancel", RetentionMode.REMOVE_ALL, None),
    ],
)
def test_retention(backend: Backend, what: str, mode: RetentionMode, state: TaskState | None) -> None:
    task = backend.insert(backend.note(what=what), max_retries=0)
    backend.drain(retention_mode=mode)
    row = backend.find(task)
    assert (row.state if row else None) is state


def test_a_failing_task_runs_once_more_for_each_retry_and_keeps_its_errors(backend: Backend) -> None:
    task = backend.insert(backend.note(what="fail"))
    assert backend.drain() == 3
    row = backend.find(task)
    assert row.state is TaskState.FAILED
    assert (row.retries, row.attempt) == (2, 3)
    assert row.error_message == "ValueError: no"
    assert [entry["number"] for entry in row.errors] == [1, 2, 3]
    assert all(entry["error"] == "ValueError: no" and entry["time"] and entry["traceback"] for entry in row.errors)
    assert (row.pool_id, row.claimed_at) == (None, None)


def test_the_history_keeps_the_last_ten(backend: Backend) -> None:
    task = backend.insert(backend.note(what="fail"), max_retries=13)
    assert backend.drain() == 14
    assert [entry["number"] for entry in backend.find(task).errors] == list(range(5, 15))


def test_a_hostile_exception_is_an_outcome_and_costs_no_neighbour(backend: Backend) -> None:
    bad = backend.insert(backend.note(n=-1, what="hostile"), max_retries=0)
    for n in range(20):
        backend.insert(backend.note(n=n))
    assert backend.drain(number_of_workers=2) == 21
    assert sorted(n for n, _ in SEEN) == list(range(-1, 20))
    row = backend.find(bad)
    assert row.state is TaskState.FAILED
    assert row.error_message.startswith("SystemExit: ␀?xxx")
    assert len(row.error_message.encode()) <= 2_000


def test_snooze_charges_nothing(backend: Backend) -> None:
    task = backend.insert(backend.note(what="snooze"))
    assert backend.drain() == 1
    row = backend.find(task)
    assert (row.state, row.retries, row.attempt) == (TaskState.NEW, 0, 1)
    assert row.scheduled_at > task.scheduled_at + timedelta(minutes=59)


def test_retry_after_is_charged_and_due_when_it_says(backend: Backend) -> None:
    task = backend.insert(backend.note(what="later"))
    assert backend.drain() == 1
    row = backend.find(task)
    assert (row.state, row.retries) == (TaskState.RETRIED, 1)
    assert row.scheduled_at > task.scheduled_at + timedelta(minutes=59)


def test_order_is_by_priority_then_due_time(backend: Backend) -> None:
    for n, priority in enumerate([2, 0, -2, 1, -1, 0]):
        backend.insert(backend.note(n=n), priority=priority)
    backend.drain(number_of_workers=1)
    assert [n for n, _ in SEEN] == [2, 4, 1, 5, 3, 0]


def test_only_due_tasks_of_the_pools_types_run(backend: Backend) -> None:
    backend.insert(backend.note(n=1), delay=timedelta(hours=1))
    backend.insert(backend.note(n=2), scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    backend.insert(backend.note(n=3), task_type="other")
    backend.insert(backend.note(n=4), task_type="mail")
    backend.insert(backend.note(n=5))
    assert backend.drain(task_type=["common", "mail"]) == 2
    assert sorted(n for n, _ in SEEN) == [4, 5]


def test_a_pool_leaves_the_other_modes_kinds_alone(backend: Backend) -> None:
    other = AsyncNote if backend.note is SyncNote else SyncNote
    task = backend.insert(other(n=1))
    assert backend.drain() == 0
    assert backend.find(task).state is TaskState.NEW


def test_bulk_insert_keeps_order_and_classes_options(backend: Backend) -> None:
    tasks = backend.call(backend.queue.insert_tasks, [backend.note(n=n) for n in range(250)], priority=1)
    assert [task.metadata["n"] for task in tasks] == list(range(250))
    assert {(task.priority, task.max_retries) for task in tasks} == {(1, 2)}
    assert backend.drain(number_of_workers=1) == 250
    assert [n for n, _ in SEEN] == list(range(250))


def test_what_cannot_be_stored_is_refused_before_anything_is_written(backend: Backend) -> None:
    with pytest.raises(PayloadError, match=r"\.what: .*NUL"):
        backend.call(backend.queue.insert_tasks, [backend.note(), backend.note(what="a\0b")])
    with pytest.raises(UsageError, match="zone"):
        backend.insert(backend.note(), scheduled_at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(UsageError, match="priority"):
        backend.insert(backend.note(), priority=3)
    assert backend.drain() == 0
