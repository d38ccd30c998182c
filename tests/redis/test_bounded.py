"""A list, a count and an explanation look at as much as they show, however many tasks there are."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from fang_core.conformance import Backend
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from tests.backends import threaded_on_redis

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
