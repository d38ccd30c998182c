"""Runs huey on Redis, in threads. Nothing else runs on the event loop, so it may be blocked."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from huey import RedisHuey
from huey.consumer import Consumer


class Peer:
    def __init__(self, url: str, *, threads: int) -> None:
        self.version = version("huey")
        self._huey = RedisHuey("bench", url=url, results=False)
        self._threads = threads

        @self._huey.task(name="noop")
        def noop(n: int) -> None:
            self._ran(n)

        self._noop = noop
        self._ran: Callable[[int], None]

    async def install(self) -> None:
        """Redis has no tables."""

    async def insert(self, numbers: Sequence[int]) -> None:
        for number in numbers:  # it has no bulk insert
            self._noop(number)

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        self._ran = ran
        consumer = Consumer(self._huey, workers=self._threads, periodic=False, check_worker_health=False)
        consumer.start()

        async def insert(number: int) -> None:
            self._noop(number)

        yield insert
        consumer.stop(graceful=True)
