"""Runs celery on Redis, in threads: this process could not see runs in celery's own processes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from celery import Celery
from celery.contrib.testing.worker import start_worker


class Peer:
    def __init__(self, url: str, *, threads: int) -> None:
        self.version = version("celery")
        self._app = Celery("bench", broker=_broker(url))
        self._app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=100)
        self._threads = threads

        @self._app.task(name="noop")
        def noop(n: int) -> None:
            self._ran(n)

        self._noop = noop
        self._ran: Callable[[int], None]

    async def install(self) -> None:
        """Redis has no tables."""

    async def insert(self, numbers: Sequence[int]) -> None:
        for number in numbers:  # it has no bulk insert
            self._noop.delay(number)

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        self._ran = ran
        with start_worker(self._app, pool="threads", concurrency=self._threads, perform_ping_check=False):

            async def insert(number: int) -> None:
                self._noop.delay(number)

            yield insert


def _broker(url: str) -> str:
    """Returns the URL unix:///tmp/socket?db=1 in Celery's form."""
    return url.replace("unix://", "redis+socket://").replace("db=", "virtual_host=")
