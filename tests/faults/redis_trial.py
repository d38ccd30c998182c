"""A trial on a Redis server of its own, which the fault may kill, stop, fill and disconnect."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import redis

from fang_redis import AsyncRedisQueue, RedisQueue
from tests.faults import redis_audit
from tests.faults.audit import Change, PoolChange
from tests.faults.checker import Record
from tests.faults.fleet import Worker
from tests.faults.trial import Trial
from tests.redis.indexes import indexes_of_rows, indexes_there
from tests.redisserver import ALWAYS, RedisServer

DURABLE = {**ALWAYS, "auto-aof-rewrite-percentage": "0", "stop-writes-on-bgsave-error": "no"}
"""The settings of a server whose file has all that it has done since it started."""

PAUSE_MS: Final = 10_000
"""The longest that writes wait for a comparison of all indexes."""


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    with RedisServer(DURABLE, tcp=True) as server:
        yield server


_OPEN: Final = """
local open = 0
for _, line in ipairs(redis.call('KEYS', '{fang}:line:*')) do open = open + redis.call('ZCARD', line) end
for _, held in ipairs(redis.call('KEYS', '{fang}:held:*')) do open = open + redis.call('SCARD', held) end
return open
"""
"""Counts at one moment: a task may be given back while one counts, and be in neither place."""


class RedisTrial(Trial):
    """What a fault has in its hands, on a server of its own: ``server``."""

    server: Any
    replicas = 0
    """How many confirm each insert."""
    excepted: frozenset[UUID] = frozenset()
    """Tasks of which the fault itself says what holds, since the invariants do not: a failover has undone a part."""

    def connect(self) -> redis.Redis:
        """See ``Trial.connect``; the server has been up for an hour, as far as pools know."""
        client = self._client()
        seconds, _ = client.time()
        since = {"run": client.info("server")["run_id"], "since": (seconds - 3_600) * 1_000_000}
        client.hset("{fang}:meta", mapping=since)
        return client

    def look_again(self) -> None:
        """See ``Trial.look_again``."""
        self.database.close()
        self.database = self._client()

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def make_queue(self) -> Any:
        return RedisQueue(self.url, replicas=self.replicas)

    def make_async_queue(self) -> Any:
        return AsyncRedisQueue(self.url, replicas=self.replicas)

    def changes(self) -> tuple[list[Change], list[PoolChange]]:
        """See ``Trial.changes``."""
        return redis_audit.read(self.server.directory)

    def record(self) -> Record:
        """See ``Trial.record``; without the tasks that are ``excepted``."""
        record = super().record()
        return Record(
            [each for each in record.entries if each.task not in self.excepted],
            [each for each in record.changes if each.task not in self.excepted],
            record.pools,
            [each for each in record.acknowledgements if each.task not in self.excepted],
            record.strikes,
            flows=record.flows,
        )

    def count(self, condition: str, *parameters: Any) -> int:
        """How many tasks have not ended; it knows no other condition."""
        assert "in_progress" in condition
        assert not parameters
        return int(self.database.eval(_OPEN, 0))

    def held(self, worker: Worker) -> list[tuple[UUID, int]]:
        """See ``Trial.held``."""
        found = []
        for pool, record in self.database.hgetall("{fang}:pools").items():
            if f'"pid":{worker.given.get("pid", worker.pid)},' in record and f'"{worker.mode}"' in record:
                for task in self.database.smembers(f"{{fang}}:held:{pool}"):
                    found.append((UUID(task), int(self.database.hget(f"{{fang}}:t:{task}", "a") or 0)))
        return found

    def row(self, task: UUID) -> dict[str, str]:
        """The hash of a task."""
        row: dict[str, str] = self.database.hgetall(f"{{fang}}:t:{task}")
        return row

    def settle(self, within: float = 30) -> None:
        """See ``Trial.settle``; then what indexes the tasks is what it should be."""
        super().settle(within)
        assert_consistent(self.database)

    def answers(self) -> bool:
        """Whether the server is there."""
        try:
            return bool(self.database.ping())
        except redis.exceptions.ConnectionError:
            return False

    def said(self, text: str) -> int:
        """How often the workers have written this into their logs."""
        return sum(worker.said().count(text) for worker in self.fleet.workers)

    def shutdown(self, action: Callable[[], Any]) -> None:
        """Takes the server away in some way, and waits until it is back."""
        action()
        self.until(self.answers, within=60)


def assert_consistent(client: redis.Redis, prefix: str = "{fang}:") -> None:
    """Compares every index with the rows of tasks, while nobody writes."""
    client.client_pause(PAUSE_MS, all=False)
    try:
        there, should = indexes_there(client, prefix), indexes_of_rows(client, prefix)
    finally:
        client.client_unpause()
    differing = {name for name in there.keys() | should.keys() if there.get(name) != should.get(name)}
    assert not differing, {name: (there.get(name), should.get(name)) for name in differing}
