"""The connections of both colours: no reply is ever taken for another one's, nothing is repeated, and nothing hangs."""

import asyncio
import importlib.metadata
import random
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio

from fang_core.errors import AccessRefused, BackendUnavailable, NotConnected, StatementRefused, UsageError
from fang_redis.aio.links import AsyncLink, AsyncLinks
from fang_redis.connections.connecting import async_server_of, server_of, threaded
from fang_redis.connections.links import Link, Links
from fang_redis.layout import Keys
from tests.patience import PATIENT
from tests.proxy import Mode, Proxy
from tests.redisserver import RedisServer

SOON = 0.2
"""Seconds within which an answer is expected that does not come."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(tcp=True) as server:
        yield server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.url) as proxy:
        yield proxy


def fails(call: Callable[[Any], Any], argument: Any) -> None:
    with pytest.raises(BackendUnavailable):
        call(argument)


@pytest.mark.parametrize("made", [server_of, async_server_of])
def test_no_connection_reads_the_metadata_of_packages(
    made: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py would, for its own version: that takes longer than to connect."""
    server = made("redis://localhost")
    read: list[str] = []
    monkeypatch.setattr(importlib.metadata, "version", read.append)
    server.connection(None, None)
    assert not read


@pytest.mark.parametrize("made", [server_of, async_server_of])
def test_settings_that_no_connection_takes_are_refused_at_once(made: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError, match=r"cannot be used: .*SSL"):
        made("rediss://h/0?ssl_cert_reqs=some")


@pytest.mark.parametrize("name", ["\ud800", "a\x07", "a{b}", "", "x" * 201])
def test_names_that_no_key_can_begin_with_are_refused_at_once(name: str) -> None:
    with pytest.raises(UsageError, match="the name of a queue on Redis"):
        Keys(name)


# What is sent, and what comes back ------------------------------------------------------------------------------------


def test_each_command_has_its_own_reply_and_a_refusal_is_one(redis_url: str) -> None:
    links = Links(server_of(redis_url))
    replies = links.send([("SET", "key", "text"), ("INCR", "key"), ("GET", "key")])
    assert (replies[0], replies[2]) == ("OK", "text")
    assert isinstance(replies[1], redis.ResponseError)
    links.close()


async def test_tasks_that_share_a_connection_each_get_their_own_reply(redis_url: str) -> None:
    links = AsyncLinks(async_server_of(redis_url))

    async def echo(n: int) -> None:
        commands = [("ECHO", f"{n} {i}") for i in range(n % 4)]
        assert await links.send([*commands, ("NONSENSE",)]) != []
        assert await links.send([("ECHO", str(n))]) == [str(n)]

    await asyncio.gather(*(echo(n) for n in range(200)))
    assert await links.send([("CLIENT", "LIST")]) != []
    await links.close()


async def test_what_is_no_utf_8_is_read_all_the_same_and_never_sent(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("key", b"\xfftext")
    threaded, tasks = Links(server_of(redis_url)), AsyncLinks(async_server_of(redis_url))
    assert threaded.send([("GET", "key")]) == await tasks.send([("GET", "key")]) == [r"\xfftext"]
    with pytest.raises(StatementRefused, match="surrogate"):
        threaded.send([("PING",), ("SET", "key", "\ud800")])
    with pytest.raises(StatementRefused, match="surrogate"):
        await tasks.send([("PING",), ("SET", "key", "\ud800")])
    assert threaded.send([("ECHO", "text")]) == await tasks.send([("ECHO", "text")]) == ["text"]
    threaded.close()
    await tasks.close()


async def test_who_waits_for_replicas_holds_up_nobody_else(redis_url: str) -> None:
    """No replica is there: the server waits as long as it is told."""
    links = AsyncLinks(async_server_of(redis_url))
    confirmed = asyncio.create_task(links.send([("PING",), ("WAIT", 1, int(PATIENT * 1000))]))
    async with asyncio.timeout(PATIENT / 2):
        while "cmd=wait" not in (await links.send([("CLIENT", "LIST")]))[0]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        assert await links.send([("ECHO", "other")]) == ["other"]
    assert not confirmed.done()
    await links.close()
    with pytest.raises(BackendUnavailable):
        await confirmed


# Replies that do not come ---------------------------------------------------------------------------------------------


def test_a_reply_that_comes_too_late_is_nobodys(server: RedisServer) -> None:
    link = Link(server_of(server.url), SOON)
    server.freeze()
    with pytest.raises(BackendUnavailable):
        link.send([("ECHO", "late")])
    server.thaw()
    with pytest.raises(BackendUnavailable):
        link.send([("ECHO", "other")])
    links = Links(server_of(server.url))
    assert links.send([("ECHO", "other")]) == ["other"]
    links.close()


async def test_a_reply_that_comes_too_late_is_nobodys_in_asyncio(server: RedisServer) -> None:
    link = await AsyncLink.connected(async_server_of(server.url), SOON)
    server.freeze()
    late = [asyncio.create_task(link.send([("ECHO", "late")])) for _ in range(3)]
    for each in late:
        with pytest.raises(BackendUnavailable):
            await each
    server.thaw()
    assert not link.is_good
    links = AsyncLinks(async_server_of(server.url))
    assert await links.send([("ECHO", "other")]) == ["other"]
    await links.close()


async def test_the_reply_to_one_who_is_cancelled_is_nobodys(server: RedisServer) -> None:
    links = AsyncLinks(async_server_of(server.url))
    await links.send([("PING",)])
    server.freeze()
    cancelled = [asyncio.create_task(links.send([("ECHO", str(n)), ("ECHO", "more")])) for n in range(5)]
    await asyncio.sleep(0)
    for each in cancelled:
        each.cancel()
    await asyncio.wait(cancelled)
    waits = asyncio.create_task(links.send([("ECHO", "mine")]))
    server.thaw()
    assert await waits == ["mine"]
    await links.close()


@pytest.mark.parametrize("mode", [Mode.RESET, Mode.CLOSE])
def test_a_command_whose_reply_is_lost_is_not_sent_again(server: RedisServer, proxy: Proxy, mode: Mode) -> None:
    """A client of the application's repeats ten times by default; its settings are used, and not that."""
    port = int(proxy.url.rsplit(":", 1)[1].split("/")[0])
    with redis.Redis(port=port) as client, server.client() as direct:
        links = Links(server_of(client))
        links.send([("PING",)])
        proxy.slow_down(seconds=4.0)  # the command gets there, and its reply is still on the way back
        sent = threading.Thread(target=fails, args=(links.send, [("INCR", "count")]))
        sent.start()
        while direct.get("count") is None:
            time.sleep(0.05)
        proxy.slow_down()
        assert proxy.set_where(mode, b"INCR") == 1
        sent.join(PATIENT)
        assert links.send([("PING",)]) == ["PONG"]
        assert direct.get("count") == "1"
        links.close()


# Connections that end -------------------------------------------------------------------------------------------------


def test_connections_that_a_restart_has_ended_are_not_used_again(server: RedisServer) -> None:
    links = Links(server_of(server.url))
    for _ in range(3):
        assert links.send([("PING",)]) == ["PONG"]
        server.restart()
    server.kill()
    with pytest.raises(NotConnected, match=f"127.0.0.1:{server.port} cannot be reached"):
        links.send([("PING",)])
    links.close()


async def test_connections_that_a_restart_has_ended_are_not_used_again_in_asyncio(server: RedisServer) -> None:
    links = AsyncLinks(async_server_of(server.url))
    for _ in range(3):
        assert await links.send([("PING",)]) == ["PONG"]
        link = links._link
        assert link is not None
        await asyncio.to_thread(server.restart)
        await link.ended()
    server.kill()
    with pytest.raises(NotConnected, match=f"127.0.0.1:{server.port} cannot be reached"):
        await asyncio.gather(*(links.send([("PING",)]) for _ in range(3)))
    await links.close()


async def test_nothing_is_written_to_a_connection_that_is_lost(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await AsyncLink.connected(async_server_of(redis_url))
    wire = link._wire
    assert wire is not None
    transport, written = wire._transport, list[Sequence[bytes]]()
    monkeypatch.setattr(wire, "_transport", SimpleNamespace(is_closing=transport.is_closing, writelines=written.append))
    wire.send([b"first"])
    wire.send([b"in the same turn"])
    transport.abort()
    await asyncio.sleep(0)
    wire.send([b"later"])
    assert written == [[b"first"]]
    await link.ended()


async def test_a_connection_that_is_reset_while_many_send_is_no_obstacle_to_the_next_one(proxy: Proxy) -> None:
    """From Python 3.12 on, what is written to a lost transport has the event loop wait for a closed socket."""
    links, told = AsyncLinks(async_server_of(proxy.url)), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    await links.send([("PING",)])
    link = links._link
    assert link is not None
    has_ended = select.poll()
    has_ended.register(link._connection._writer.get_extra_info("socket").fileno(), select.POLLHUP)

    async def send_after_reset() -> Any:
        proxy.set(Mode.RESET)
        assert has_ended.poll(PATIENT * 1000)  # and the event loop, which is blocked, has not heard of it
        return await links.send([("PING",)])

    sent = [send_after_reset(), *(links.send([("PING",)]) for _ in range(3))]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    assert [type(answer) for answer in answers] == [BackendUnavailable] * len(sent)
    proxy.set(Mode.PASS)
    assert await links.send([("PING",)]) == ["PONG"]
    assert not told
    await links.close()


def test_a_connection_that_has_waited_too_long_is_not_used_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = Links(server_of(redis_url))
    links.send([("PING",)])
    (waits,) = links._idle
    links.send([("PING",)])
    assert [*links._idle] == [waits]
    monkeypatch.setattr("fang_redis.connections.links.IDLE_FOR", 0.0)
    links.send([("PING",)])
    assert waits not in links._idle
    links.close()


def test_threads_share_connections(redis_url: str) -> None:
    links = Links(server_of(redis_url))
    wrong = []

    def echo(thread: int) -> None:
        for n in range(200):
            if links.send([("ECHO", f"{thread} {n}")]) != [f"{thread} {n}"]:
                wrong.append((thread, n))

    threads = [threading.Thread(target=echo, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    assert not wrong
    assert 1 <= len(links._idle) <= 8
    links.close()
    assert not links._idle


# Cancellations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["socket", "port"])
async def test_whoever_connects_and_subscribes_can_be_cancelled_at_any_time(server: RedisServer, through: str) -> None:
    """redis-py's own client has let 25 of 100 such cancellations vanish on Python 3.11."""
    url = server.url if through == "port" else f"unix://{server.socket}?db=0"
    chance = random.Random(7)

    async def connect_and_subscribe() -> None:
        link = await AsyncLink.connected(async_server_of(url))
        try:
            await link.subscribe("channel")
            while True:
                await link.send([("PING",)])
                await link.hear(0, print)
        finally:
            link.close()
            await link.ended()

    for _ in range(200):
        task = asyncio.create_task(connect_and_subscribe())
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        task.cancel()
        assert (await asyncio.wait([task], timeout=PATIENT))[0], "a cancellation has vanished"
        assert task.cancelled()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if others:
        await asyncio.wait(others, timeout=PATIENT)
    assert [task for task in others if not task.done()] == []


async def test_closing_never_waits_for_a_server_that_does_not_answer(server: RedisServer) -> None:
    links = AsyncLinks(async_server_of(server.url))
    await links.send([("PING",)])
    server.freeze()
    waits = [asyncio.create_task(links.send([("PING",)])) for _ in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENT / 2):
        await links.close()
    for each in waits:
        with pytest.raises(BackendUnavailable):
            await each
    connects = asyncio.create_task(links.send([("PING",)]))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENT / 2):
        await links.close()
    with pytest.raises(BackendUnavailable):
        await connects
    server.thaw()


async def test_a_loop_that_was_blocked_for_long_hears_of_the_reply_that_came_meanwhile(redis_url: str) -> None:
    link = await AsyncLink.connected(async_server_of(redis_url), SOON)
    waits = asyncio.create_task(link.send([("ECHO", "came")]))
    await asyncio.sleep(0)
    threading.Event().wait(3 * SOON)
    assert await waits == ["came"]
    link.close()
    await link.ended()


# Messages -------------------------------------------------------------------------------------------------------------


def test_a_subscriber_hears_what_is_published_and_can_still_send(redis_url: str) -> None:
    link = Link(server_of(redis_url))
    link.subscribe("channel")
    assert link.send([("PUBLISH", "channel", "one"), ("ECHO", "two")]) == [1, "two"]
    assert link.hear(PATIENT) == ["one"]
    assert link.hear(0) == []
    waits = threading.Thread(target=fails, args=(link.hear, PATIENT))
    waits.start()
    link.interrupt()
    waits.join(PATIENT / 2)
    assert not waits.is_alive()


async def test_a_subscriber_hears_what_is_published_and_can_still_send_in_asyncio(redis_url: str) -> None:
    link = await AsyncLink.connected(async_server_of(redis_url))
    await link.subscribe("channel")
    assert await link.send([("PUBLISH", "channel", "one"), ("ECHO", "two")]) == [1, "two"]
    heard: list[str] = []
    assert await link.hear(PATIENT, heard.append)
    assert heard == ["one"]
    assert not await link.hear(0, heard.append)
    waits = asyncio.create_task(link.hear(PATIENT, heard.append))
    await asyncio.sleep(0)
    await link.send([("PUBLISH", "channel", "two")])
    assert heard == ["one", "two"], "a message that comes is passed on at once"
    assert await waits
    waits = asyncio.create_task(link.hear(PATIENT, heard.append))
    await asyncio.sleep(0)
    link.interrupt()
    with pytest.raises(BackendUnavailable):
        await waits
    await link.ended()


# What a user gives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sec/ret@host:x",
        "redis://localhost/app",
        "postgresql://u:secret@h/d",
        "redis://h:99999999/0",
        "redis://ret..x/0",
        "redis://\udcffret/0",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_the_password(url: str) -> None:
    for make in (server_of, async_server_of):
        with pytest.raises(UsageError, match="URL of Redis cannot be used") as refused:
            make(url).connection(1, 1)
        assert "ret" not in str(refused.value).replace("write", "")


@pytest.mark.parametrize("made", [server_of, async_server_of])
def test_both_modes_read_the_same_urls(made: Callable[[Any], Any]) -> None:
    for url in (" redis://h:1/2\n", "REDIS://h:1/2", "Valkey://h:1/2", "redis://h:1/2?socket_keepalive=true"):
        assert (made(url).where, made(url).database) == ("h:1", 2)
    for url in ("unix:/run/redis.sock", "redis:h", "redis+unix:///run/redis.sock", "h:6379", ""):
        with pytest.raises(UsageError, match="URL of Redis cannot be used"):
            made(url)


@pytest.mark.parametrize("made", [server_of, async_server_of])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h?max_connections=3&frob=1", r"does not take: frob, max_connections; leave them out"),
        ("redis://h?socket_timeout=1&ssl_cert_reqs=none", r"does not take: socket_timeout; leave"),
        ("redis://:sec?ret=1@h", "cannot be used"),
        ("redis+sentinel://h:26379/primary", r"no URL of a Sentinel: hand in the client that .*master_for"),
        ("rediss-cluster://h", "no URL of a Cluster: give the URL of any one node"),
        ("redis://:sec@one:1,two:2/0", "takes the URL of one host; of a Cluster"),
    ],
)
def test_what_a_url_asks_for_in_vain_is_refused_by_name(made: Callable[[Any], Any], url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        made(url)
    assert "sec" not in str(refused.value)


def test_valkey_has_urls_of_its_own() -> None:
    assert server_of("valkey://h:1/2") == replace(server_of("redis://h:1/2"), given="valkey://h:1/2")
    assert async_server_of("valkeys://h").connection_class is redis.asyncio.SSLConnection


def test_a_client_of_the_other_colour_is_refused() -> None:
    with pytest.raises(UsageError, match=r"redis\.asyncio\.Redis"):
        async_server_of(redis.Redis())
    with pytest.raises(UsageError, match=r"redis\.Redis, not Redis"):
        server_of(redis.asyncio.Redis())


def test_a_thread_connects_where_an_asyncio_client_does() -> None:
    client = redis.asyncio.Redis(host="h", port=7, db=3, password="secret", ssl=True)
    made = threaded(async_server_of(client))
    connection = made.connection(1, 1)
    assert isinstance(connection, redis.SSLConnection)
    assert (connection.host, connection.port, connection.db, connection.password) == ("h", 7, 3, "secret")


def test_a_client_with_settings_that_are_not_safe_can_be_given(server: RedisServer) -> None:
    options: dict[str, Any] = {"decode_responses": False, "protocol": 2, "socket_timeout": 99}
    with redis.Redis(port=server.port, db=3, **options) as client:
        links = Links(server_of(client))
        assert links.server.database == 3
        assert links.send([("SET", "key", "text"), ("GET", "key")]) == ["OK", "text"]
        assert client.get("key") == b"text"
        links.close()


def test_whoever_is_refused_is_told_so_without_the_password() -> None:
    with RedisServer({"requirepass": "right"}, tcp=True) as server:
        for password in ("", ":wrong@"):
            links = Links(server_of(server.url.replace("//", f"//{password}")))
            with pytest.raises(AccessRefused, match="refuses this user or password") as refused:
                links.send([("PING",)])
            assert "wrong" not in str(refused.value)
        links = Links(server_of(server.url.replace("//", "//:right@")))
        assert links.send([("PING",)]) == ["PONG"]
        links.close()
