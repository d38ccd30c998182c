"""Runs chancy, on psycopg 3, with jobs on its event loop."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from chancy import Chancy, Queue, Worker, job

QUIET = logging.getLogger("chancy-bench")
QUIET.setLevel(logging.ERROR)

on_run: Callable[[int], None]


@job(queue="bench")
async def noop(n: int) -> None:
    on_run(n)


class Peer:
    def __init__(self, url: str, *, concurrency: int) -> None:
        self.version = version("chancy")
        self._url = url
        # Polls again as soon as a job has completed, not seconds later.
        self._queue = Queue(
            "bench", concurrency=concurrency, executor=Chancy.Executor.Async, polling_interval=1, eager_polling=True
        )

    async def install(self) -> None:
        async with Chancy(self._url, log=QUIET) as chancy:
            await chancy.migrate()
            await chancy.declare(self._queue)

    async def insert(self, numbers: Sequence[int]) -> None:
        async with Chancy(self._url, log=QUIET) as chancy:
            async for _ in chancy.push_many([noop.job.with_kwargs(n=number) for number in numbers]):
                pass

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        global on_run  # noqa: PLW0603 - a job is a function of a module
        on_run = ran
        async with (
            Chancy(self._url, log=QUIET) as chancy,
            Worker(chancy, register_signal_handlers=False),
        ):
            yield lambda number: chancy.push(noop.job.with_kwargs(n=number))
