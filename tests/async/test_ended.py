"""Connections that were ended while idle, and calls that are cancelled on connections that have fallen silent."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

import fang_postgres.pool.heart
from fang_async import AsyncQueue, AsyncRunnable
from fang_async.connection import Connection
from fang_async.dedicated_connection import DedicatedConnection
from fang_core.backends.pools import manual_pool
from fang_core.errors import BackendUnavailable, NotConnected
from fang_core.liveness import BeatRequest
from fang_postgres.operations import Operations
from tests.proxy import Mode, Proxy

SOON = 20.0
"""Seconds within which a call has ended that does not wait for an answer; it would be ``ANSWER_WITHIN`` otherwise."""


class Ended(AsyncRunnable):
    n: int = 0

    async def run(self, queue: Any) -> None: ...


@pytest.fixture(params=[False, True], ids=["direct", "pooler"])
def behind_pooler(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def proxy(url: str) -> Any:
    with Proxy(url) as proxy:
        yield proxy


@pytest.fixture
async def watcher(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


CALLS: dict[str, Callable[[AsyncQueue], Coroutine[Any, Any, Any]]] = {
    "one": lambda queue: queue.insert_task(Ended()),
    "two": lambda queue: queue.insert_tasks([Ended(), Ended()]),
    "unique": lambda queue: queue.insert_tasks([Ended(n=1), Ended(n=2)], uniq=True),
    "many": lambda queue: queue.insert_tasks([Ended(n=n) for n in range(2_500)]),
    "find": lambda queue: queue.find_task_by_id(uuid4()),
}


def last_words(connection: Any, code: str = "57P01") -> None:
    """What a server sends before it ends a session; its end, which follows, has not come yet."""
    fields = f"SFATAL\0VFATAL\0C{code}\0Mterminating connection due to administrator command\0\0".encode()
    connection._protocol.data_received(b"E" + struct.pack("!i", len(fields) + 4) + fields)


async def idle_connections(queue: AsyncQueue, count: int) -> list[Any]:
    connection_pool = (await queue._connections.writes()).connection_pool
    connections = [await connection_pool.take() for _ in range(count)]
    for connection in connections:
        connection_pool.give_back(connection)
    return connections


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_after_the_servers_last_words_goes_to_another_connection(
    url: str, watcher: asyncpg.Connection, behind_pooler: bool, call: str
) -> None:
    async with AsyncQueue(url, behind_pooler=behind_pooler) as queue:
        ended = await idle_connections(queue, 3)
        for connection in ended:
            last_words(connection)
            assert not connection.is_closed()
        await CALLS[call](queue)
        assert all(connection.is_closed() for connection in ended)
        expected = {"one": 1, "two": 2, "unique": 2, "many": 2_500, "find": 0}[call]
        assert await watcher.fetchval("SELECT count(*) FROM fang.fang_tasks") == expected


async def test_where_no_other_can_be_made_it_is_no_connection(proxy: Proxy, behind_pooler: bool) -> None:
    async with AsyncQueue(proxy.url, behind_pooler=behind_pooler) as queue:
        (ended,) = await idle_connections(queue, 1)
        last_words(ended)
        proxy.set(Mode.REFUSE)
        with pytest.raises(NotConnected):
            await queue.insert_task(Ended())


async def test_one_that_is_ended_twice_in_a_row_is_no_connection(
    url: str, watcher: asyncpg.Connection, behind_pooler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncQueue(url, behind_pooler=behind_pooler) as queue:
        connection_pool = (await queue._connections.writes()).connection_pool
        take = connection_pool.take

        async def doomed(**options: Any) -> Any:
            connection = await take(**options)
            last_words(connection)
            return connection

        monkeypatch.setattr(connection_pool, "take", doomed)
        with pytest.raises(NotConnected, match="ended the connection while it was idle; nothing was sent"):
            await queue.insert_task(Ended())
        monkeypatch.undo()
        assert await watcher.fetchval("SELECT count(*) FROM fang.fang_tasks") == 0


async def test_last_words_within_a_transaction_have_it_done_again_as_a_whole(
    url: str, watcher: asyncpg.Connection, behind_pooler: bool
) -> None:
    """As after a run that blocked the loop between two statements for longer than a transaction may be idle."""
    async with AsyncQueue(url, behind_pooler=behind_pooler) as queue:
        writes = await queue._connections.writes()
        tried = 0

        async def insert_and_lose(connection: Any) -> None:
            nonlocal tried
            tried += 1
            await connection.execute('INSERT INTO fang.fang_tasks (metadata) VALUES (\'{"type": "x"}\')')
            if tried == 1:
                last_words(connection)
            await connection.fetch("SELECT 1")

        await writes._on_connection(insert_and_lose, None, in_transaction=True)
        assert tried == 2
        assert await watcher.fetchval("SELECT count(*) FROM fang.fang_tasks") == 1


# Cancelled ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["one", "two", "many"])
async def test_a_cancelled_call_does_not_wait_for_a_connection_that_is_silent(
    proxy: Proxy, watcher: asyncpg.Connection, behind_pooler: bool, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fang_async.connection_pool.TIDY_WITHIN", 0.3)
    queue = AsyncQueue(proxy.url, behind_pooler=behind_pooler)
    await queue.open()
    async with watcher.transaction():
        await watcher.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
        calling = asyncio.create_task(CALLS[call](queue))
        await waits_for_the_lock(watcher)
        proxy.set_where(Mode.BLACKHOLE, b"fang_tasks")
        calling.cancel()
        await asyncio.wait([calling], timeout=SOON)
        assert calling.cancelled()
    async with asyncio.timeout(SOON):
        await queue.insert_task(Ended())
        await queue.close()


async def test_a_cancelled_call_leaves_no_transaction_open(
    url: str, watcher: asyncpg.Connection, behind_pooler: bool
) -> None:
    async with AsyncQueue(url, behind_pooler=behind_pooler, max_pool_size=1) as queue:
        (ours,) = await idle_connections(queue, 1)
        async with watcher.transaction():
            await watcher.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
            calling = asyncio.create_task(queue.insert_tasks([Ended(), Ended()]))
            await waits_for_the_lock(watcher)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            assert not ours.is_in_transaction()
            assert not ours.is_closed()
        await queue.insert_task(Ended())
        assert await idle_connections(queue, 1) == [ours]


@pytest.mark.parametrize("what", ["beat", "rescue"])
async def test_a_heart_gives_up_a_connection_that_falls_silent_in_a_transaction_in_its_own_time(
    proxy: Proxy, behind_pooler: bool, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = Operations("fang")
    queue = AsyncQueue(proxy.url, behind_pooler=behind_pooler)
    pool_id = uuid4()
    await (await queue._connections.writes()).run(operations.register(manual_pool(pool_id)))
    heart = queue._connections.heart(True)
    assert (await heart.beat(BeatRequest(pool_id, False))).registered

    run = DedicatedConnection.run

    async def silence_and_run(*args: Any) -> Any:
        proxy.set(Mode.BLACKHOLE)
        return await run(*args)

    monkeypatch.setattr(DedicatedConnection, "run", silence_and_run)
    monkeypatch.setattr(fang_postgres.pool.heart, "ANSWER_WITHIN", 0.2)
    beat = partial(heart.beat, BeatRequest(pool_id))
    beating = asyncio.ensure_future(beat() if what == "beat" else heart.rescue_orphans(3))
    await asyncio.wait([beating], timeout=SOON)
    assert isinstance(beating.exception(), BackendUnavailable)
    proxy.set(Mode.RESET)
    await queue.close()


async def test_a_connection_that_falls_silent_before_its_settings_are_set_is_given_up_as_a_connect_is(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(connection: Connection) -> None:
        proxy.set(Mode.BLACKHOLE)
        await connection.execute("SELECT 1")

    monkeypatch.setattr(Connection, "lift_transaction_timeout", silent)
    monkeypatch.setattr("fang_postgres.urls.address.Address.host_connects_within", 0.5)
    queue = AsyncQueue(proxy.url)
    async with asyncio.timeout(SOON):
        with pytest.raises(NotConnected):
            await queue.insert_task(Ended())
    proxy.set(Mode.RESET)
    await queue.close()


async def waits_for_the_lock(watcher: asyncpg.Connection) -> None:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(SOON):
        while not await watcher.fetchval(waits):
            await asyncio.sleep(0.01)
            await watcher.execute("SELECT pg_stat_clear_snapshot()")
