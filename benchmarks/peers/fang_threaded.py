"""Runs Fang's threaded mode, with its defaults. Nothing else runs on the event loop, so it may be blocked."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, ClassVar

from fang_postgres import migrate
from fang_threaded import Queue, Queueable, Runnable, WorkerPool


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
        migrate.upgrade(self._url)

    async def imported_from(self) -> str:
        """Returns the file of the measured package."""
        return str(migrate.__file__)

    async def insert(self, numbers: Sequence[int]) -> None:
        with Queue(self._url) as queue:
            queue.insert_tasks([Noop(n=number) for number in numbers])

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        Noop.ran = staticmethod(ran)
        with Queue(self._url) as queue, WorkerPool(queue, number_of_workers=self._workers):

            async def insert(number: int) -> None:
                queue.insert_task(Noop(n=number))

            yield insert
