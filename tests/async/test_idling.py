"""How many connections a process keeps that has nothing to do."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from fang_async import (
    AsyncQueue,
    AsyncQueueable,
    AsyncRunnable,
    AsyncWorkerPool,
    SleepParams,
    connections,
)
from fang_core.pool import maintenance
from tests.patience import PATIENT

CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class Rare(AsyncRunnable):
    async def run(self, queue: AsyncQueueable) -> None: ...


def test_an_idle_pool_keeps_three_and_is_maintained_on_these(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNUSED_FOR", 0.2)
    monkeypatch.setattr(maintenance, "EVERY", 0.05)

    async def seen() -> list[int]:
        with psycopg.connect(url, autocommit=True) as connection:

            def clients() -> int:
                return int(connection.execute(CLIENTS).fetchall()[0][0])

            async with AsyncQueue(url) as queue, AsyncWorkerPool(queue) as pool:
                await queue.insert_task(Rare())
                await pool.drain()
                async with asyncio.timeout(PATIENT):
                    while clients() > 3:  # its heart, its listener, and what claims
                        await _rounds(pool, 2)
                    counts = []
                    for _ in range(3):
                        await _rounds(pool, 2)
                        counts.append(clients())
                return counts

    assert asyncio.run(seen()) == [3, 3, 3]


def test_a_pool_that_hardly_looks_keeps_its_heart_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands between may forget a connection from one look to the next."""
    monkeypatch.setattr(connections, "UNUSED_FOR", 0.2)
    hour = timedelta(hours=1)
    sleep = SleepParams(min_sleep_period=hour, max_sleep_period=hour)

    async def ran() -> int:
        with psycopg.connect(url, autocommit=True) as connection:
            async with AsyncQueue(url) as queue, AsyncWorkerPool(queue, sleep_params=sleep, listen=False) as pool:
                async with asyncio.timeout(PATIENT):
                    while connection.execute(CLIENTS).fetchall() != [(1,)]:
                        await asyncio.sleep(0.01)
                        connection.execute("SELECT pg_stat_clear_snapshot()")
                await queue.insert_task(Rare())
                return await pool.drain()

    assert asyncio.run(ran()) == 1


async def _rounds(pool: AsyncWorkerPool, count: int) -> None:
    """Until maintenance has been done so often."""
    store: Any = pool._lifetime.store
    done = asyncio.Event()
    left = count
    prune = store.prune

    async def counted(request: Any) -> int:
        nonlocal left
        result: int = await prune(request)
        left -= 1
        if left <= 0:
            done.set()
        return result

    store.prune = counted
    await done.wait()
    store.prune = prune
