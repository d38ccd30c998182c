"""What is said of a server before a queue uses it, on real ones; and what they refuse, as it is told."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from fang_core.errors import AccessRefused, BackendError, NotConnected, ReadOnlyServer, SchemaError
from fang_redis.connections.checking import check, facts_of, problem_of, version_of
from fang_redis.connections.connecting import server_of
from fang_redis.connections.diagnosis import refused
from fang_redis.connections.links import Links
from fang_redis.connections.runner import Runner
from fang_redis.connections.sending import Sending
from fang_redis.layout import Keys
from fang_redis.operations import Operation, Verb
from tests.patience import PATIENT
from tests.redisserver import ALWAYS, EVERY_SECOND, RedisServer, is_older_than_7, replicated, wait_for

SENDING = Sending(Keys("fang"))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(ALWAYS, tcp=True) as server:
        yield server


def checked(url: str) -> None:
    links = Links(server_of(url))
    try:
        Runner(links).run(check(links.server, SENDING.keys))
    finally:
        links.close()


def test_a_server_that_keeps_everything_is_taken_without_a_word(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fang_redis")
    checked(server.url)
    checked(server.url)
    assert caplog.messages == []
    with server.client() as client:
        assert client.hgetall("{fang}:meta") == {"layout": "1"}


@pytest.mark.parametrize(
    ("settings", "level", "says"),
    [
        ({}, "WARNING", "no append-only file (appendonly no): if it is killed"),
        (EVERY_SECOND, "INFO", "the inserts of the last two seconds are lost"),
        ({"appendonly": "yes", "appendfsync": "no"}, "WARNING", "the inserts of the last half minute or more are lost"),
    ],
)
def test_what_a_server_may_lose_is_said(
    settings: dict[str, str], level: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fang_redis")
    with RedisServer(settings) as server:
        checked(server.url)
    (record,) = caplog.records
    assert record.levelname == level
    assert says in record.getMessage()
    assert "CONFIG SET appendfsync always" in record.getMessage()


def test_a_server_that_evicts_keys_is_refused(server: RedisServer) -> None:
    with server.client() as client:
        for policy in ("noeviction", "volatile-lru", "volatile-ttl"):
            client.config_set("maxmemory-policy", policy)
            checked(server.url)
        for policy in ("allkeys-lru", "allkeys-random"):
            client.config_set("maxmemory-policy", policy)
            with pytest.raises(BackendError, match=f"{policy}.*CONFIG SET maxmemory-policy noeviction"):
                checked(server.url)


def test_a_replica_is_refused_and_so_is_a_write_to_one() -> None:
    with replicated() as (primary, replica), primary.client() as client:
        with pytest.raises(ReadOnlyServer, match=f"127.0.0.1:{replica.port} is a replica"):
            checked(replica.url)
        checked(primary.url)
        links = Links(server_of(primary.url))
        client.replicaof("127.0.0.1", replica.port)
        with pytest.raises(ReadOnlyServer, match="give the address of the primary"):
            register(Runner(links))
        assert not links._idle  # a new connection may lead elsewhere
        links.close()


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ("redis_version:6.0.16", "Redis 6.0.16 at here is too old: a queue needs Redis 6.2 or newer"),
        ("server_name:valkey\nredis_version:7.2.4\nvalkey_version:7.1.9", "Valkey 7.1.9 at here is too old"),
        ("redis_version:7.2.0\nredis_mode:sentinel", "here is a Sentinel, which has no data"),
    ],
)
def test_a_server_on_which_no_queue_works_is_refused(facts: str, says: str) -> None:
    assert says in str(problem_of(facts_of(facts), "here"))


def test_versions_are_read() -> None:
    assert version_of(facts_of("redis_version:6.2.14\r\nos:Linux")) == ("Redis", (6, 2, 14))
    assert version_of(facts_of("server_name:valkey\nredis_version:7.2.4\nvalkey_version:9.1.2")) == (
        "Valkey",
        (9, 1, 2),
    )
    assert problem_of(facts_of("redis_version:8.0.0"), "here") is None


def test_keys_of_another_layout_are_refused(server: RedisServer) -> None:
    with server.client() as client:
        client.hset("{fang}:meta", "layout", "2")
    with pytest.raises(SchemaError, match="have layout 2, and this version of Fang knows 1"):
        checked(server.url)


@pytest.mark.parametrize(
    "text",
    [
        "NOPERM this user has no permissions to run the 'time' command",
        "Error running script (call to f_1): @user_script:6: @user_script: 6: -NOPERM this user has no permissions",
        "The user executing the script can't run this command or subcommand script: 1, on @user_script:5.",
        "ACL failure in script: User app has no permissions to run the 'time' command script: 1, on @user_script:5.",
    ],
    ids=["a command", "Redis 6", "Redis 7", "Valkey 9"],
)
def test_a_lack_of_rights_is_known_in_the_words_of_each_server(text: str) -> None:
    assert isinstance(refused(ResponseError(text)), AccessRefused)


# What a server refuses later ------------------------------------------------------------------------------------------


@pytest.fixture
def runner(server: RedisServer) -> Iterator[Runner]:
    links = Links(server_of(server.url))
    yield Runner(links)
    links.close()


def register(runner: Runner) -> None:
    runner.run(verb(SENDING.script("register", "pool", '{"task_types": []}', "5")))


def verb(operation: Operation[Any]) -> Verb[Any]:
    return (yield from operation)


def test_a_full_memory_is_told_from_a_lack_of_replicas(server: RedisServer, runner: Runner) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(BackendError, match=r"memory is full \(maxmemory\)"):
            runner.run(verb(Operation("SET", ("key",), ("value",))))
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(BackendError, match="while so few replicas follow it"):
            register(runner)


def test_a_script_that_runs_for_long_and_its_end_by_hand_are_said(server: RedisServer, runner: Runner) -> None:
    ended = []

    def run_for_ever() -> None:
        with pytest.raises(BackendError) as error:
            runner.run(verb(Operation("EVAL", (), ("while true do end", 0))))
        ended.append(str(error.value))

    def is_busy() -> bool:
        try:
            register(runner)
        except BackendError as error:
            return "runs some client's script for long" in str(error) and "SCRIPT KILL" in str(error)
        return False

    with server.client() as client:
        client.config_set("lua-time-limit", 10)
        runs = threading.Thread(target=run_for_ever)
        runs.start()
        wait_for(is_busy, "nothing is said of the script")
        client.script_kill()
        runs.join(PATIENT)
    assert "a script of the queue was ended" in ended[0]
    register(runner)


def test_a_server_that_reads_its_data_is_waited_for() -> None:
    if is_older_than_7():
        pytest.skip("nothing makes this server read its data slowly")
    slow = {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
    with RedisServer(slow) as server:
        with server.client() as client, client.pipeline(transaction=False) as pipeline:
            for n in range(2_000):
                pipeline.set(f"key{n}", "x" * 100)
            pipeline.execute()
            client.save()
        server.kill()
        server.launch()
        links = Links(server_of(server.url))
        said = set()

        def is_there() -> bool:
            try:
                register(Runner(links))
            except NotConnected as error:
                said.add(str(error))
                return False
            return True

        wait_for(is_there, "the server does not come back")
        assert any("reads its data, and answers when it has" in text for text in said), said
        links.close()
