"""Connections that are lent and come back."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import asyncpg
import pytest

from fang_async import AsyncQueue, AsyncRunnable
from fang_async.connection_pool import ConnectionPool
from fang_async.database import Database
from fang_async.pooler import PoolerConnection
from fang_core.errors import BackendError, BackendUnavailable
from tests.patience import PATIENT


class AsyncLoan(AsyncRunnable):
    async def run(self, queue: Any) -> None: ...


@pytest.fixture
async def pool(url: str) -> AsyncIterator[ConnectionPool]:
    made: list[asyncpg.Connection] = []

    async def connect() -> asyncpg.Connection:
        made.append(await asyncpg.connect(url))
        return made[-1]

    yield ConnectionPool(connect, 2)
    for connection in made:
        connection.terminate()


async def test_the_last_that_came_back_goes_out_first(pool: ConnectionPool) -> None:
    first, second = await pool.take(), await pool.take()
    pool.give_back(first)
    pool.give_back(second)
    assert [await pool.take(), await pool.take()] == [second, first]


async def test_no_more_than_its_size_and_a_wait_for_one(pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = await pool.take(), await pool.take()
    monkeypatch.setattr("fang_postgres.connections.acquire_timeout.WAIT_FOR_ONE", 0.01)
    with pytest.raises(BackendError, match="raise max_pool_size"):
        await pool.take()
    monkeypatch.undo()
    waiting = asyncio.create_task(pool.take())
    await asyncio.sleep(0)  # it has asked
    assert not waiting.done()
    pool.give_back(first)
    assert await waiting is first


async def test_who_waits_gives_up_where_nobody_got_one_for_so_long_and_not_in_a_line_that_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, judged = 0.0, asyncio.Semaphore(0)

    def monotonic() -> float:
        judged.release()
        return now

    monkeypatch.setattr("fang_async.connection_pool.time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr("fang_postgres.connections.acquire_timeout.WAIT_FOR_ONE", 0.01)  # of both clocks

    connection: Any = Mock(is_closed=lambda: False, _transport=None)
    pool = ConnectionPool(AsyncMock(return_value=connection), 1)
    lent = await pool.take()
    first, last = [asyncio.create_task(pool.take()) for _ in range(2)]
    await asyncio.sleep(0)  # they have asked
    now = 0.009
    pool.give_back(lent)
    assert await asyncio.wait_for(first, PATIENT) is lent
    now = 0.018
    while not judged.locked():
        await judged.acquire()
    for _ in range(3):
        await asyncio.wait_for(judged.acquire(), PATIENT)
    assert not last.done()
    now = 0.02
    with pytest.raises(BackendError, match="raise max_pool_size"):
        await asyncio.wait_for(last, PATIENT)


async def test_a_caller_that_has_a_place_and_no_connection_yet_moves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now, connected = 0.0, asyncio.Event()

    async def connect() -> Any:
        await connected.wait()
        return Mock()

    monkeypatch.setattr("fang_async.connection_pool.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("fang_postgres.connections.acquire_timeout.WAIT_FOR_ONE", 0.01)
    pool = ConnectionPool(connect, 1)
    first, last = [asyncio.create_task(pool.take()) for _ in range(2)]
    await asyncio.sleep(0)  # they have asked
    now = 0.01
    with pytest.raises(BackendError, match="raise max_pool_size"):
        await asyncio.wait_for(last, PATIENT)
    connected.set()
    await asyncio.wait_for(first, PATIENT)


async def test_a_waiting_pool_has_every_second_turn() -> None:
    pool = ConnectionPool(AsyncMock(), 1)
    turns: list[str] = []

    async def take(name: str) -> None:
        await pool.take(of_pool=name == "pool")
        turns.append(name)
        pool._leave()

    await pool.take()
    async with asyncio.TaskGroup() as group:
        for name in ["insert", "insert", "insert", "pool", "pool"]:
            group.create_task(take(name))
        await asyncio.sleep(0)  # they have asked
        pool._leave()
    assert turns == ["pool", "insert", "pool", "insert", "insert"]


async def test_callers_that_are_cancelled_in_line_or_with_a_place_keep_none() -> None:
    pool = ConnectionPool(AsyncMock(), 1)
    await pool.take()
    waiting = [asyncio.create_task(pool.take()) for _ in range(5_000)]
    await asyncio.sleep(0)  # they have asked
    for task in waiting[1:-1]:
        task.cancel()
    pool._leave()
    waiting[0].cancel()  # it has a place, and does not know it yet
    await asyncio.wait(waiting[:-1])
    await asyncio.wait_for(waiting[-1], PATIENT)
    assert pool._places.taken == 1


async def test_those_that_nobody_used_are_closed(url: str) -> None:
    pool = ConnectionPool(partial(asyncpg.connect, url), 3, unused_for=0.1)
    first, second, third = [await pool.take() for _ in range(3)]
    for connection in (first, second, third):
        pool.give_back(connection)
    async with asyncio.timeout(PATIENT):
        while not (first.is_closed() and second.is_closed()):
            assert await pool.take() is third  # used again and again
            await third.fetchval("SELECT pg_sleep(0.01)")
            pool.give_back(third)
    assert await pool.take() is third
    assert await pool.take() not in (first, second)
    await pool.close()


async def test_a_failed_connect_takes_no_place() -> None:
    async def connect() -> asyncpg.Connection:
        raise OSError("nobody there")

    pool = ConnectionPool(connect, 1)
    for _ in range(3):
        with pytest.raises(OSError, match="nobody there"):
            await pool.take()


async def test_one_in_a_transaction_is_rolled_back(pool: ConnectionPool) -> None:
    connection = await pool.take()
    await connection.transaction().start()
    loop, shown = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: shown.append(context["message"]))  # asyncpg tells of it
    await pool.tidy(connection)
    assert not connection.is_in_transaction()
    assert await pool.take() is connection
    assert len(shown) == 1


async def test_one_that_died_is_replaced(pool: ConnectionPool) -> None:
    idle, lent = await pool.take(), await pool.take()
    pool.give_back(idle)
    idle.terminate()
    lent.terminate()
    await pool.tidy(lent)
    for connection in [await pool.take(), await pool.take()]:
        assert await connection.fetchval("SELECT 1") == 1


async def test_tidying_goes_on_without_its_caller(pool: ConnectionPool) -> None:
    connection, _ = await pool.take(), await pool.take()
    await connection.execute("BEGIN")
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    caller = asyncio.create_task(pool.tidy(connection))
    await asyncio.sleep(0)  # it has begun
    caller.cancel()
    assert await pool.take() is connection
    assert not connection.is_in_transaction()


async def test_the_end_waits_for_what_is_lent(pool: ConnectionPool) -> None:
    lent = await pool.take()
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)  # it has begun
    assert await lent.fetchval("SELECT 1") == 1
    pool.give_back(lent)
    await closing
    assert lent.is_closed()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await pool.take()


async def test_the_end_does_not_wait_for_long(pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fang_async.connection_pool.TIDY_WITHIN", 0.01)
    lent = await pool.take()
    await pool.close()
    assert lent.is_closed()


async def test_a_bulk_whose_connection_dies_leaves_nothing(url: str) -> None:
    other = await asyncpg.connect(url)
    async with AsyncQueue(url, max_pool_size=1) as queue:
        await other.execute(
            "CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        await other.execute("CREATE TRIGGER kill AFTER INSERT ON fang.fang_tasks EXECUTE FUNCTION kill()")
        with pytest.raises(BackendUnavailable):
            await queue.insert_tasks([AsyncLoan(), AsyncLoan()])
        await other.execute("DROP TRIGGER kill ON fang.fang_tasks")
        assert await other.fetchval("SELECT count(*) FROM fang.fang_tasks") == 0
        assert len(await queue.insert_tasks([AsyncLoan(), AsyncLoan()])) == 2
    await other.close()


async def test_a_close_that_is_cancelled_ends_all_and_keeps_no_place(pool: ConnectionPool) -> None:
    idle, lent = await pool.take(), await pool.take()
    pool.give_back(idle)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)  # it waits for the one that is lent
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert idle.is_closed()
    assert lent.is_closed()
    pool.give_back(lent)
    assert pool._places.taken == 0


async def test_tidying_that_is_cancelled_ends_the_connection_and_keeps_no_place(pool: ConnectionPool) -> None:
    connection = await pool.take()
    await connection.transaction().start()
    tidying = asyncio.create_task(pool.tidy(connection))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()  # as asyncio.run() does at its end
    with pytest.raises(asyncio.CancelledError):
        await tidying
    assert await pool.take() is not connection
    assert await asyncio.wait_for(pool.take(), 1) is not connection


async def test_one_that_leads_to_a_server_without_writes_is_not_lent_again(pool: ConnectionPool) -> None:
    """An address may lead to the primary again: only a new connection gets there."""
    connection = await pool.take()
    pool.give_back(connection)

    async def refused(_: Any) -> None:
        raise asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction")

    with pytest.raises(BackendError, match="connect to a server that takes writes"):
        await Database(pool, "fang")._on_connection(refused, None, in_transaction=False)
    assert connection.is_closed()
    assert await pool.take() is not connection


async def test_behind_a_pooler_one_that_cannot_begin_is_not_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may lead to a standby, and another one elsewhere."""
    monkeypatch.setattr(PoolerConnection, "BEGIN", "SELECT 1/0")
    connection = await asyncpg.connect(url, connection_class=PoolerConnection, statement_cache_size=0)
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with connection.transaction():
            raise AssertionError("it has not begun")
    assert connection.is_closed()
