"""What a connection of a queue keeps from one operation to the next: nothing, even where one was cancelled."""

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from fang_async import AsyncQueue, AsyncRunnable
from fang_async.connection import ARRAYS, Connection, Unanswered
from fang_async.database import Database
from fang_core.backends.claims import ClaimRequest
from fang_postgres.planner_guard import AlwaysOn

OURS = "datname = current_database() AND application_name = 'fang'"


class AsyncKept(AsyncRunnable):
    async def run(self, queue: Any) -> None: ...


@pytest.fixture
async def queue(url: str) -> AsyncIterator[AsyncQueue]:
    async with AsyncQueue(url, max_pool_size=1) as queue:
        yield queue


@pytest.fixture
async def watcher(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def test_an_insert_is_one_statement(queue: AsyncQueue, watcher: asyncpg.Connection) -> None:
    await queue.insert_task(AsyncKept())
    last = await watcher.fetchval(f"SELECT query FROM pg_stat_activity WHERE {OURS} ORDER BY query_start DESC LIMIT 1")
    assert "INSERT INTO fang.fang_tasks" in last


async def test_arrays_cross_without_asking_the_server_what_they_are(url: str) -> None:
    values: dict[str, list[Any]] = {
        "bool": [True, None],
        "int2": [-1],
        "int4": [2**31 - 1],
        "varchar": ["a,b", None, ""],
        "int8": [2**63 - 1],
        "float8": [0.5],
        "timestamptz": [datetime(2026, 2, 3, tzinfo=UTC)],
        "interval": [timedelta(days=1, seconds=2)],
        "uuid": [UUID(int=7), None],
    }
    connection = await asyncpg.connect(url, connection_class=Connection)
    for element, value in values.items():
        assert await connection.fetchval(f"SELECT $1::{element}[]", value) == value
    asked = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'WITH RECURSIVE typeinfo%'"
    assert await connection.fetchval(asked) == 0  # asyncpg's own question stays prepared
    rows = await connection.fetch(
        "SELECT oid, typname, typelem FROM pg_type WHERE typname = ANY($1::text[])", [f"_{name}" for name in values]
    )
    known = {(oid, array["name"], array["elemtype"]) for oid, array in ARRAYS.items()}
    assert {tuple(row.values()) for row in rows} == known
    await connection.close()


async def test_a_bulk_that_was_cancelled_leaves_nothing(queue: AsyncQueue, watcher: asyncpg.Connection) -> None:
    await cancelled(watcher, queue.insert_tasks([AsyncKept(), AsyncKept()]))
    assert await kept_by(await queue._connections.writes()) == (False, "on")
    task = await queue.insert_task(AsyncKept())
    assert [row["id"] for row in await watcher.fetch("SELECT id FROM fang.fang_tasks")] == [task.id]


async def test_a_guarded_claim_that_was_cancelled_leaves_nothing(
    queue: AsyncQueue, watcher: asyncpg.Connection
) -> None:
    store = await queue.store()
    store._guard_of_claims = AlwaysOn()
    await cancelled(watcher, store.claim(ClaimRequest(uuid4(), ("common",), (AsyncKept.__name__,), 1)))
    assert await kept_by(store._claims) == (False, "on")
    await store.close()


async def test_a_statement_that_was_refused_in_a_transaction_leaves_nothing(
    queue: AsyncQueue, watcher: asyncpg.Connection
) -> None:
    await watcher.execute("ALTER TABLE fang.fang_tasks ADD CHECK (priority < 2)")
    with pytest.raises(Exception, match="refused a value"):
        await queue.insert_tasks([AsyncKept()], priority=2)
    assert await kept_by(await queue._connections.writes()) == (False, "on")


async def test_a_loop_that_was_blocked_has_not_listened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fang_async.connection.ANSWER_WITHIN", 0.5)
    connection = await asyncpg.connect(url, connection_class=Connection)
    fetching = asyncio.create_task(connection.fetch("SELECT 1 AS one"))  # which has two answers
    await asyncio.sleep(0)  # it is under way
    time.sleep(1.0)  # noqa: ASYNC251 - as a run may
    assert [row["one"] for row in await fetching] == [1]
    with pytest.raises(Unanswered, match=r"no answer to a statement for 0\.5 s"):
        await connection.fetch("SELECT pg_sleep(60)")
    assert connection.is_closed()


async def cancelled(watcher: asyncpg.Connection, call: Awaitable[Any]) -> None:
    """Cancels a call once its statement waits for the table."""
    async with watcher.transaction():
        await watcher.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
        calling = asyncio.ensure_future(call)
        while not await watcher.fetchval(
            f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)
            await watcher.execute("SELECT pg_stat_clear_snapshot()")
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling


async def kept_by(database: Database) -> tuple[bool, str]:
    """Whether the connection that is given out next is in a transaction, and one of the guard's settings."""
    connection = await database.connection_pool.take()
    kept = connection.is_in_transaction(), await connection.fetchval("SHOW enable_sort")
    database.connection_pool.give_back(connection)
    return kept


@pytest.mark.parametrize("sslmode", ["prefer", "disable"])
async def test_a_connect_that_is_cancelled_at_any_step_leaves_no_error_to_the_loop(sslmode: str) -> None:
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context)))
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"postgresql://fang@127.0.0.1:{silent.getsockname()[1]}/app?sslmode={sslmode}"
        for steps in range(20):
            inserting = asyncio.create_task(AsyncQueue(url).insert_task(AsyncKept()))
            await turns(steps)
            inserting.cancel()
            await asyncio.wait([inserting])
        await turns(5)  # the loop closes the last socket
    gc.collect()
    assert told == []


async def turns(count: int) -> None:
    """Lets the loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_loop_that_is_blocked_for_longer_than_a_connect_may_take_ends_none(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where many tasks begin an insert at once."""
    monkeypatch.setattr("fang_postgres.urls.address.CONNECT_TIMEOUT", 2.0)
    connecting = asyncio.create_task(AsyncQueue(url)._connections.dedicated())
    await asyncio.sleep(0)  # it has begun
    time.sleep(2.5)  # noqa: ASYNC251
    connection = await connecting
    connection.terminate()
