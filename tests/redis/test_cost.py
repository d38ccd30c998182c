"""How many commands a claim runs in the server: as many as it takes tasks, whatever else waits."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from fang_core.backends.claims import ClaimRequest, LaneRequest
from fang_core.backends.pools import Declaration
from fang_core.conformance import Backend
from fang_core.conformance.tasks import AsyncNote, ThreadedLimitedNote, ThreadedNote
from fang_core.driving import drive
from fang_core.flow.limits import rules_as_json
from fang_redis import RedisQueue
from fang_redis.operations import Operation, Script
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
    assert counts["zrange"] == 2  # the levels of the type, and the first tasks of the only one
    assert sum(counts.values()) < 2 * TAKEN + 25


def test_what_is_not_due_and_what_others_run_costs_a_claim_nothing(backend: Backend, redis_client: redis.Redis) -> None:
    due = [backend.note(n=n) for n in range(TAKEN + 1)]
    backend.insert_many(due)
    alone = claimed(backend, redis_client)
    backend.call(backend.queue.remove_all_tasks)
    backend.insert_many([backend.note(n=n) for n in range(500)], delay=timedelta(hours=1))
    backend.insert_many([AsyncNote(n=n) for n in range(500)])
    backend.insert_many(due)
    assert claimed(backend, redis_client) == alone


COUNTING = """
local seen = 0
local function counted(...)
  local reply = redis.call(...)
  seen = seen + (type(reply) == 'table' and #reply or 1)
  redis.call('SET', 'seen', seen)
  return reply
end
"""


def read(client: redis.Redis, operation: Operation[Any]) -> int:
    """How many values a script gets from its commands: one of them may read a whole index."""
    assert isinstance(operation.what, Script)
    text = COUNTING + operation.what.text.replace("redis.call,", "counted,", 1)
    client.eval(text, len(operation.keys), *operation.keys, *operation.args)
    return int(client.get("seen"))  # type: ignore[arg-type]


def wait_in_kinds(client: redis.Redis, task_type: str, kinds: range) -> None:
    """Has a task wait of each of many kinds that no class has."""
    with client.pipeline() as pipeline:
        for number in kinds:
            pipeline.zadd(f"{{fang}}:levels:{task_type}", {f"kind{number}\0002-:": 0})
            pipeline.zadd(f"{{fang}}:line:{len(task_type)}:{task_type}:2-:kind{number}", {"task": 1})
        pipeline.execute()


def test_a_claim_reads_no_more_however_many_other_kinds_wait(backend: Backend, redis_client: redis.Redis) -> None:
    backend.insert_many([backend.note(n=n) for n in range(4 * TAKEN)])
    request = ClaimRequest(backend.client().id, ("common",), (ThreadedNote.__fang_options__.kind,), TAKEN)
    operation = next(backend.queue._pool_verbs.claim(request))
    alone = read(redis_client, operation)
    wait_in_kinds(redis_client, "common", range(300))
    beside_some = read(redis_client, operation)
    assert beside_some <= alone + 201 + 5  # a page of the levels, before it asks for its own kinds
    wait_in_kinds(redis_client, "common", range(300, 5_000))
    assert read(redis_client, operation) == beside_some


@pytest.mark.parametrize("kinds", [(), ("kind0", "kind4999", "unknown")])
def test_a_claim_from_a_type_of_many_kinds_finds_those_of_its_own(
    backend: Backend, redis_client: redis.Redis, kinds: tuple[str, ...]
) -> None:
    """It may have suspects, retries, other priorities, and a kind whose name another one begins with."""
    wait_in_kinds(redis_client, "common", range(5_000))
    note = ThreadedNote.__fang_options__.kind
    tasks = backend.insert_many([backend.note(n=1)]) + backend.insert_many([backend.note(n=2)], priority=-2)
    redis_client.zadd("{fang}:levels:common", {f"{note}2\0000-:": 0, f"{note}\0003s4=": 0})
    request = ClaimRequest(backend.client().id, ("common",), (note, *kinds), TAKEN)
    claim = drive(backend.queue.store().claim(request))
    assert [task.id for task in claim.tasks] == [tasks[1].id, tasks[0].id]


def test_a_claim_from_a_limited_type_reads_no_more_however_many_keys_have_runs(
    backend: Backend, redis_client: redis.Redis
) -> None:
    task_type, options = "conformance.limited", ThreadedLimitedNote.__fang_options__
    store, pool = backend.queue.store(), backend.client()
    drive(store.declare([Declaration(task_type, {options.kind: rules_as_json(options.rules)})]))
    backend.call(backend.queue.insert_task, ThreadedLimitedNote(n=1))
    request = LaneRequest(pool.id, task_type, (options.kind,), TAKEN)
    operation = next(backend.queue._pool_verbs.claim_lanes(request))
    alone = read(redis_client, operation)
    redis_client.hset(f"{{fang}}:running:{task_type}", mapping={f"key{n}": 1 for n in range(5_000)})
    wait_in_kinds(redis_client, task_type, range(5_000))
    assert read(redis_client, operation) <= alone + 201 + 5


@pytest.mark.parametrize("count", [1, 100])
def test_an_insert_is_one_script(backend: Backend, redis_client: redis.Redis, count: int) -> None:
    tasks = [backend.note(n=n) for n in range(count)]
    backend.insert_many(tasks)  # the connection is there, and the server knows the script
    assert commands(redis_client, lambda: backend.insert_many(tasks))["evalsha"] == 1
