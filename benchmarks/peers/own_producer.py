"""Runs clients that insert no-op tasks, each in transactions of its own; workers of either mode run them meanwhile."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from typing import Any, NamedTuple

import asyncpg

from fang_async import AsyncQueue, AsyncQueueable, AsyncRunnable


class Noop(AsyncRunnable):
    n: int

    async def run(self, queue: AsyncQueueable) -> None: ...


class Traffic(NamedTuple):
    """The work of each client, on a connection of its own."""

    clients: int
    transactions: int
    """The number of each client's transactions, which follow one after the other."""
    rows: int
    """Tasks inserted by each transaction."""
    held: tuple[float, float] | None
    """Seconds, at least and at most, that a transaction stays open after its insert; None for autocommit."""
    gap: float
    """The most seconds between two transactions."""


class Peer:
    def __init__(self, url: str) -> None:
        self.version = version("fang-tasks")
        self._url = url

    async def produce(self, traffic: list[dict[str, Any]], seed: int) -> dict[str, Any]:
        """Returns the tasks' numbers of each traffic and when their commits returned, by the machine's monotonic clock.

        ``seconds`` is the time until the last commit.
        """
        committed: list[list[tuple[int, float]]] = [[] for _ in traffic]
        async with AsyncQueue(self._url) as queue:
            clients = [
                _Client(queue, Traffic(**each), random.Random(f"{seed} {kind} {number}"), committed[kind])
                for kind, each in enumerate(traffic)
                for number in range(each["clients"])
            ]
            began = time.monotonic()
            numbers = itertools.count()
            await asyncio.gather(*(client.insert(self._url, numbers) for client in clients))
            return {"committed": committed, "seconds": time.monotonic() - began}


class _Client:
    def __init__(
        self, queue: AsyncQueue, traffic: Traffic, chance: random.Random, committed: list[tuple[int, float]]
    ) -> None:
        self._queue = queue
        self._traffic = traffic
        self._chance = chance
        self._committed = committed

    async def insert(self, url: str, numbers: Iterator[int]) -> None:
        """Runs all of its transactions."""
        connection = await asyncpg.connect(url)
        try:
            for _ in range(self._traffic.transactions):
                await asyncio.sleep(self._chance.uniform(0, self._traffic.gap))
                tasks = [Noop(n=number) for number in islice(numbers, self._traffic.rows)]
                await self._transact(connection, tasks)
                at = time.monotonic()
                self._committed += [(task.n, at) for task in tasks]
        finally:
            await connection.close()

    async def _transact(self, connection: Any, tasks: list[Noop]) -> None:
        if self._traffic.held is None:
            await self._queue.insert_tasks(tasks, connection=connection)
            return
        async with connection.transaction():
            await self._queue.insert_tasks(tasks, connection=connection)
            await asyncio.sleep(self._chance.uniform(*self._traffic.held))
