"""Runs many light asyncio tasks at once, which insert further ones; on the memory backend, so it needs no database.

Replace `AsyncMemoryQueue()` with `AsyncQueue("postgresql://...")` to run the same on Postgres.
"""

import asyncio
from datetime import timedelta

from fang_async import AsyncWorkerPool
from fang_core import AsyncMemoryQueue, AsyncQueueable, AsyncRunnable, Snooze, TaskConfig, current_run

SITE = {"/": ["/a", "/b"], "/a": ["/a/1", "/a/2"], "/b": [], "/a/1": [], "/a/2": ["/b"]}
SEEN: set[str] = set()


class Visit(AsyncRunnable):
    task_config = TaskConfig(max_retries=3)

    path: str

    async def run(self, queue: AsyncQueueable) -> None:
        if self.path == "/b" and current_run().task.attempt == 1:
            raise Snooze(timedelta(0))  # not now; nothing is charged
        await asyncio.sleep(0)  # a real task waits for the network here
        SEEN.add(self.path)
        await queue.insert_tasks([Visit(path=path) for path in SITE[self.path] if path not in SEEN])


async def main() -> None:
    queue = AsyncMemoryQueue()
    await queue.insert_task(Visit(path="/"))
    await AsyncWorkerPool(queue, number_of_workers=10).drain()
    print(f"{len(SEEN)} pages seen")


if __name__ == "__main__":
    asyncio.run(main())
