"""Measures Fang's async mode in more ways: tasks that take time or fail, single inserts, an idle process."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from resource import getpagesize
from typing import Any

import asyncpg
from uuid_utils.compat import uuid7

from fang_async import AsyncQueue, AsyncQueueable, AsyncRunnable, AsyncWorkerPool, Cron, TaskConfig, current_run

Insert = Callable[[int], Awaitable[Any]]

# The columns that insert_task writes, and nothing else.
PLAIN = """INSERT INTO fang.fang_tasks (id, metadata, task_type, scheduled_at, priority, max_retries)
VALUES ($1, $2::text::jsonb, 'common', clock_timestamp(), 0, 20) RETURNING scheduled_at, created_at"""


class Noop(AsyncRunnable):
    n: int

    async def run(self, queue: AsyncQueueable) -> None: ...


class Wait(AsyncRunnable):
    ms: float

    async def run(self, queue: AsyncQueueable) -> None:
        await asyncio.sleep(self.ms / 1000)


class Flaky(AsyncRunnable):
    """Fails once, and is due again at once."""

    task_config = TaskConfig(backoff=lambda failures: timedelta(0))
    n: int

    async def run(self, queue: AsyncQueueable) -> None:
        if current_run().task.retries == 0:
            raise ConnectionError("as it happens")


class Once(AsyncRunnable):
    task_config = TaskConfig(uniq=True)
    n: int

    async def run(self, queue: AsyncQueueable) -> None: ...


class Peer:
    def __init__(self, url: str, *, workers: int = 10) -> None:
        self._url = url
        self._workers = workers

    async def install(self) -> None:
        from fang_postgres import migrate  # here, so that an idle process is not weighed with Alembic

        migrate.upgrade(self._url)

    async def insert_noops(self, tasks: int) -> None:
        async with AsyncQueue(self._url) as queue:
            await queue.insert_tasks([Noop(n=n) for n in range(tasks)])

    async def insert_waits(self, tasks: int, ms: float) -> None:
        async with AsyncQueue(self._url) as queue:
            await queue.insert_tasks([Wait(ms=ms)] * tasks)

    async def insert_mixed(self, tasks: int) -> None:
        """Inserts tasks, and a schedule that ticks each second. One task in ten fails once; one in ten is unique, and
        half of these meet an equal one."""

        class Tick(AsyncRunnable):  # defined here: a process that knows it would never be idle
            task_config = TaskConfig(cron=Cron("* * * * * *"))

            async def run(self, queue: AsyncQueueable) -> None: ...

        kinds: list[Callable[..., AsyncRunnable]] = [Flaky, Once, *[Noop] * 8]
        async with AsyncQueue(self._url) as queue:
            await queue.schedule_task(Tick())
            await queue.insert_tasks([kinds[n % 10](n=n // 20) for n in range(tasks)])

    async def drain_all(self) -> int:
        """Runs tasks until no due one is left; returns how many ran here."""
        async with AsyncQueue(self._url) as queue:
            return await AsyncWorkerPool(queue, number_of_workers=self._workers).drain()

    async def insert_single(self, clients: int, tasks: int) -> float:
        """Returns the rows a second of ``insert_task``."""
        async with AsyncQueue(self._url, max_pool_size=clients) as queue:
            return await _rate(tasks, [lambda n: queue.insert_task(Noop(n=n))] * clients)

    async def insert_plain(self, clients: int, tasks: int) -> float:
        """Returns the rows a second of an INSERT of the same row, by the driver itself, on a connection per client."""
        connections = [await asyncpg.connect(self._url) for _ in range(clients)]
        text = '{"type": "Noop", "n": %d}'

        def client(connection: asyncpg.Connection) -> Insert:
            return lambda n: connection.fetchrow(PLAIN, uuid7(), text % n)

        rate = await _rate(tasks, [client(connection) for connection in connections])
        for connection in connections:
            await connection.close()
        return rate

    async def idle(self, settling: float, seconds: float) -> dict[str, float]:
        """Returns the costs of a process whose pool finds nothing to do, ``settling`` seconds after its start."""
        async with AsyncQueue(self._url) as queue, AsyncWorkerPool(queue, number_of_workers=self._workers):
            await asyncio.sleep(settling)
            before = time.process_time()
            await asyncio.sleep(seconds)
            cpu = time.process_time() - before
            return {"cpu": 100 * cpu / seconds, "rss": _resident_bytes() / 1e6}


async def _rate(tasks: int, clients: Sequence[Insert]) -> float:
    await asyncio.gather(*(insert(0) for insert in clients))  # each connection is there, and its statement prepared
    numbers = iter(range(tasks))

    async def client(insert: Insert) -> None:
        for n in numbers:
            await insert(n)

    began = time.perf_counter()
    await asyncio.gather(*(client(insert) for insert in clients))
    return tasks / (time.perf_counter() - began)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
