"""``connection=`` takes what an application has, however that is set up."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from fang_async import AsyncQueue
from fang_core import AsyncRunnable, InsertOptions, Task, TaskConfig, TaskState, TwinExists, UsageError
from tests.hostile import ELSEWHERE, LONG_AGO, SOON, STRANGE, TERMS, OwnRecord, codecs_of_nonsense, settings_of_async


class Noted(AsyncRunnable):
    task_config = TaskConfig(kind="AsyncNoted", task_type=f"hand, \"ed\\' {STRANGE}")
    n: int = 0
    text: str = STRANGE

    async def run(self, queue: Any) -> None: ...


class Yearly(AsyncRunnable):
    task_config = TaskConfig(kind="AsyncYearly", cron="@yearly")

    async def run(self, queue: Any) -> None: ...


TYPE = Noted.__fang_options__.task_type


@pytest.fixture
async def queue(url: str) -> AsyncIterator[AsyncQueue]:
    async with AsyncQueue(url) as queue:
        yield queue


async def on_terms(queue: AsyncQueue, connection: Any) -> None:
    """A unique task on each of its terms, which it leaves nothing of."""
    for number, uniq in enumerate(TERMS):
        notes = [Noted(n=30 + 3 * number + n) for n in (0, 1, 2)]
        options: InsertOptions = {"uniq": uniq, "expires": timedelta(days=9), "timeout": timedelta(seconds=7)}
        first = await queue.insert_tasks(
            notes, task_type="terms", headers={STRANGE: STRANGE}, connection=connection, **options
        )
        assert [task.conflict for task in first] == [False] * 3
        again = await queue.insert_task(
            notes[1], task_type="terms", connection=connection, delay=timedelta(minutes=1), **options
        )
        assert (again.id, again.conflict) == (first[1].id, True)
        assert await queue.find_task_by_id(again.id, connection=connection) == again._replace(conflict=False)
        assert (again.headers is None) == (uniq.on_conflict == "replace")
        raising = dataclasses.replace(uniq, on_conflict="raise")
        with pytest.raises(TwinExists):
            await queue.insert_tasks([notes[2], Noted(n=99)], uniq=raising, task_type="terms", connection=connection)
    assert await queue.remove_tasks_type("terms", connection=connection) == 3 * len(TERMS)


async def every_verb(queue: AsyncQueue, connection: Any) -> None:
    """What each returns is what a connection of our own reads."""

    async def stands(task: Task | None) -> Task:
        assert task is not None
        assert await queue.find_task_by_id(task.id, connection=connection) == task._replace(conflict=False)
        return task

    one = await stands(await queue.insert_task(Noted(n=1), connection=connection))
    soon = await stands(await queue.insert_task(Noted(n=2), scheduled_at=SOON, connection=connection))
    assert soon.scheduled_at == SOON
    late = await stands(await queue.insert_task(Noted(n=3), delay=timedelta(days=1, seconds=7), connection=connection))
    assert timedelta(days=1) < late.scheduled_at - late.created_at < timedelta(days=1, minutes=1)
    due = await stands(await queue.insert_task(Noted(n=5), scheduled_at=LONG_AGO, connection=connection))
    first = await stands(await queue.insert_task(Noted(n=4), uniq=True, connection=connection))
    assert (await stands(await queue.insert_task(Noted(n=4), uniq=True, connection=connection))).id == first.id
    many = await queue.insert_tasks([Noted(n=n) for n in range(10, 13)], connection=connection)
    unique = await queue.insert_tasks([Noted(n=n) for n in (20, 4, 20)], uniq=True, connection=connection)
    assert [(await stands(task)).conflict for task in many + unique] == [False] * 4 + [True, True]
    await on_terms(queue, connection)
    await stands(await queue.schedule_task(Yearly(), connection=connection))
    failed = await stands(await queue.fail_task(one, STRANGE, connection=connection))
    assert (failed.state, failed.error_message) == (TaskState.FAILED, STRANGE)
    await stands(await queue.update_task_state(failed, TaskState.NEW, connection=connection))
    fetched = await stands(await queue.fetch_and_touch_task(TYPE, connection=connection))
    assert (fetched.id, fetched.state) == (due.id, TaskState.IN_PROGRESS)
    await stands(await queue.schedule_retry(fetched, timedelta(hours=1), "Ж", connection=connection))
    assert await queue.remove_task(fetched.id, connection=connection) == 1
    assert await queue.remove_task_by_metadata(Noted(n=20), connection=connection) == 1
    assert await queue.remove_all_scheduled_tasks(connection=connection) == 3
    assert await queue.remove_tasks_type(TYPE, connection=connection) == 5
    assert await queue.remove_all_tasks(connection=connection) == 0


async def prepare(connection: Any, encoding: str = "LATIN1") -> None:
    await settings_of_async(connection.execute, client_encoding=encoding)
    await codecs_of_nonsense(connection)


@asynccontextmanager
async def raw(url: str, encoding: str = "LATIN1", **options: Any) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, **options)
    await prepare(connection, encoding)
    yield connection
    await connection.close()


@asynccontextmanager
async def pooled(url: str) -> AsyncIterator[Any]:
    pool = asyncpg.create_pool(url, min_size=1, max_size=1, init=prepare)
    async with pool, pool.acquire() as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def on_engine(url: str, wrap: Callable[[Any], Any]) -> AsyncIterator[Any]:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.connect():
        pass  # SQLAlchemy itself asks for the version first
    await engine.dispose()
    event.listen(engine.sync_engine, "connect", lambda connection, _: connection.run_async(prepare))
    connection = wrap(engine)
    yield connection
    await connection.close()
    await engine.dispose()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    async with on_engine(url, lambda engine: engine.connect()) as starting, starting as connection:
        yield connection


KINDS: dict[str, Callable[[str], Any]] = {
    "asyncpg": raw,
    "asyncpg, UTF8": lambda url: raw(url, "UTF8"),
    "asyncpg, SQL_ASCII": lambda url: raw(url, "SQL_ASCII"),
    "asyncpg, no cache": lambda url: raw(url, statement_cache_size=0),
    "asyncpg, own record": lambda url: raw(url, record_class=OwnRecord),
    "asyncpg's pool": pooled,
    "AsyncSession": lambda url: on_engine(url, AsyncSession),
    "AsyncConnection": connected,
    "AsyncSession that streams": lambda url: on_engine(
        url, lambda engine: AsyncSession(engine.execution_options(stream_results=True))
    ),
    "AsyncSession of a tenant": lambda url: on_engine(
        url, lambda engine: AsyncSession(engine.execution_options(**ELSEWHERE))
    ),
    "async_scoped_session": lambda url: on_engine(
        url, lambda engine: async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_verb_on_every_connection(queue: AsyncQueue, url: str, kind: str) -> None:
    async with KINDS[kind](url) as connection:
        await every_verb(queue, connection)


async def test_what_is_no_connection_is_refused_before_anything_is_sent(queue: AsyncQueue, url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    beneath = await engine.raw_connection()
    sync_engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    async with asyncpg.create_pool(url, min_size=0) as pool:
        for other in (beneath, engine, async_sessionmaker(engine), Session(sync_engine), pool, url):
            with pytest.raises(UsageError, match="connection="):
                await queue.insert_task(Noted(), connection=other)
    other = type("AsyncConnection", (), {"__module__": "psycopg"})()
    with pytest.raises(UsageError, match=r"an AsyncSession or an AsyncConnection, not psycopg\.AsyncConnection"):
        await queue.insert_task(Noted(), connection=other)
    beneath.close()
    await engine.dispose()
    assert await queue.remove_all_tasks() == 0
