"""How many commands a claim runs in the server: as many as it takes tasks, whatever else waits."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from fang_core.backends.claims import ClaimRequest
from fang_core.conformance import Backend
from fang_core.conformance.tasks import AsyncNote, ThreadedNote
from fang_core.driving import drive
from fang_redis import RedisQueue
from fang_threaded import WorkerPool

TAKEN = 10


@pytest.fixture
def backend(redis_url: str) -> Iterator[Backend]:
    made = Backend("threaded", queue=lambda: RedisQueue(redis_url), pool=WorkerPool)
    yield made
    made.close()


def commands(client: redis.Redis, work: Callable[[], Any]) -> dict[str, int]:
    """How often each command is called meanwhile, by clients and by scripts."""
    client.config_resetstat()  # type: ignore[no-untyped-call]
    work()
    stats: dict[str, Any] = client.info("commandstats")  # type: ignore[assignment]
    counts = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: count for name, count in counts.items() if name not in {"config|resetstat", "info"}}


def claimed(backend: Backend, client: redis.Redis) -> dict[str, int]:
    pool = backend.client()
    request = ClaimRequest(pool.id, ("common",), (ThreadedNote.__fang_options__.kind,), TAKEN)
    store = backend.queue.store()
    return commands(client, lambda: drive(store.claim(request)))


def test_a_claim_is_one_script_that_reads_only_what_it_takes(backend: Backend, redis_client: redis.Redis) -> None:
    backend.insert_many([backend.note(n=n) for n in range(2 * TAKEN)])
    counts = claimed(backend, redis_client)
    assert counts["evalsha"] == 1
    assert counts["hset"] == TAKEN
    assert counts["hmget"] == TAKEN + 1  # each task, and whether the type has limits
    assert counts["zrange"] == 1
    assert sum(counts.values()) < 2 * TAKEN + 20


def test_what_is_not_due_and_what_others_run_costs_a_claim_nothing(backend: Backend, redis_client: redis.Redis) -> None:
    due = [backend.note(n=n) for n in range(TAKEN + 1)]
    backend.insert_many(due)
    alone = claimed(backend, redis_client)
    backend.call(backend.queue.remove_all_tasks)
    backend.insert_many([backend.note(n=n) for n in range(500)], delay=timedelta(hours=1))
    backend.insert_many([AsyncNote(n=n) for n in range(500)])
    backend.insert_many(due)
    assert claimed(backend, redis_client) == alone


@pytest.mark.parametrize("count", [1, 100])
def test_an_insert_is_one_script(backend: Backend, redis_client: redis.Redis, count: int) -> None:
    tasks = [backend.note(n=n) for n in range(count)]
    backend.insert_many(tasks)  # the connection is there, and the server knows the script
    assert commands(redis_client, lambda: backend.insert_many(tasks))["evalsha"] == 1
