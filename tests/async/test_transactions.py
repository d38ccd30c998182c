"""Inserting in the caller's transaction: it commits, rolls back, and survives a refusal with everything else there."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from fang_async import AsyncQueue
from fang_core import AsyncRunnable, PayloadError, UsageError


class AsyncReceipt(AsyncRunnable):
    n: int = 0
    note: str = ""

    async def run(self, queue: Any) -> None: ...


@pytest.fixture
async def queue(url: str) -> AsyncIterator[AsyncQueue]:
    async with AsyncQueue(url) as queue:
        yield queue


class Raw:
    """An asyncpg connection in a transaction, ended as SQLAlchemy's are."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.handle = connection
        self._transaction = connection.transaction()

    async def begin(self) -> None:
        await self._transaction.start()

    async def execute(self, statement: str) -> None:
        await self.handle.execute(statement)

    async def commit(self) -> None:
        await self._transaction.commit()

    async def rollback(self) -> None:
        await self._transaction.rollback()


class Alchemy:
    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.commit, self.rollback = handle.commit, handle.rollback

    async def execute(self, statement: str) -> None:
        await self.handle.execute(text(statement))


@pytest.fixture(params=["asyncpg", "pooled", "session-asyncpg", "connection-asyncpg", "session-psycopg_async"])
async def caller(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Any]:
    kind, _, driver = request.param.partition("-")
    if kind == "asyncpg":
        connection = await asyncpg.connect(url)
        raw = Raw(connection)
        await raw.begin()
        yield raw
        await connection.close()
    elif kind == "pooled":
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
            raw = Raw(connection)
            await raw.begin()
            yield raw
    else:
        engine = create_async_engine(make_url(url).set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(engine) if kind == "session" else engine.connect() as made:
            yield Alchemy(made)
        await engine.dispose()


async def test_committed(queue: AsyncQueue, caller: Any) -> None:
    one = await queue.insert_task(AsyncReceipt(n=1), connection=caller.handle)
    many = await queue.insert_tasks([AsyncReceipt(n=n) for n in range(3)], connection=caller.handle)
    assert await queue.find_task_by_id(one.id) is None
    assert await queue.find_task_by_id(one.id, connection=caller.handle) == one
    await caller.commit()
    assert [await queue.find_task_by_id(task.id) for task in [one, *many]] == [one, *many]


async def test_rolled_back(queue: AsyncQueue, caller: Any) -> None:
    task = await queue.insert_task(AsyncReceipt(), connection=caller.handle)
    await caller.rollback()
    assert await queue.find_task_by_id(task.id) is None


async def test_savepoint(queue: AsyncQueue, caller: Any) -> None:
    kept = await queue.insert_task(AsyncReceipt(n=1), connection=caller.handle)
    await caller.execute("SAVEPOINT here")
    undone = await queue.insert_task(AsyncReceipt(n=2), connection=caller.handle)
    await caller.execute("ROLLBACK TO SAVEPOINT here")
    await caller.commit()
    assert await queue.find_task_by_id(kept.id) == kept
    assert await queue.find_task_by_id(undone.id) is None


async def test_a_refused_task_leaves_the_transaction_usable(queue: AsyncQueue, caller: Any) -> None:
    kept = await queue.insert_task(AsyncReceipt(), connection=caller.handle)
    with pytest.raises(PayloadError):
        await queue.insert_task(AsyncReceipt(note="\0"), connection=caller.handle)
    await caller.commit()
    assert await queue.find_task_by_id(kept.id) == kept


async def test_autocommit_stands_at_once(queue: AsyncQueue, url: str) -> None:
    connection = await asyncpg.connect(url)
    task = await queue.insert_task(AsyncReceipt(), connection=connection)
    assert await queue.find_task_by_id(task.id) == task
    await connection.close()


async def test_other_objects_are_refused(queue: AsyncQueue) -> None:
    with pytest.raises(UsageError, match="takes an asyncpg connection"):
        await queue.insert_task(AsyncReceipt(), connection=object())
