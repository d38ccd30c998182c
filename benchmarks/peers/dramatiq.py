"""Runs dramatiq on Redis, in threads. Nothing else runs on the event loop, so it may be blocked."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from dramatiq import Worker, actor
from dramatiq.brokers.redis import RedisBroker


class Peer:
    def __init__(self, url: str, *, threads: int) -> None:
        self.version = version("dramatiq")
        self._broker = RedisBroker(url=url)
        self._threads = threads

        @actor(actor_name="noop", broker=self._broker)
        def noop(n: int) -> None:
            self._ran(n)

        self._noop = noop
        self._ran: Callable[[int], None]

    async def install(self) -> None:
        """Redis has no tables."""

    async def insert(self, numbers: Sequence[int]) -> None:
        for number in numbers:  # it has no bulk insert
            self._noop.send(number)

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        self._ran = ran
        worker = Worker(self._broker, worker_threads=self._threads)
        worker.start()

        async def insert(number: int) -> None:
            self._noop.send(number)

        yield insert
        worker.stop()
