"""What a newcomer hands to the wrong place is told where it is handed over, in both modes."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core import AsyncMemoryQueue, MemoryQueue, UsageError
from fang_core.backends.memory.state import MemoryState
from fang_redis import AsyncRedisQueue
from fang_sqlite import AsyncSqliteQueue
from fang_threaded import Queue, WorkerPool
from tests.modes import AsyncNote, Harness, ThreadedNote, eventually

URL = "postgresql://localhost/app"


@pytest.mark.parametrize(
    ("pool", "queue", "message"),
    [
        (WorkerPool, AsyncQueue(URL), r"^WorkerPool cannot run on AsyncQueue: give it Queue, or take AsyncWorkerPool "),
        (WorkerPool, AsyncMemoryQueue(), r"^WorkerPool cannot run on AsyncMemoryQueue: give it MemoryQueue, or "),
        (AsyncWorkerPool, Queue(URL), r"^AsyncWorkerPool cannot run on Queue: give it AsyncQueue, or take WorkerPool "),
        (AsyncWorkerPool, MemoryQueue(), r"^AsyncWorkerPool cannot run on MemoryQueue: give it AsyncMemoryQueue, or "),
        (WorkerPool, AsyncSqliteQueue("tasks.db"), r"AsyncSqliteQueue: give it SqliteQueue, or take AsyncWorkerPool "),
        (WorkerPool, URL, r"^WorkerPool takes a queue, not str: write WorkerPool\(Queue\('postgresql://\.\.\.'\)\)$"),
        (AsyncWorkerPool, URL, r"takes a queue, not str: write AsyncWorkerPool\(AsyncQueue\("),
        (WorkerPool, "sqlite:///a", r"write WorkerPool\(SqliteQueue\('tasks.db'\)\)$"),
        (AsyncWorkerPool, "rediss://u:secret@h", r"write AsyncWorkerPool\(AsyncRedisQueue\('rediss://\.\.\.'\)\)$"),
        (WorkerPool, Queue, r"^WorkerPool takes a queue, not the class Queue: write WorkerPool\(Queue\("),
        (AsyncWorkerPool, AsyncMemoryQueue, r"takes a queue, not the class AsyncMemoryQueue: write AsyncWorkerPool\(A"),
        (AsyncWorkerPool, None, r"^AsyncWorkerPool takes a queue, not NoneType"),
    ],
)
def test_a_pool_says_at_once_that_it_cannot_run_on_it(pool: Any, queue: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pool(queue)


@pytest.mark.parametrize("value", [5, "text", None, {"type": "Note"}, ThreadedNote, AsyncNote])
def test_what_is_no_task_is_not_inserted(value: Any) -> None:
    with pytest.raises(UsageError, match=r"is not a task: derive it from|is a class: insert an instance of it"):
        Queue(URL).insert_task(value)
    with pytest.raises(UsageError, match=r"is not a task: derive it from|give several tasks"):
        Queue(URL).insert_tasks(value)


@pytest.mark.parametrize("value", [5, "text", None, {"type": "Note"}, ThreadedNote, AsyncNote])
async def test_what_is_no_task_is_not_inserted_from_asyncio(value: Any) -> None:
    with pytest.raises(UsageError, match=r"is not a task: derive it from|is a class: insert an instance of it"):
        await AsyncQueue(URL).insert_task(value)
    with pytest.raises(UsageError, match=r"is not a task: derive it from|give several tasks"):
        await AsyncQueue(URL).insert_tasks(value)


@pytest.mark.parametrize("queue", [AsyncQueue(URL), AsyncSqliteQueue("tasks.db"), AsyncRedisQueue("redis://h")])
def test_a_call_outside_of_asyncio_says_what_to_use_instead(queue: Any) -> None:
    """As under trio, whose tasks no event loop of asyncio runs."""
    pool = AsyncWorkerPool(queue)
    for call in (
        *(queue.insert_task(AsyncNote(text="a")), queue.find_task_by_id(uuid4()), queue.fetch_and_touch_task()),
        *(queue.close(), pool.start(), pool.run(), pool.drain(), pool.stop()),
    ):
        with pytest.raises(
            UsageError, match=r"^no event loop of asyncio runs here: .* with trio, make a queue for thr"
        ):
            call.send(None)


def test_a_pool_names_a_task_type_that_nobody_serves(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fang_core.pool.maintenance.EVERY", 0.01)
    queue = harness.memory_queue(MemoryState())
    for task_type, minutes in (("mial", 2), ("mail", 2), ("news", 0)):
        due = datetime.now(UTC) - timedelta(minutes=minutes)
        harness.call(queue.insert_task, harness.note(), task_type=task_type, scheduled_at=due)
    with caplog.at_level(logging.WARNING):
        harness.pool(queue, task_type="mail")
        eventually(lambda: caplog.records)
    assert caplog.messages == ["due tasks wait for a pool that serves their task types: 'mial'"]
