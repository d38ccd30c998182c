"""Queues and pools that find the primary by a real Sentinel, which fails over to a replica."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import redis
import redis.asyncio
import redis.sentinel

from fang_async import AsyncRunnable, AsyncWorkerPool
from fang_core.errors import BackendUnavailable
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_redis.aio.links import AsyncLink
from fang_redis.connections.connecting import async_server_of, server_of, threaded
from fang_redis.connections.links import Links
from fang_threaded import Runnable, WorkerPool
from tests.patience import PATIENT
from tests.redisserver import RedisServer, SentinelServer, replicated, wait_for


class Guarded(Runnable):
    n: int = 0

    def run(self, queue: Any) -> None: ...


class GuardedSoon(AsyncRunnable):
    n: int = 0

    async def run(self, queue: Any) -> None: ...


class Watched(NamedTuple):
    primary: RedisServer
    replica: RedisServer
    sentinel: SentinelServer

    def client(self) -> redis.Redis:
        asked = redis.sentinel.Sentinel([("127.0.0.1", self.sentinel.port)], socket_timeout=PATIENT)
        client: redis.Redis = asked.master_for(self.sentinel.NAME)
        return client

    @asynccontextmanager
    async def async_client(self) -> AsyncIterator[redis.asyncio.Redis]:
        asked = redis.asyncio.Sentinel([("127.0.0.1", self.sentinel.port)], socket_timeout=PATIENT)
        try:
            yield asked.master_for(self.sentinel.NAME)
        finally:
            for sentinel in asked.sentinels:
                await sentinel.aclose()

    def lose_primary(self) -> None:
        """Kills the primary, and returns when the Sentinel has promoted the replica."""
        self.primary.kill()
        wait_for(lambda: self.sentinel.primary_port() == self.replica.port, "the Sentinel did not fail over")


@pytest.fixture
def watched() -> Iterator[Watched]:
    with replicated() as (primary, replica), SentinelServer(primary) as sentinel:
        wait_for(lambda: sentinel.replicas() == 1, "the Sentinel does not find the replica")
        yield Watched(primary, replica, sentinel)


def test_a_queue_and_its_pool_follow_the_primary(watched: Watched) -> None:
    with RedisQueue(watched.client(), replicas=1) as queue:
        before = [queue.insert_task(Guarded(n=n)) for n in range(5)]
        watched.lose_primary()
        wait_for(lambda: _answers(queue), "the queue does not find the new primary")
        assert queue.count_tasks().count == len(before)
        with RedisQueue(watched.client()) as after:
            after.insert_task(Guarded())
            assert WorkerPool(after, number_of_workers=1).drain() == len(before) + 1


async def test_so_do_those_of_asyncio(watched: Watched) -> None:
    async with watched.async_client() as client, AsyncRedisQueue(client) as queue:
        await queue.insert_task(GuardedSoon())
        wait_for(lambda: _has_all(watched), "the replica lags behind")
        watched.lose_primary()
        while True:
            try:
                assert (await queue.count_tasks()).count == 1
                break
            except BackendUnavailable:
                continue
        assert await AsyncWorkerPool(queue).drain() == 1


async def test_an_asyncio_queue_fetches_by_hand_also_after_a_failover(watched: Watched) -> None:
    async with watched.async_client() as client, AsyncRedisQueue(client) as queue:
        await queue.insert_task(GuardedSoon(n=1))
        held = await queue.fetch_and_touch_task()
        assert held is not None
        await queue.remove_task(held.id)
        wait_for(lambda: _has_all(watched), "the replica lags behind")
        watched.lose_primary()
        links = Links(threaded(async_server_of(client)))
        wait_for(lambda: _port(links) == watched.replica.port, "the thread does not find the new primary")
        links.close()


async def test_another_event_loop_asks_the_sentinel_on_connections_of_its_own(watched: Watched) -> None:
    """A heart has a loop of its own: it neither uses what the application's loop has, nor leaves anything to it."""

    async def connect() -> int:
        link = await AsyncLink.connected(server)
        (said,) = await link.send([("CONFIG", "GET", "port")])
        link.close()
        await link.ended()
        return int(said["port"])

    with ThreadPoolExecutor(1) as elsewhere, watched.sentinel.client() as told:
        before = len(told.client_list())
        async with watched.async_client() as client:
            server = async_server_of(client)
            assert elsewhere.submit(asyncio.run, connect()).result(PATIENT) == watched.primary.port
            wait_for(lambda: len(told.client_list()) == before, "a connection to the Sentinel is left")
            assert await client.ping()  # on the application's loop, which stands still from here on
            assert elsewhere.submit(asyncio.run, connect()).result(PATIENT) == watched.primary.port
            assert await client.ping()
            await client.aclose()


async def test_a_sentinel_that_does_not_answer_leaves_time_to_ask_the_next_one(watched: Watched) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = redis.asyncio.Sentinel([silent.getsockname(), ("127.0.0.1", watched.sentinel.port)])
        server = async_server_of(asked.master_for(watched.sentinel.NAME))
        link = await AsyncLink.connected(server)
        link.close()
        await link.ended()
        links = Links(threaded(server))
        assert _port(links) == watched.primary.port
        links.close()


def test_messages_name_the_primary_as_sentinel_does() -> None:
    asked = redis.sentinel.Sentinel([("127.0.0.1", 1)])
    assert server_of(asked.master_for("orders")).where == "the primary 'orders' of Sentinel"


def test_what_a_client_of_sentinels_gives_a_thread_connects_with() -> None:
    theirs = {"password": "ours", "socket_timeout": 0.25}
    asked = redis.asyncio.Sentinel([("127.0.0.1", 1)], sentinel_kwargs=theirs, force_master_ip="10.0.0.1")
    made = threaded(async_server_of(asked.master_for("orders", db=3, password="secret", ssl=True)))
    connection = made.connection(1, 1)
    assert isinstance(connection, redis.sentinel.SentinelManagedSSLConnection)
    assert (connection.db, connection.password) == (3, "secret")
    manager = connection.connection_pool.sentinel_manager
    assert manager._force_master_ip == "10.0.0.1"
    (sentinel,) = manager.sentinels
    assert sentinel.connection_pool.connection_kwargs.items() >= theirs.items()


def test_each_connection_of_asyncio_asks_sentinels_of_its_own_with_the_same_settings() -> None:
    class Translating(redis.asyncio.Sentinel): ...

    theirs = {"password": "ours", "socket_timeout": 0.25, "ssl": True}
    asked = Translating([("127.0.0.1", 1)], sentinel_kwargs=theirs, force_master_ip="10.0.0.1", min_other_sentinels=1)
    server = async_server_of(asked.master_for("orders"))
    connection = server.connection(1, 1)
    manager = connection.connection_pool.sentinel_manager
    assert manager is not asked
    assert isinstance(manager, Translating)
    assert (manager._force_master_ip, manager.min_other_sentinels) == ("10.0.0.1", 1)
    ((made,), (given,)) = manager.sentinels, asked.sentinels
    assert made is not given
    assert made.connection_pool.connection_class is redis.asyncio.SSLConnection
    settings = made.connection_pool.connection_kwargs
    assert (settings["port"], settings["password"], settings["socket_timeout"]) == (1, "ours", 0.25)


def _answers(queue: RedisQueue) -> bool:
    try:
        queue.count_tasks()
    except BackendUnavailable:
        return False
    return True


def _port(links: Links) -> int:
    try:
        (said,) = links.send([("CONFIG", "GET", "port")])
    except BackendUnavailable:
        return 0
    return int(said["port"])


def _has_all(watched: Watched) -> bool:
    with watched.primary.client() as primary, watched.replica.client() as replica:
        written: int = primary.info("replication")["master_repl_offset"]  # type: ignore[index]
        return bool(replica.info("replication")["slave_repl_offset"] >= written)  # type: ignore[index]
