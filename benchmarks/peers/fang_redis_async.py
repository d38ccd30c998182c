"""Runs Fang's async mode on Redis, with its defaults."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, ClassVar

import fang_redis
from fang_async import AsyncQueueable, AsyncRunnable, AsyncWorkerPool
from fang_redis import AsyncRedisQueue


class Noop(AsyncRunnable):
    n: int
    ran: ClassVar[Callable[[int], None]]

    async def run(self, queue: AsyncQueueable) -> None:
        Noop.ran(self.n)


class Peer:
    def __init__(self, url: str, *, workers: int) -> None:
        self.version = version("fang-tasks")
        self._url = url
        self._workers = workers

    async def install(self) -> None:
        """Redis has no tables."""

    async def imported_from(self) -> str:
        """Returns the file of the measured package."""
        return str(fang_redis.__file__)

    async def insert(self, numbers: Sequence[int]) -> None:
        async with AsyncRedisQueue(self._url) as queue:
            await queue.insert_tasks([Noop(n=number) for number in numbers])

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        Noop.ran = staticmethod(ran)
        async with (
            AsyncRedisQueue(self._url) as queue,
            AsyncWorkerPool(queue, number_of_workers=self._workers),
        ):
            yield lambda number: queue.insert_task(Noop(n=number))

    async def trickle(self, gaps: Sequence[float]) -> list[tuple[int, float]]:
        """Inserts a task for another process after each of these pauses; returns its number, and when it began."""
        begun = []
        async with AsyncRedisQueue(self._url) as queue:
            for number, gap in enumerate(gaps):
                await asyncio.sleep(gap)
                begun.append((number, time.monotonic()))
                await queue.insert_task(Noop(n=number))
        return begun
