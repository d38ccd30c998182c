"""A list, a count and an explanation look at as much as they show, however many tasks there are."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis

from fang_core.conformance import Backend
from fang_core.driving import drive
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from tests.backends import threaded_on_redis
from tests.redis.indexes import assert_exact

HOUR = timedelta(hours=1)
MANY = 4_000
FEW = 40


@pytest.fixture
def backend(redis_url: str) -> Iterator[Backend]:
    made = threaded_on_redis(redis_url)
    yield made
    made.close()


def commands(client: redis.Redis, call: Callable[[], Any]) -> int:
    """Returns how many commands the server carries out for a call, those of its scripts included."""
    client.config_resetstat()
    call()
    stats = client.info("commandstats")
    return int(sum(each["calls"] for name, each in stats.items() if name not in ("cmdstat_config|resetstat",)))


@pytest.mark.parametrize("name", ["waiting", "ended", "all", "count", "explain", "stats", "types"])
def test_it_costs_no_more_with_many_tasks_than_with_few(backend: Backend, redis_client: redis.Redis, name: str) -> None:
    queue, call = backend.queue, backend.call

    def insert(number: int) -> Any:
        """Half of them at the same time, so that their ids decide; some have ended."""
        rows = backend.insert_many([backend.note(n=n) for n in range(number)], delay=HOUR)
        call(queue.cancel_tasks, TaskFilter(ids=[row.id for row in rows[: number // 4]]))
        return rows[number // 2]

    def look(task: Any) -> Callable[[], Any]:
        which = {"waiting": TaskFilter(states=TaskState.NEW), "ended": TaskFilter(states=TaskState.CANCELLED)}
        filters = which.get(name, TaskFilter())
        return {
            "count": lambda: call(queue.count_tasks, TaskFilter(states=TaskState.NEW)),
            "explain": lambda: call(queue.explain, task.id),
            "stats": lambda: call(queue.stats),
            "types": lambda: call(queue.limits.list),
        }.get(name, lambda: call(queue.list_tasks, filters, limit=10))

    few = look(insert(FEW))
    few()  # the server knows the scripts now
    costs = commands(redis_client, few)
    task = insert(MANY)
    assert commands(redis_client, look(task)) <= costs + 20


def test_a_page_begins_where_the_last_one_ended_among_tasks_of_one_time(
    backend: Backend, redis_client: redis.Redis
) -> None:
    backend.insert_many([backend.note(n=n) for n in range(MANY)], delay=HOUR)
    which, queue = TaskFilter(states=TaskState.NEW), backend.queue
    first = backend.call(queue.list_tasks, which, limit=500)
    page, seen = first, [task.id for task in first.tasks]
    costs = []
    while page.cursor is not None:
        cursor = page.cursor
        costs.append(commands(redis_client, lambda: None))
        page = backend.call(queue.list_tasks, which, limit=500, cursor=cursor)
        stats = redis_client.info("commandstats")
        costs[-1] = int(sum(each["calls"] for each in stats.values()))
        seen += [task.id for task in page.tasks]
    assert seen == sorted(seen)
    assert len(seen) == len(set(seen)) == MANY
    assert max(costs[:-1]) <= costs[0] + 100


def test_a_task_whose_hash_was_removed_by_hand_is_passed_over(backend: Backend, redis_client: redis.Redis) -> None:
    rows = backend.insert_many([backend.note(n=n) for n in range(3)], delay=HOUR)
    redis_client.delete(f"{{fang}}:t:{rows[1].id}")
    for which in (TaskFilter(), TaskFilter(states=TaskState.NEW)):
        page = backend.call(backend.queue.list_tasks, which)
        assert {task.id for task in page.tasks} == {rows[0].id, rows[2].id}
    assert backend.call(backend.queue.remove_all_tasks) == 2


def test_the_outlook_of_many_kinds_and_types_is_read_in_steps(backend: Backend, redis_client: redis.Redis) -> None:
    kinds = {f"kind{n}" for n in range(450)}
    with redis_client.pipeline() as pipeline:
        for task_type in ("common", *(f"type{n}" for n in range(450))):
            for kind in kinds if task_type == "common" else {"other"}:
                pipeline.sadd("{fang}:types", task_type)
                pipeline.zadd(f"{{fang}}:levels:{task_type}", {f"{kind}\0002-:": 0})
                pipeline.zadd(f"{{fang}}:line:{len(task_type)}:{task_type}:2-:{kind}", {"task": 1})
        pipeline.execute()
    store = backend.queue.store()
    redis_client.config_resetstat()
    assert set(drive(store.unknown_kinds(("common",)))) == kinds
    assert len(drive(store.unserved_types(timedelta(0)))) == 451
    waiting = drive(store.waiting_types(1_000))
    assert waiting is not None
    assert len(waiting) == 451
    stats = redis_client.info("commandstats")
    assert stats["cmdstat_zrange"]["calls"] <= stats["cmdstat_evalsha"]["calls"] * 2 * 320
    drive(store.close())


def test_all_tasks_are_removed_without_reading_them_as_wholes(backend: Backend, redis_client: redis.Redis) -> None:
    tasks = [backend.note(n=n) for n in range(600)]
    backend.insert_many(tasks[:300])
    backend.insert_many(tasks[300:], delay=HOUR)
    redis_client.config_resetstat()
    late: list[Any] = []

    def insert_late(done: int) -> None:
        """While they are removed: such a task stays, though its id is behind those that were looked at."""
        late.append(backend.call(backend.queue.insert_task, backend.note(n=done), id=UUID(int=done)))

    assert backend.call(backend.queue.remove_all_tasks, on_progress=insert_late) == 600
    assert late
    assert "cmdstat_hgetall" not in redis_client.info("commandstats")
    left = backend.call(backend.queue.list_tasks, limit=500).tasks
    assert {task.id for task in left} == {task.id for task in late}
    assert_exact(redis_client)
