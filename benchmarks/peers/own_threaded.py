"""Measures Fang's threaded mode in more ways: tasks that take time, compute or fail, single inserts, idling.

Nothing else runs on the event loop, so it may be blocked.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from resource import getpagesize
from typing import Any

import psycopg
from uuid_utils.compat import uuid7

from fang_threaded import Cron, Queue, Queueable, Runnable, TaskConfig, WorkerPool, current_run

# The columns that insert_task writes, and nothing else.
PLAIN = b"""INSERT INTO fang.fang_tasks (id, metadata, task_type, scheduled_at, priority, max_retries)
VALUES (%s, %s::text::jsonb, 'common', clock_timestamp(), 0, 20) RETURNING scheduled_at, created_at"""


class Noop(Runnable):
    n: int

    def run(self, queue: Queueable) -> None: ...


class Wait(Runnable):
    ms: float

    def run(self, queue: Queueable) -> None:
        time.sleep(self.ms / 1000)


class Compute(Runnable):
    loops: int

    def run(self, queue: Queueable) -> None:
        for _ in range(self.loops):
            pass


class Flaky(Runnable):
    """Fails once, and is due again at once."""

    task_config = TaskConfig(backoff=lambda failures: timedelta(0))
    n: int

    def run(self, queue: Queueable) -> None:
        if current_run().task.retries == 0:
            raise ConnectionError("as it happens")


class Once(Runnable):
    task_config = TaskConfig(uniq=True)
    n: int

    def run(self, queue: Queueable) -> None: ...


class Peer:
    def __init__(self, url: str, *, workers: int = 10) -> None:
        self._url = url
        self._workers = workers

    async def install(self) -> None:
        from fang_postgres import migrate  # here, so that an idle process is not weighed with Alembic

        migrate.upgrade(self._url)

    async def insert_noops(self, tasks: int) -> None:
        with Queue(self._url) as queue:
            queue.insert_tasks([Noop(n=n) for n in range(tasks)])

    async def insert_waits(self, tasks: int, ms: float) -> None:
        with Queue(self._url) as queue:
            queue.insert_tasks([Wait(ms=ms)] * tasks)

    async def insert_computations(self, tasks: int, loops: int) -> None:
        with Queue(self._url) as queue:
            queue.insert_tasks([Compute(loops=loops)] * tasks)

    async def insert_mixed(self, tasks: int) -> None:
        """Inserts tasks, and a schedule that ticks each second. One task in ten fails once; one in ten is unique, and
        half of these meet an equal one."""

        class Tick(Runnable):  # defined here: a process that knows it would never be idle
            task_config = TaskConfig(cron=Cron("* * * * * *"))

            def run(self, queue: Queueable) -> None: ...

        kinds: list[Callable[..., Runnable]] = [Flaky, Once, *[Noop] * 8]
        with Queue(self._url) as queue:
            queue.schedule_task(Tick())
            queue.insert_tasks([kinds[n % 10](n=n // 20) for n in range(tasks)])

    async def drain_all(self) -> int:
        """Runs tasks until no due one is left; returns how many ran here."""
        with Queue(self._url) as queue:
            return WorkerPool(queue, number_of_workers=self._workers).drain()

    async def insert_single(self, clients: int, tasks: int) -> float:
        """Returns the rows a second of ``insert_task``."""
        with Queue(self._url, max_pool_size=clients) as queue:
            return _rate(clients, tasks, lambda: lambda n: queue.insert_task(Noop(n=n)))

    async def insert_plain(self, clients: int, tasks: int) -> float:
        """Returns the rows a second of an INSERT of the same row, by the driver itself, on a connection per client."""

        def client() -> Callable[[int], Any]:
            connection = psycopg.connect(self._url, autocommit=True)
            text = '{"type": "Noop", "n": %d}'
            return lambda n: connection.execute(PLAIN, (uuid7(), text % n), prepare=True).fetchone()

        return _rate(clients, tasks, client)

    async def idle(self, settling: float, seconds: float) -> dict[str, float]:
        """Returns the costs of a process whose pool finds nothing to do, ``settling`` seconds after its start."""
        with Queue(self._url) as queue, WorkerPool(queue, number_of_workers=self._workers):
            await asyncio.sleep(settling)
            before = time.process_time()
            await asyncio.sleep(seconds)
            cpu = time.process_time() - before
            return {"cpu": 100 * cpu / seconds, "rss": _resident_bytes() / 1e6}


def _rate(clients: int, tasks: int, client: Callable[[], Callable[[int], Any]]) -> float:
    ready = threading.Barrier(clients + 1)

    def insert() -> None:
        one = client()
        one(0)  # its connection is there, and its statement prepared
        ready.wait()
        for n in range(tasks // clients):
            one(n)

    threads = [threading.Thread(target=insert) for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return tasks // clients * clients / (time.perf_counter() - began)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
