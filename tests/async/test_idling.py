"""How many connections a process keeps that has nothing to do."""

import asyncio
from typing import Any

import psycopg
import pytest

from fang_async import AsyncQueue, AsyncQueueable, AsyncRunnable, AsyncWorkerPool, connections, maintenance

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
                async with asyncio.timeout(10):
                    while clients() > 3:  # its heart, its listener, and what claims
                        await _rounds(pool, 2)
                    counts = []
                    for _ in range(3):
                        await _rounds(pool, 2)
                        counts.append(clients())
                return counts

    assert asyncio.run(seen()) == [3, 3, 3]


async def _rounds(pool: AsyncWorkerPool, count: int) -> None:
    """Until maintenance has been done so often."""
    store: Any = pool._shift.store
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
