"""Runs Fang's threaded mode on Redis, with its defaults. Nothing else runs on the event loop, so it may be blocked."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, ClassVar

import fang_redis
from fang_redis import RedisQueue
from fang_threaded import Queueable, Runnable, WorkerPool


class Noop(Runnable):
    n: int
    ran: ClassVar[Callable[[int], None]]

    def run(self, queue: Queueable) -> None:
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
        with RedisQueue(self._url) as queue:
            queue.insert_tasks([Noop(n=number) for number in numbers])

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        Noop.ran = staticmethod(ran)
        with RedisQueue(self._url) as queue, WorkerPool(queue, number_of_workers=self._workers):

            async def insert(number: int) -> None:
                queue.insert_task(Noop(n=number))

            yield insert

    async def trickle(self, gaps: Sequence[float]) -> list[tuple[int, float]]:
        """Inserts a task for another process after each of these pauses; returns its number, and when it began."""
        begun = []
        with RedisQueue(self._url) as queue:
            for number, gap in enumerate(gaps):
                time.sleep(gap)  # noqa: ASYNC251 - nothing else runs on the event loop
                begun.append((number, time.monotonic()))
                queue.insert_task(Noop(n=number))
        return begun
