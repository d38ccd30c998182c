"""What a newcomer hands to the wrong place is told where it is handed over, in both modes."""

from typing import Any

import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core import AsyncMemoryQueue, MemoryQueue, UsageError
from fang_threaded import Queue, WorkerPool
from tests.modes import AsyncNote, ThreadedNote

URL = "postgresql://localhost/app"


@pytest.mark.parametrize(
    ("pool", "queue", "message"),
    [
        (WorkerPool, AsyncQueue(URL), r"^WorkerPool cannot run on AsyncQueue: give it Queue, or take AsyncWorkerPool "),
        (WorkerPool, AsyncMemoryQueue(), r"^WorkerPool cannot run on AsyncMemoryQueue: give it Queue, or "),
        (AsyncWorkerPool, Queue(URL), r"^AsyncWorkerPool cannot run on Queue: give it AsyncQueue, or take WorkerPool "),
        (AsyncWorkerPool, MemoryQueue(), r"^AsyncWorkerPool cannot run on MemoryQueue: give it AsyncQueue, or "),
        (WorkerPool, URL, r"^WorkerPool takes a queue, not str: write WorkerPool\(Queue\('postgresql://\.\.\.'\)\)$"),
        (AsyncWorkerPool, URL, r"takes a queue, not str: write AsyncWorkerPool\(AsyncQueue\("),
        (WorkerPool, Queue, r"^WorkerPool takes a queue, not type"),
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
