"""What has ended and was pruned leaves no key behind."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from fang_core.conformance import Backend
from fang_core.flow.limits import Fair, Limit, Rate
from fang_core.messages import Resize
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.uniqueness import Unique
from tests.backends import threaded_on_redis
from tests.redis.indexes import assert_exact

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
TYPES = ("common", "conformance.limited", "elsewhere")


@pytest.fixture
def backend(redis_url: str) -> Iterator[Backend]:
    made = threaded_on_redis(redis_url)
    yield made
    made.close()


def test_what_has_ended_and_was_pruned_leaves_no_key(backend: Backend, redis_client: redis.Redis) -> None:
    call, queue = backend.call, backend.queue
    kinds = [each.__fang_options__.kind for each in (backend.note, backend.limited_note, backend.unique_note)]
    client = backend.client(task_types=TYPES, kinds=kinds)
    client.declare(Limit(50), Fair("n"), Rate(1_000, by="n"), kind=kinds[1], task_type="conformance.limited")
    call(queue.control, client.id, Resize(2))
    call(queue.schedules.put, "nightly", backend.note(), cron="0 3 * * *")
    for n, uniq in enumerate((True, Unique(while_="waiting"), Unique(within=MICROSECOND), Unique(within=HOUR))):
        backend.insert(backend.note(n=n), uniq=uniq, task_type="elsewhere")
        backend.insert(backend.limited_note(n=n))
        backend.insert(backend.note(n=10 + n), delay=HOUR, priority=-1)
    tasks = [*client.claim(), *client.claim_lanes(task_type="conformance.limited").tasks]
    assert len(tasks) == 8
    for number, task in enumerate(tasks):
        assert client.end(task, (None, TaskState.FINISHED, TaskState.FAILED)[number % 3], error_entry='{"number":1}')
    assert call(queue.cancel_tasks, TaskFilter(task_types="common")) == 4
    assert_exact(redis_client)

    call(queue.schedules.remove, "nightly")
    client.declare(kind=kinds[1], task_type="conformance.limited")
    for row in call(queue.list_tasks, TaskFilter(states=TaskState.FINISHED)).tasks[:1]:
        call(queue.remove_task, row.id)
    assert client.prune(*TYPES) > 0
    held_out = backend.insert(backend.note(n=3), uniq=Unique(within=HOUR))
    assert held_out.conflict  # its period goes on, though its row is gone
    call(queue.remove_task, held_out.id)
    client.unregister()
    client.die()
    assert {key for key in redis_client.scan_iter() if key != "{fang}:meta"} == set()


def test_rates_of_keys_that_are_full_again_are_forgotten(backend: Backend, redis_client: redis.Redis) -> None:
    kind = backend.limited_note.__fang_options__.kind
    client = backend.client(task_types=("conformance.limited",), kinds=(kind,))
    client.declare(Rate(1, per=HOUR, burst=5, by="n"), kind=kind, task_type="conformance.limited")
    for n in range(3):
        backend.insert(backend.limited_note(n=n))
    assert len(client.claim_lanes().tasks) == 3
    assert redis_client.hlen("{fang}:tats:conformance.limited") == 3
    redis_client.hset("{fang}:tats:conformance.limited", "1", "1")  # long ago
    client.prune("conformance.limited")
    assert set(redis_client.hkeys("{fang}:tats:conformance.limited")) == {"0", "2"}
