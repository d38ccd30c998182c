"""A key that holds a value of another type: what fails at it leaves each task whole, in all indexes or in none.

Scripts are not rolled back. A task that is left half way would be listed and never run, and keep equal ones out.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest
import redis

from fang_core import TaskState
from fang_core.conformance import Backend, Client
from fang_core.conformance.tasks import ThreadedLimitedNote, ThreadedNote, ThreadedUniqueNote
from fang_core.errors import BackendError
from fang_core.flow.limits import Limit
from fang_core.lifecycle import Outcome
from fang_core.liveness import Pulse
from fang_core.record import ClaimedTask, Task
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.uniqueness import Unique
from tests.backends import threaded_on_redis
from tests.redis.indexes import assert_exact

PREFIX = "{fang}:"
TYPES = ("common", "conformance.limited")
KINDS = tuple(each.__fang_options__.kind for each in (ThreadedNote, ThreadedLimitedNote, ThreadedUniqueNote))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
REPLACING = Unique(by="n", on_conflict="replace")
POSTPONING = Unique(by="n", while_="waiting", on_conflict="postpone")
COUNTED = ("busy", "running:")
"""Beginnings of names of hashes of numbers, which begin anew if something else has been put there."""


class Filled(NamedTuple):
    """A queue with tasks in every state, and what Redis has of it."""

    backend: Backend
    client: redis.Redis
    url: str
    pool: Client
    dead: Client
    waiting: dict[str, Task]
    held: list[ClaimedTask]
    ended: list[Task]
    dump: Mapping[str, bytes]

    def restore(self) -> None:
        """Puts all keys back as they were."""
        with redis.Redis.from_url(self.url) as raw, raw.pipeline() as pipeline:
            pipeline.flushdb()
            for key, value in self.dump.items():
                pipeline.restore(key, 0, value)  # type: ignore[arg-type]
            pipeline.execute()


@pytest.fixture
def filled(redis_url: str, redis_client: redis.Redis) -> Iterator[Filled]:
    backend = threaded_on_redis(redis_url)
    pool, dead = (backend.client(task_types=TYPES, kinds=KINDS) for _ in range(2))
    pool.declare(Limit(3), Limit(2, by="n"), kind=KINDS[1], task_type=TYPES[1])
    ended = backend.insert_many([backend.note(n=n) for n in range(2)])
    ended[0] = backend.move(ended[0], TaskState.FAILED)
    backend.call(backend.queue.cancel_task, ended[1].id)
    backend.insert_many([backend.note(n=n) for n in range(4)] + [backend.limited_note(n=n) for n in range(4)])
    of_dead = [*dead.claim(2), *dead.claim_lanes(1).tasks]
    held = [*pool.claim(2), *pool.claim_lanes(1).tasks]
    assert (len(of_dead), len(held)) == (3, 3)
    waiting = {
        "plain": backend.insert(backend.note(n=10)),
        "laned": backend.insert(backend.limited_note(n=11)),
        "replaced": backend.insert(backend.note(n=12), uniq=REPLACING, delay=HOUR),
        "postponed": backend.insert(backend.note(n=13), uniq=POSTPONING, delay=HOUR),
        "daily": backend.insert(backend.note(n=14), uniq=Unique(by="n", within=DAY)),
        "unique": backend.insert(backend.unique_note(n=15)),
    }
    pool.set_waiting(True)
    assert_exact(redis_client)
    with redis.Redis.from_url(redis_url) as raw:  # a dump is no text
        dump = {key.decode(): raw.dump(key) for key in raw.scan_iter()}  # type: ignore[union-attr]
    yield Filled(backend, redis_client, redis_url, pool, dead, waiting, held, ended, dump)  # type: ignore[arg-type]
    backend.close()


def insert_many(filled: Filled) -> None:
    note, limited = filled.backend.note, filled.backend.limited_note
    options: dict[str, Any] = {"uniq": REPLACING}
    filled.backend.insert_many([note(n=20), note(n=12, ending="fail"), limited(n=21), note(n=20)], **options)


def complete(filled: Filled) -> None:
    first, second, third = filled.held
    filled.pool.complete(
        Outcome(first.id, first.attempt, None),
        Outcome(second.id, second.attempt, TaskState.RETRIED, delay=HOUR, charges_crash=True),
        Outcome(third.id, third.attempt, TaskState.FAILED),
    )


def queue(name: str, *args: Any) -> Callable[[Filled], Any]:
    return lambda filled: filled.backend.call(getattr(filled.backend.queue, name), *args)


def of_task(name: str, task: str, *args: Any) -> Callable[[Filled], Any]:
    return lambda filled: filled.backend.call(getattr(filled.backend.queue, name), filled.waiting[task].id, *args)


def update(filled: Filled) -> None:
    new = filled.backend.note(n=12)
    filled.backend.call(filled.backend.queue.update_task, filled.waiting["replaced"], new, task_type=TYPES[1])


def move_in(filled: Filled) -> None:
    moving, task = filled.backend.queue.moving, filled.waiting["daily"]
    parcels = filled.backend.call(moving.read, [task.id])
    filled.backend.call(filled.backend.queue.remove_task, task.id)
    filled.backend.call(moving.put, parcels)


def replace(filled: Filled, **options: Any) -> None:
    filled.backend.insert(filled.backend.note(n=12, ending="fail"), uniq=REPLACING, **options)


STEPS: dict[str, Callable[[Filled], Any]] = {
    "replace": replace,
    "replace in another type": partial(replace, task_type=TYPES[1], priority=1),
    "postpone": lambda filled: filled.backend.insert(filled.backend.note(n=13), uniq=POSTPONING, delay=DAY),
    "insert many": insert_many,
    "claim": lambda filled: filled.pool.claim(3),
    "claim with limits": lambda filled: filled.pool.claim_lanes(2),
    "complete": complete,
    "reconcile": lambda filled: filled.pool.reconcile(),
    "rescue": lambda filled: filled.pool.rescue(Pulse(filled.dead.id, 0, True, False, 5.0)),
    "prune": lambda filled: filled.pool.prune(*TYPES),
    "fetch": lambda filled: filled.backend.fetch(),
    "cancel": of_task("cancel_task", "unique"),
    "cancel many": queue("cancel_tasks", TaskFilter(states=TaskState.NEW)),
    "retry": queue("retry_tasks", TaskFilter(states=TaskState.FAILED)),
    "revive": lambda filled: filled.backend.move(filled.ended[0], TaskState.NEW),
    "remove": of_task("remove_task", "laned"),
    "remove one of a day": of_task("remove_task", "daily"),
    "remove many": queue("remove_tasks", TaskFilter(states=TaskState.NEW)),
    "remove all": queue("remove_all_tasks"),
    "remove twin": lambda filled: filled.backend.call(
        filled.backend.queue.remove_task_by_metadata, filled.backend.unique_note(n=15)
    ),
    "update": update,
    "move": move_in,
}


@pytest.mark.parametrize("step", STEPS)
def test_what_fails_at_a_key_of_another_type_leaves_each_task_whole(filled: Filled, step: str) -> None:
    failed, broken = [], []
    for key in filled.dump:
        name = key.removeprefix(PREFIX)
        if name.startswith((*COUNTED, "t:", "e:")):
            continue
        filled.restore()
        filled.client.rename(key, "kept")
        filled.client.set(key, "odd")
        try:
            STEPS[step](filled)
        except BackendError:
            failed.append(name)
        filled.client.rename("kept", key)
        try:
            assert_exact(filled.client)
        except (AssertionError, KeyError) as error:
            broken.append(f"{name}: {error}")
    assert failed
    assert not broken, "\n".join(broken)


def test_a_move_that_fails_keeps_no_equal_task_out(filled: Filled) -> None:
    call, moving, task = filled.backend.call, filled.backend.queue.moving, filled.waiting["daily"]
    parcels = call(moving.read, [task.id])
    call(filled.backend.queue.remove_task, task.id)
    filled.client.rename("{fang}:types", "kept")
    filled.client.set("{fang}:types", "odd")
    with pytest.raises(BackendError, match=r"the key {fang}:types holds a string in place of a set: delete it"):
        call(moving.put, parcels)
    filled.client.rename("kept", "{fang}:types")
    assert filled.backend.insert(filled.backend.note(n=14), uniq=Unique(by="n", within=DAY)).conflict is False


def test_a_pool_that_could_not_be_registered_can_be_once_the_key_is_gone(filled: Filled) -> None:
    filled.client.delete("{fang}:beats")
    filled.client.set("{fang}:beats", "odd")
    other = filled.backend.stranger(task_types=TYPES, kinds=KINDS)
    with pytest.raises(BackendError, match=r"the key {fang}:beats"):
        other.register()
    filled.client.delete("{fang}:beats")
    other.register()
    assert other.claim(1)


def test_the_name_of_a_lane_which_may_be_a_customers_is_in_no_message(filled: Filled) -> None:
    key = "{fang}:lane:19:conformance.limited:2:11"
    filled.client.delete(key)
    filled.client.set(key, "odd")
    with pytest.raises(BackendError, match=r"the key {fang}:lane:\* holds a string in place of a zset"):
        filled.backend.call(filled.backend.queue.remove_task, filled.waiting["laned"].id)
