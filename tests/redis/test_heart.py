"""The heart of a pool on a real server: what it sees of others, of a restart, of a full memory, and of lost data."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis

from fang_core.backends.pools import PoolRecord
from fang_core.driving import drive
from fang_core.errors import BackendError, BackendUnavailable
from fang_core.liveness import BeatRequest, Pulse
from fang_core.messages import Stop
from fang_redis.aio.links import AsyncLink
from fang_redis.connections.connecting import async_server_of, server_of
from fang_redis.connections.links import Links
from fang_redis.connections.own import ThreadedConnection
from fang_redis.connections.runner import Runner
from fang_redis.connections.sending import Sending
from fang_redis.layout import Keys
from fang_redis.pools.heart import ANSWER_WITHIN, RedisHeart
from fang_redis.pools.pools import Pools
from tests.redisserver import ALWAYS, RedisServer, replicated, wait_for

KEYS = Keys("fang")


class Member:
    """A pool that does nothing but beat, on a thread's connection."""

    def __init__(self, url: str, *, lease: float = 5.0, locks: bool = True) -> None:
        self.id = uuid4()
        self.record = PoolRecord(self.id, "threaded", "here", 1, ("common",), ("a",), 3, timedelta(seconds=lease))
        self.server = server_of(url)
        self.links = Links(self.server)
        self.heart = RedisHeart(KEYS, lambda: ThreadedConnection.connected(self.server, ANSWER_WITHIN), locks=locks)

    def register(self) -> "Member":
        Runner(self.links).run(Pools(Sending(KEYS)).register(self.record))
        return self

    def beat(self, **said: Any) -> Any:
        return drive(self.heart.beat(BeatRequest(self.id, **said)))

    def sees(self, other: "Member") -> Pulse | None:
        return next((pulse for pulse in self.beat().pulses if pulse.pool_id == other.id), None)

    def close(self) -> None:
        drive(self.heart.close())
        self.links.close()


@pytest.fixture
def members(redis_url: str) -> Iterator[list[Member]]:
    made = [Member(redis_url).register() for _ in range(2)]
    yield made
    for each in made:
        each.close()


def test_a_subscription_shows_that_a_pool_lives_and_its_end_that_it_does_not(members: list[Member]) -> None:
    first, second = members
    assert not second.sees(first).is_locked  # type: ignore[union-attr]
    first.beat()
    assert second.sees(first) == Pulse(first.id, 1, True, True, 5.0)
    drive(first.heart.close())
    wait_for(lambda: not second.sees(first).is_locked, "the subscription stays")  # type: ignore[union-attr]
    assert not first.beat().continues
    assert first.beat().continues
    assert second.sees(first) == Pulse(first.id, 3, True, True, 5.0)


SPOILT = ("no number", "12 {", "13 [1]", "14 {}", '15 {"k": 5, "b": 3, "f": null}', "", "x {}", "\xff")


def test_what_somebody_else_has_written_to_a_pool_stops_neither_its_heart_nor_later_messages(
    redis_url: str, members: list[Member]
) -> None:
    told = f"{KEYS.prefix}told:{members[0].id}"
    with redis.Redis.from_url(redis_url) as server:
        for score, text in enumerate(SPOILT, 1):
            server.zadd(told, {text.encode("latin-1"): score})
        server.zadd(told, {"0.5 half": 0.5})
        members[0].beat()
        Runner(members[0].links).run(Pools(Sending(KEYS)).send(members[0].id, "stop", {}, "me"))
        messages = members[0].beat().messages
        assert [delivery.message for delivery in messages if delivery.message is not None] == [Stop()]
        members[0].beat(handled=[delivery.id for delivery in messages])
        assert not members[0].beat().messages
        assert server.zcard(told) == 0


def test_a_heart_without_a_lock_says_so(redis_url: str, members: list[Member]) -> None:
    unlocked = Member(redis_url, locks=False, lease=2.5).register()
    unlocked.beat()
    assert members[0].sees(unlocked) == Pulse(unlocked.id, 1, False, False, 2.5)
    unlocked.close()


async def test_an_asyncio_heart_is_seen_like_any_other(redis_url: str, members: list[Member]) -> None:
    watcher, member = members
    server = async_server_of(redis_url)
    heart = RedisHeart(KEYS, lambda: AsyncLink.connected(server, ANSWER_WITHIN), locks=True)
    beat = await heart.beat(BeatRequest(member.id))
    assert {pulse.pool_id for pulse in beat.pulses} == {watcher.id, member.id}
    assert watcher.sees(member) == Pulse(member.id, 1, True, True, 5.0)
    await heart.close()
    wait_for(lambda: not watcher.sees(member).is_locked, "the subscription stays")  # type: ignore[union-attr]


def test_a_pool_that_goes_on_under_another_id_has_its_lock_again(members: list[Member]) -> None:
    first, second = members
    first.beat()
    former, first.id = first.id, uuid4()
    first.record = first.record._replace(id=first.id)
    first.register().beat()
    assert second.sees(first) == Pulse(first.id, 1, True, True, 5.0)
    assert former != first.id


def test_a_pool_that_has_beaten_since_it_was_looked_at_is_not_dead(members: list[Member]) -> None:
    first, second = members
    pulse = second.sees(first)
    assert pulse is not None
    first.beat()
    assert drive(second.heart.rescue([pulse])) == []
    assert [each.registered for each in (first.beat(), second.beat())] == [True, True]


# Servers --------------------------------------------------------------------------------------------------------------


def test_a_restart_casts_doubt_on_free_locks() -> None:
    with RedisServer(ALWAYS, tcp=True) as server, server.client() as client:
        member = Member(server.url).register()
        member.beat()
        long_ago = int(client.hget("{fang}:meta", "since")) - 3_600_000_000  # type: ignore[arg-type]
        client.hset("{fang}:meta", "since", long_ago)
        assert 3_600 < member.beat().server_up < 3_700
        server.restart()
        with pytest.raises(BackendUnavailable):
            member.beat()
        after = member.beat()
        assert after.registered
        assert after.server_up < 60
        assert not after.continues
        member.close()


def test_a_failover_casts_doubt_on_free_locks() -> None:
    with replicated() as (primary, replica), primary.client() as client, replica.client() as other:
        member = Member(primary.url).register()
        member.beat()
        client.hset("{fang}:meta", "since", 1)
        assert client.wait(1, 60_000) == 1
        primary.kill()
        other.replicaof("NO", "ONE")
        survivor = Member(replica.url)
        survivor.id = member.id
        beat = survivor.beat()
        assert (beat.registered, beat.pulses[0].beats) == (True, 2)
        assert beat.server_up < 60
        for each in (member, survivor):
            each.close()


def test_a_server_that_was_just_given_a_queue_has_been_up_since_it_started(members: list[Member]) -> None:
    assert members[0].beat().server_up < 3_600


def test_a_full_memory_stops_no_heart() -> None:
    with RedisServer() as server, server.client() as client:
        member, other = Member(server.url).register(), Member(server.url).register()
        member.beat()
        client.config_set("maxmemory", 1)
        late = Member(server.url).register()  # what it runs makes room
        assert member.beat(stopping=True, runs="{}", workers=4).registered
        other.beat()
        assert other.sees(member) == Pulse(member.id, 2, True, True, 5.0)
        assert drive(other.heart.rescue([Pulse(member.id, 2, True, True, 5.0)])) == []
        assert other.sees(member) is None
        for each in (member, other, late):
            each.close()


def test_lost_data_are_said_once_and_the_pool_then_hears_that_it_has_no_record(
    redis_client: redis.Redis, members: list[Member]
) -> None:
    first, second = members
    for each in members:
        each.beat()
    redis_client.flushall()
    for each in (first, second):  # the first one makes another epoch, and the second has not seen the former end
        with pytest.raises(BackendError, match=r"keys of queue 'fang' on Redis were removed.*register again"):
            each.beat()
        beat = each.beat()
        assert (beat.registered, beat.pulses) == (False, [])
    first.register()
    assert first.beat().registered
    assert redis_client.hget("{fang}:meta", "layout") == "1"


def test_a_frozen_server_fails_a_beat_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.redis.test_heart.ANSWER_WITHIN", 0.2)
    with RedisServer() as server:
        member = Member(server.url).register()
        member.beat()
        server.freeze()
        with pytest.raises(BackendUnavailable):
            member.beat()
        server.thaw()
        assert member.beat().registered
        member.close()


# What a pool is told --------------------------------------------------------------------------------------------------


def test_what_another_client_has_spoilt_stops_no_heart(redis_client: redis.Redis, members: list[Member]) -> None:
    first, second = members
    first.beat()
    redis_client.hset("{fang}:pools", str(second.id), "no json")
    redis_client.hdel("{fang}:leases", str(second.id))
    pools = Pools(Sending(KEYS))
    listed = Runner(first.links).run(pools.list_pools())
    assert [info.id for info in listed] == [first.id]
    assert first.sees(second) == Pulse(second.id, 0, False, False, 60.0)
    assert drive(first.heart.rescue([Pulse(second.id, 0, False, False, 5.0)])) == []
    assert first.sees(second) is None
