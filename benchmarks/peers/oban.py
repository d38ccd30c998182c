"""Runs oban, on psycopg 3."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from oban import Oban, worker
from oban.schema import install

on_run: Callable[[int], None]


async def process(self: object, job: Any) -> None:
    on_run(job.args["n"])


# The decorator gives the class its `new`, which a type checker would miss.
Noop: Any = worker(queue="bench")(type("Noop", (), {"process": process}))


class Peer:
    def __init__(self, url: str, *, limit: int) -> None:
        self.version = version("oban")
        self._url = url
        self._limit = limit

    async def install(self) -> None:
        async with self._pool() as pool:
            await install(pool)

    async def insert(self, numbers: Sequence[int]) -> None:
        async with self._pool() as pool:
            await Oban(pool=pool).enqueue_many([Noop.new({"n": number}) for number in numbers])

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        global on_run  # noqa: PLW0603 - a worker is a class of a module
        on_run = ran
        async with self._pool() as pool, Oban(pool=pool, queues={"bench": self._limit}) as oban:
            yield lambda number: oban.enqueue(Noop.new({"n": number}))

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[Any]:
        pool = await Oban.create_pool(self._url)
        try:
            yield pool
        finally:
            await pool.close()
