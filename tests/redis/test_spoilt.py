"""Rows that another client has spoilt: others run, the spoilt one is failed in one line, and nobody who looks fails."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis

from fang_core import RetentionMode, TaskState
from fang_core.conformance import Backend
from fang_core.conformance.tasks import ThreadedLimitedNote, ThreadedNote
from fang_core.errors import BackendError
from fang_core.liveness import Pulse
from fang_core.record import Task
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.uniqueness import Unique
from fang_core.words.moments import LATEST
from fang_redis import RedisQueue
from fang_redis.layout import Keys
from fang_threaded import WorkerPool
from tests.backends import threaded_on_redis
from tests.redis.indexes import assert_exact
from tests.redisserver import wait_for

TYPES = ("common", "conformance.limited")
ODD = {
    "missing": None,
    "odd": b"odd",
    "no UTF-8": b"\xff\xfe",
    "huge": b"9" * 400,
    "exponent": b"1e300",
    "not a number": b"nan",
    "other": b"[100]",
    "padded": b"007",
    "early": b"-99999999999999999",
}
FIELDS = "mkTprxcsdnuaePCHoXqgL"
READ = frozenset("mpxrcdHoXqg")
"""The fields that a claim reads: if one of them is odd, no pool can run the task."""


@pytest.fixture
def backend(redis_url: str) -> Iterator[Backend]:
    made = threaded_on_redis(redis_url)
    yield made
    made.close()


def spoil(client: redis.Redis, task: Task, field: str, value: bytes | None) -> None:
    key = Keys("fang").task(task.id)
    if field == "all":
        client.delete(key)
        client.rpush(key, "a list")
    elif value is None:
        client.hdel(key, field)
    else:
        client.hset(key, field, value)


def pool_on(backend: Backend) -> WorkerPool:
    return WorkerPool(backend.queue, number_of_workers=2, task_type=TYPES, retention_mode=RetentionMode.KEEP_ALL)


def inserted(backend: Backend, cls: type[ThreadedNote], number: int = 5) -> list[Task]:
    """Tasks in the backend, which knows the limits of their class."""
    with pool_on(backend):
        pass
    return backend.insert_many([cls(n=n) for n in range(number)])


def states(backend: Backend, tasks: list[Task]) -> set[TaskState | None]:
    found = [backend.call(backend.queue.find_task_by_id, task.id) for task in tasks]
    return {None if task is None else task.state for task in found}


@pytest.mark.parametrize("cls", [ThreadedNote, ThreadedLimitedNote])
@pytest.mark.parametrize("value", ODD)
def test_others_run_and_it_is_failed_in_one_line_if_no_pool_can_run_it(
    backend: Backend,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    value: str,
    cls: type[ThreadedNote],
) -> None:
    tasks = inserted(backend, cls, 2 * len(FIELDS))
    others, spoilt = tasks[::2], dict(zip(FIELDS, tasks[1::2], strict=True))
    for field, task in spoilt.items():
        spoil(redis_client, task, field, ODD[value])
    with caplog.at_level(logging.WARNING):
        pool_on(backend).drain()
    assert states(backend, others) == {TaskState.FINISHED}
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not any(record.exc_info for record in lines)
    levels = {
        field: [record.levelname for record in lines if str(task.id) in record.getMessage()]
        for field, task in spoilt.items()
    }
    assert sum(map(len, levels.values())) == len(lines)
    assert max(map(len, levels.values())) <= 1, levels
    if value == "odd":
        assert [levels[field] for field in FIELDS if field in READ] == [["ERROR"]] * len(READ)
        assert states(backend, [spoilt[field] for field in READ]) == {TaskState.FAILED}
    assert redis_client.hgetall("{fang}:busy") == {}


@pytest.mark.parametrize("cls", [ThreadedNote, ThreadedLimitedNote])
def test_others_run_beside_a_key_that_holds_no_hash(
    backend: Backend, redis_client: redis.Redis, cls: type[ThreadedNote]
) -> None:
    *others, spoilt = inserted(backend, cls)
    spoil(redis_client, spoilt, "all", None)
    pool_on(backend).drain()
    assert states(backend, others) == {TaskState.FINISHED}


@pytest.mark.parametrize(
    ("key", "field"),
    [("busy", TYPES[1]), ("running:conformance.limited", "0"), ("tats:conformance.limited", "0")]
    + [("managed:conformance.limited", each) for each in ("until", "tat", "key_most", "weights", "interval", "burst")]
    + [("managed:common", "until")],
)
def test_tasks_are_inserted_and_run_whatever_stands_in_the_hashes_of_their_types(
    backend: Backend, redis_client: redis.Redis, key: str, field: str
) -> None:
    inserted(backend, ThreadedLimitedNote, 1)
    redis_client.hset(f"{{fang}}:{key}", field, "odd")
    others = backend.insert_many([cls(n=n) for n in range(2) for cls in (ThreadedNote, ThreadedLimitedNote)])
    pool_on(backend).drain()
    assert states(backend, others) == {TaskState.FINISHED}


def test_a_claim_looks_further_if_it_has_brought_none_that_can_be_read(
    backend: Backend, redis_client: redis.Redis
) -> None:
    *spoilt, last = inserted(backend, ThreadedNote, 31)
    for task in spoilt:
        spoil(redis_client, task, "m", b"odd")
    assert [task.id for task in backend.client().claim(10)] == [last.id]
    assert states(backend, spoilt) == {TaskState.FAILED}


def test_a_claim_fails_no_row_that_agrees_with_its_index(backend: Backend, redis_client: redis.Redis) -> None:
    """One of a limited type that was started, changed or removed since it was picked is none."""
    (task,) = inserted(backend, ThreadedLimitedNote, 1)
    claim = backend.queue._pool_verbs.claim_lanes(
        backend.client(task_types=TYPES, kinds=(ThreadedLimitedNote.__fang_options__.kind,)).lanes()
    )
    look = next(claim)
    start = claim.send(redis_client.eval(look.what.text, 2, *look.keys, *look.args))  # type: ignore[union-attr]
    backend.call(backend.queue.cancel_task, task.id)
    version = redis_client.hget(f"{{fang}}:managed:{TYPES[1]}", "version")
    args = [start.args[0], start.args[1], version, *start.args[3:]]
    moved = redis_client.eval(start.what.text, 2, *start.keys, *args)  # type: ignore[union-attr]
    assert moved[2] == "moved"
    mend = claim.send(moved)
    assert redis_client.eval(mend.what.text, 2, *mend.keys, *mend.args) == 0  # type: ignore[union-attr]
    assert states(backend, [task]) == {TaskState.CANCELLED}


LOOKS: dict[str, Callable[[RedisQueue, Task], Any]] = {
    "list": lambda queue, _: queue.list_tasks(),
    "waiting": lambda queue, _: queue.list_tasks(TaskFilter(states=TaskState.NEW)),
    "count": lambda queue, _: queue.count_tasks(TaskFilter(kinds=[ThreadedNote.__fang_options__.kind])),
    "find": lambda queue, task: queue.find_task_by_id(task.id),
    "explain": lambda queue, task: queue.explain(task.id),
    "stats": lambda queue, _: queue.stats(),
    "retry": lambda queue, task: queue.retry_tasks(TaskFilter(ids=[task.id])),
    "cancel one": lambda queue, task: queue.cancel_tasks(TaskFilter(ids=[task.id])),
    "cancel": lambda queue, _: queue.cancel_tasks(TaskFilter(states=TaskState.NEW)),
    "remove": lambda queue, _: queue.remove_all_tasks(),
}


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("field", [*FIELDS, "all"])
def test_who_looks_or_changes_others_does_not_fail(
    backend: Backend, redis_client: redis.Redis, field: str, value: str
) -> None:
    *others, spoilt = inserted(backend, ThreadedNote)
    spoil(redis_client, spoilt, field, ODD[value])
    found = {name: look(backend.queue, spoilt) for name, look in LOOKS.items()}
    assert {task.id for task in others} <= {task.id for task in found["list"].tasks}
    assert states(backend, others) == {None}


def test_pages_end_and_show_each_task_whatever_stands_in_its_hash(backend: Backend, redis_client: redis.Redis) -> None:
    tasks = backend.insert_many([backend.note(n=n) for n in range(20)], delay=timedelta(hours=1))
    for task, value in zip(tasks[::2], [*ODD.values(), b"-5"], strict=True):
        spoil(redis_client, task, "d", value)
    seen: list[Any] = []
    page = backend.call(backend.queue.list_tasks, TaskFilter(states=TaskState.NEW), limit=3)
    while page.cursor is not None and len(seen) < 100:
        seen += [task.id for task in page.tasks]
        page = backend.call(backend.queue.list_tasks, TaskFilter(states=TaskState.NEW), limit=3, cursor=page.cursor)
    assert seen + [task.id for task in page.tasks] == [task.id for task in tasks]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("field", [*FIELDS, "all"])
def test_what_a_dead_pool_held_is_taken_back_beside_it(
    backend: Backend, redis_client: redis.Redis, field: str, value: str
) -> None:
    dead, other = backend.client(), backend.client()
    tasks = backend.insert_many([backend.note(n=n) for n in range(3)])
    assert len(dead.claim()) == len(tasks)
    spoil(redis_client, tasks[1], field, ODD[value])
    told = other.rescue(Pulse(dead.id, 0, True, False, 5.0))
    assert {tasks[0].id, tasks[2].id} <= {each.id for each in told}
    assert states(backend, [tasks[0], tasks[2]]) == {TaskState.RETRIED}


# Keys beside the tasks ------------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)
UNIQUE = (True, Unique(while_="waiting"), Unique(while_="waiting", on_conflict="replace"), Unique(on_conflict="raise"))


@pytest.mark.parametrize("uniq", UNIQUE, ids=("unfinished", "waiting", "replacing", "raising"))
def test_a_unique_task_whose_hash_was_removed_by_hand_keeps_no_equal_one_out(
    backend: Backend, redis_client: redis.Redis, uniq: Any
) -> None:
    gone = backend.insert(backend.note(n=1), uniq=uniq)
    redis_client.delete(Keys("fang").task(gone.id))
    task = backend.insert(backend.note(n=1), uniq=uniq)
    assert (task.conflict, task.id == gone.id) == (False, False)
    pool_on(backend).drain()
    assert states(backend, [task]) == {TaskState.FINISHED}


def test_a_task_is_taken_back_and_changed_though_the_index_names_none_as_its_twin(
    backend: Backend, redis_client: redis.Redis
) -> None:
    held, other = (backend.insert(backend.note(n=n), uniq=True) for n in range(2))
    dead = backend.client()
    assert [task.id for task in dead.claim(1)] == [held.id]
    for name in redis_client.hkeys("{fang}:unique"):
        redis_client.hset("{fang}:unique", name, "odd")
    assert [each.id for each in backend.client().rescue(Pulse(dead.id, 0, True, False, 5.0))] == [held.id]
    cancelled = backend.call(backend.queue.cancel_task, other.id)
    backend.call(backend.queue.update_task_state, cancelled, TaskState.NEW)
    assert states(backend, [held, other]) == {TaskState.NEW, TaskState.RETRIED}


def wrongs_of(client: redis.Redis, key: str) -> Iterator[tuple[str, bytes | str]]:
    """The fields of a hash, each with what nobody of ours has written."""
    fields = client.hkeys(key) or ["odd"]
    return ((str(field), value or b"") for field in fields for value in ODD.values())


JSON_KEYS = ("pools", "workers", "leases", "started", "runs", "live", "beats", "periods", "schedules", "meta")


@pytest.mark.parametrize("name", [*JSON_KEYS, "managed:common", "stats:60:60", "tats:conformance.limited"])
def test_others_run_and_are_seen_whatever_stands_in_a_hash_beside_them(
    backend: Backend, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """What a pool tells, what holds for types and schedules, and history."""
    call, queue, key = backend.call, backend.queue, f"{{fang}}:{name}"
    kinds = [each.__fang_options__.kind for each in (backend.note, backend.limited_note)]
    dead = backend.client(task_types=TYPES, kinds=kinds)
    redis_client.zadd("{fang}:stats:60", {"60": 60, "odd": 60})
    redis_client.zadd("{fang}:stats:open", {"60": 60, "odd": 60})
    call(queue.schedules.put, "nightly", backend.note(), cron="0 3 * * *")
    for uniq in (Unique(within=timedelta(microseconds=1)), Unique(within=HOUR)):
        backend.insert(backend.note(n=-1), uniq=uniq)
    if name == "beats":  # a pool of that name would be another one's
        redis_client.hset(key, "odd", "0")
    for field, value in list(wrongs_of(redis_client, key)):
        if field in ("layout", "epoch") or (name, field) == ("beats", str(dead.id)):
            continue
        redis_client.hset(key, field, value)
    with pool_on(backend) as pool:
        other = backend.client(task_types=TYPES, kinds=kinds)
        task = backend.insert(backend.note(n=1))
        assert call(queue.explain, task.id) is not None
        assert queue.pools() is not None
        assert queue.stats() is not None
        assert queue.heat_map(kinds[0]) is not None
        other.prune(*TYPES)
        other.rescue(Pulse(dead.id, 0, True, False, 5.0))
        pool.drain()
    assert states(backend, [task]) <= {TaskState.FINISHED, None}
    assert not any(record.exc_info for record in caplog.records)


NO_JSON = ("no JSON", "null", "[]", "7", b"\xff")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_pool_starts_and_runs_others_though_what_holds_for_one_of_its_types_cannot_be_read(
    backend: Backend, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    (limited,) = inserted(backend, ThreadedLimitedNote, 1)
    key, good = f"{{fang}}:managed:{TYPES[1]}", redis_client.hget(f"{{fang}}:managed:{TYPES[1]}", "row")
    redis_client.hset(key, "row", "no JSON")
    with pytest.raises(BackendError, match=f"the row of task type '{TYPES[1]}' in the hash managed:"):
        backend.call(backend.queue.limits.list)
    with pool_on(backend):
        others = backend.insert_many([backend.note(n=n) for n in range(20)])
        wait_for(lambda: states(backend, others) == {TaskState.FINISHED}, "the others have not run")
        assert states(backend, [limited]) == {TaskState.NEW}
        assert 1 <= sum("managed:conformance.limited cannot be read" in line for line in told(caplog)) <= 4
        redis_client.hset(key, "row", str(good))
        wait_for(lambda: states(backend, [limited]) == {TaskState.FINISHED}, "the type stands still")


@pytest.mark.parametrize("value", ["odd", None])
def test_a_pool_goes_on_that_finds_the_mark_of_a_limited_type_spoilt(
    backend: Backend, redis_client: redis.Redis, value: str | None
) -> None:
    key = f"{{fang}}:managed:{TYPES[1]}"
    with pool_on(backend):
        (task,) = backend.insert_many([backend.limited_note(n=1)])
        wait_for(lambda: states(backend, [task]) == {TaskState.FINISHED}, "it has not run")
        redis_client.hdel(key, "limited")
        if value is not None:
            redis_client.hset(key, "limited", value)
        (task,) = backend.insert_many([backend.limited_note(n=1)])
        wait_for(lambda: states(backend, [task]) == {TaskState.FINISHED}, "the type stands still")


def test_other_schedules_tick_and_each_spoilt_one_is_named_once(
    backend: Backend, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"bad{n}" for n in range(len(NO_JSON))]
    for name in ("good", *names):
        backend.call(backend.queue.schedules.put, name, backend.note(), every=timedelta(seconds=1))
    for name, text in zip(names, NO_JSON, strict=True):
        redis_client.hset("{fang}:schedules", name, text)
    with pytest.raises(BackendError, match="the row of schedule 'bad0' in the hash schedules cannot be read"):
        backend.call(backend.queue.schedules.list)
    with pool_on(backend):
        finished = TaskFilter(states=TaskState.FINISHED)
        wait_for(lambda: backend.call(backend.queue.count_tasks, finished).count >= 2, "no schedule ticked")
    lines = [line for line in told(caplog) if "append-only" not in line]
    assert [sum(f"'{name}'" in line for line in lines) for name in names] == [1] * len(names)
    assert len(lines) == len(names)


def test_a_class_whose_schedule_is_spoilt_makes_no_tick(backend: Backend, redis_client: redis.Redis) -> None:
    client = backend.client()
    client.declare_schedules({"yearly": {}})
    assert client.read_schedules("yearly").last_ticks["yearly"] < LATEST
    redis_client.hset("{fang}:schedules", "yearly", "no JSON")
    client.declare_schedules({"yearly": {}, "other": {}})
    state = client.read_schedules("yearly", "other")
    assert state.last_ticks["yearly"] == LATEST
    assert state.last_ticks["other"] < LATEST


@pytest.mark.parametrize(
    "key",
    [
        "ids",
        "types",
        "unique",
        "periods",
        "levels:common",
        "line:6:common:2-:conformance.ThreadedNote",
        "lanes:LIMITED:2",
    ],
)
def test_an_insert_that_fails_at_such_a_key_has_written_nothing(
    backend: Backend, redis_client: redis.Redis, key: str
) -> None:
    """A row without its place in a line would never run, and would keep out the same insert, made again."""
    name = "{fang}:" + key.replace("LIMITED", "19:conformance.limited")
    daily = {"uniq": Unique(by="n", within=timedelta(days=1))}
    backend.drain(task_type="conformance.limited")  # its pool declares the limits
    backend.insert_many([backend.note(n=1), backend.limited_note(n=1)])
    backend.insert(backend.note(n=1), **daily)
    assert redis_client.rename(name, "kept")
    redis_client.set(name, "odd")
    before, ids = set(redis_client.scan_iter("{fang}:t:*")), [uuid4() for _ in range(3)]
    refused = 0
    for number, (task, options) in enumerate(WAYS):
        try:
            backend.insert(getattr(backend, task)(n=2 + number), id=ids[number], **options)
        except BackendError:
            refused += 1
    with pytest.raises(BackendError):
        backend.insert_many([backend.note(n=7), backend.limited_note(n=7), backend.unique_note(n=7)], **daily)
    assert refused
    assert len(set(redis_client.scan_iter("{fang}:t:*")) - before) == len(WAYS) - refused
    redis_client.rename("kept", name)
    for number, (task, options) in enumerate(WAYS):
        assert backend.insert(getattr(backend, task)(n=2 + number), id=ids[number], **options).id == ids[number]
    assert_exact(redis_client)


WAYS: list[tuple[str, dict[str, Any]]] = [
    ("note", {}),
    ("limited_note", {}),
    ("note", {"uniq": Unique(by="n", within=timedelta(days=1))}),
]
