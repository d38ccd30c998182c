"""Rows that somebody put in by hand never stop a worker: what stands beside them runs, and each is accounted for."""

import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fang_async.runtime import AsyncioRuntime
from fang_core.backends.store import UpkeepStore
from fang_core.config import PoolOptions
from fang_core.conformance import Backend
from fang_core.errors import UnreadablePayload
from fang_core.pool.maintenance import Maintenance
from fang_core.pool.threads import ThreadRuntime
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from tests.backends import async_on_postgres, threaded_on_postgres

pytestmark = pytest.mark.usefixtures("no_finalizers_in_depth")

INSERT = "INSERT INTO fang.fang_tasks ({columns}) VALUES ({values}) RETURNING id"
ONCE = {"max_retries": 0}
FAILURE = "UnreadablePayload: the payload does not fit "


@pytest.fixture(params=[threaded_on_postgres, async_on_postgres], ids=["threaded", "async"])
def backend(request: pytest.FixtureRequest, url: str) -> Iterator[Backend]:
    made: Backend = request.param(url)
    yield made
    made.close()


@pytest.fixture
def sql(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def put(sql: psycopg.Connection[Any], metadata: Any, **columns: Any) -> UUID:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    given = {"metadata": text, **columns}
    statement = INSERT.format(columns=", ".join(given), values=", ".join(f"%({name})s" for name in given))
    task_id: UUID = sql.execute(statement.encode(), given).fetchone()[0]  # type: ignore[index]
    return task_id


def state_of(sql: psycopg.Connection[Any], task_id: UUID) -> Any:
    return sql.execute(
        "SELECT state::text, error_message, retries FROM fang.fang_tasks WHERE id = %s", [task_id]
    ).fetchone()


def runs_innocents(backend: Backend, hostile: int) -> None:
    """Puts innocent tasks beside ``hostile`` ones that a pool will take, and runs all of them."""
    backend.insert_many([backend.note(n=n) for n in range(1, 21)])
    assert backend.drain(number_of_workers=2) == 20 + hostile
    assert sorted(n for n, _ in backend.journal if 1 <= n <= 20) == list(range(1, 21))


UNREADABLE = {
    "a wrong type": ({"n": "seven"}, ".n: Input should be a valid integer"),
    "null": ({"n": None}, ".n: Input should be a valid integer"),
    "an object": ({"n": {"$ne": 1}}, ".n: Input should be a valid integer"),
    "a state that is none": ({"ending": "gone"}, ".ending: Input should be 'ok'"),
    "a number out of range": ({"n": 1.5}, ".n: Input should be a valid integer"),
    "text of another type": ({"text": ["x"]}, ".text: Input should be a valid string"),
}


def test_payloads_that_do_not_fit_are_failures_that_name_the_field(
    backend: Backend, sql: psycopg.Connection[Any]
) -> None:
    kind = backend.note.task_config["kind"]
    rows = {name: put(sql, {"type": kind, **fields}, **ONCE) for name, (fields, _) in UNREADABLE.items()}
    runs_innocents(backend, hostile=len(rows))
    for name, task_id in rows.items():
        expected = FAILURE + backend.note.__name__ + UNREADABLE[name][1]
        state, message, _ = state_of(sql, task_id)
        assert (state, message[: len(expected)]) == ("failed", expected), name
        assert "seven" not in message
        assert "gone" not in message


@pytest.mark.parametrize(
    "field",
    ["[" * 300 + "]" * 300, "[" * 3_000 + "]" * 3_000, "9" * 5_000, "1e130000"],
    ids=["deep", "deeper", "long", "large"],
)
def test_json_that_python_does_not_read(backend: Backend, sql: psycopg.Connection[Any], field: str) -> None:
    metadata = f'{{"type": "{backend.note.task_config["kind"]}", "n": {field}}}'
    task_id = put(sql, metadata, **ONCE)
    with pytest.raises(UnreadablePayload, match=f"task {task_id} cannot be read"):
        backend.call(backend.queue.find_task_by_id, task_id)
    runs_innocents(backend, hostile=1)
    state, message, _ = state_of(sql, task_id)
    assert (state, message[: len(FAILURE)]) == ("failed", FAILURE)
    assert backend.call(backend.queue.remove_task, task_id) == 1


def test_fields_that_are_missing_or_too_many(backend: Backend, sql: psycopg.Connection[Any]) -> None:
    """Missing ones take their defaults, others are ignored: a pydantic model's own rule."""
    kind = backend.note.task_config["kind"]
    put(sql, {"type": kind})
    put(sql, {"type": kind, "n": -1, "__class__": "os.system", "run": "x", "task_config": {"priority": -2}})
    runs_innocents(backend, hostile=2)
    assert sorted(n for n, _ in backend.journal)[:2] == [-1, 0]


@pytest.mark.parametrize("state", ["new", "in_progress"])
def test_a_claim_at_no_time_is_listed_and_explained(backend: Backend, sql: psycopg.Connection[Any], state: str) -> None:
    for claimed_at in ("infinity", "-infinity", "10000-01-01 00:00:00+00"):
        put(sql, {"type": "Unknown"}, state=state, claimed_at=claimed_at, pool_id=UUID(int=7))
    for which in (TaskFilter(states=[TaskState(state)]), TaskFilter()):
        first = backend.call(backend.queue.list_tasks, which, limit=2)
        rest = backend.call(backend.queue.list_tasks, which, limit=2, cursor=first.cursor)
        ids = {task.id for page in (first, rest) for task in page.tasks}
        assert len(ids) == 3
    for task_id in ids:
        assert backend.call(backend.queue.explain, task_id).task.id == task_id


STRANGE_KINDS = [
    "",
    "Unknown",
    "__import__('os').system('true')",
    "os.system",
    "conformance.ThreadedNote; DROP TABLE fang.fang_tasks",
    "%(p_id)s {0} $1",
    "\n\r\x1b[31m",
    "K" * 100_000,
]


async def maintenance_on(backend: Backend, store: UpkeepStore) -> Maintenance:
    return Maintenance(ThreadRuntime() if backend.mode == "threaded" else AsyncioRuntime(), store, PoolOptions())


def test_unknown_kinds_stay_and_are_named_once(
    backend: Backend, sql: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [put(sql, {"type": kind}) for kind in STRANGE_KINDS]
    runs_innocents(backend, hostile=0)
    assert [state_of(sql, task_id) for task_id in rows] == [("new", None, 0)] * len(rows)

    store = backend.call(backend.queue.store)
    maintenance = backend.call(maintenance_on, backend, store)
    with caplog.at_level(logging.WARNING):
        backend.call(maintenance.name_unknown_kinds)
        backend.call(maintenance.name_unknown_kinds)
    (message,) = [record.getMessage() for record in caplog.records if "that knows their kinds" in record.getMessage()]
    for kind in STRANGE_KINDS:
        assert f"{kind!a:.100}" in message
    assert message.isprintable()
    assert len(message) < 1_000
    backend.call(store.close)


STRANGE_TYPES = ["", "commom", "x" * 2_000, "\n\r\x1b[31m", "'; DROP TABLE fang.fang_tasks"]


def test_types_that_no_pool_serves_are_named_once_and_not_at_once(
    backend: Backend, sql: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    for task_type in STRANGE_TYPES:
        put(sql, {"type": "Unknown"}, task_type=task_type)
    store = backend.call(backend.queue.store)
    maintenance = backend.call(maintenance_on, backend, store)
    with caplog.at_level(logging.WARNING):
        backend.call(maintenance.name_unserved_types)
        assert not caplog.records  # their pools may be restarting
        sql.execute("UPDATE fang.fang_tasks SET scheduled_at = scheduled_at - interval '1 minute'")
        backend.call(maintenance.name_unserved_types)
        backend.call(maintenance.name_unserved_types)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("due tasks wait for a pool that serves their task types: ")
    for task_type in STRANGE_TYPES:
        assert f"{task_type!a:.100}" in message
    assert message.isprintable()
    assert len(message) < 1_000
    backend.call(store.close)


LIMITS = {
    "no max_retries": {"max_retries": None},
    "max_retries at its limit": {"max_retries": 2**31 - 1},
    "retries at their limit": {"max_retries": 0, "retries": 2**31 - 1},
    "one before the limit": {"max_retries": 2**31 - 1, "retries": 2**31 - 2},
    "crashes at their limit": {"crashes": 2**15 - 1},
    # Not the very last one: a suspect beside it may have it given back, and every claim counts.
    "the last attempts": {"attempt": 2**63 - 10, "max_retries": 0},
    "an early date": {"scheduled_at": "0001-01-03 00:00:00+00", "created_at": "0001-01-03 00:00:00+00"},
    "a hash of somebody's": {"uniq_hash": "x"},
    "held by nobody": {"pool_id": UUID(int=7)},
    "errors of somebody's": {"errors": json.dumps([1, None, [], {"a": "b"}] * 10)},
    "a long error": {"error_message": "x" * 1_000_000},
    "headers that no insert of ours takes": {"headers": json.dumps({"": "", "é": "x" * 1_000_000})},
    "the longest timeout": {"timeout": "36600 days"},
    "a timeout in months": {"timeout": "7 months 3 days 1 us"},
    "a timeout of too long": {"timeout": "170000000 years"},
    "no expiry at all": {"expires_at": "infinity"},
    "an expiry in a year that is none": {"expires_at": "10000-01-01 00:00:00+00"},
    "headers that are no object": {"headers": "[]"},
    "headers that are null": {"headers": "null"},
    "headers that are no texts": {"headers": '{"a": 1, "b": "c"}'},
    "headers that are too deep": {"headers": '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}"},
}


@pytest.mark.parametrize("ending", ["ok", "fail", "later", "snooze", "cancel"])
def test_columns_at_their_limits(backend: Backend, sql: psycopg.Connection[Any], ending: str) -> None:
    """Whatever the run ends with can be written."""
    metadata = {"type": backend.note.task_config["kind"], "n": 99, "ending": ending}
    rows = {name: put(sql, metadata, **columns) for name, columns in LIMITS.items()}
    backend.insert_many([backend.note(n=n) for n in range(1, 21)])
    if ending == "fail":  # two thousand million times would take too long
        sql.execute("UPDATE fang.fang_tasks SET max_retries = retries + 1 WHERE max_retries - retries > 20")
    backend.drain(number_of_workers=2)
    assert sorted(n for n, _ in backend.journal if n != 99) == list(range(1, 21))
    expected = {"ok": {None}, "fail": {"failed"}, "later": {"retried", "failed"}, "snooze": {"new", "retried"}}
    for name, task_id in rows.items():
        row = state_of(sql, task_id)
        assert (row[0] if row else None) in expected.get(ending, {"cancelled"}), name


def test_an_attempt_that_cannot_be_counted_up_stays(backend: Backend, sql: psycopg.Connection[Any]) -> None:
    task_id = put(sql, {"type": backend.note.task_config["kind"]}, attempt=2**63 - 1)
    runs_innocents(backend, hostile=0)
    assert backend.call(backend.queue.fetch_and_touch_task) is None
    assert state_of(sql, task_id)[0] == "new"


STRANGE_TYPES = [" ", "x" * 100_000, "a\nb", "%s", "'; --", "é" * 500]


def test_task_types_that_no_insert_of_ours_could_give(backend: Backend, sql: psycopg.Connection[Any]) -> None:
    kind = backend.note.task_config["kind"]
    rows = {task_type: put(sql, {"type": kind}, task_type=task_type) for task_type in STRANGE_TYPES}
    runs_innocents(backend, hostile=0)
    for task_type, task_id in rows.items():
        held = backend.fetch(task_type)
        assert held is not None
        assert held.id == task_id
        backend.move(held, TaskState.NEW)
        assert backend.drain(task_type=task_type) == 1
        put(sql, {"type": kind}, task_type=task_type)
        assert backend.call(backend.queue.remove_tasks_type, task_type) == 1


REFUSED_AT_THE_DOOR = {
    "metadata that is no object": {"metadata": "[]"},
    "metadata without a type": {"metadata": "{}"},
    "a type that is no text": {"metadata": '{"type": 5}'},
    "infinite times": {"scheduled_at": "infinity"},
    "negative counters": {"retries": -1},
    "a negative limit": {"max_retries": -1},
    "a priority out of range": {"priority": 3},
    "errors that are no list": {"errors": "{}"},
}


@pytest.mark.parametrize("columns", REFUSED_AT_THE_DOOR.values(), ids=REFUSED_AT_THE_DOOR)
def test_what_the_table_refuses(sql: psycopg.Connection[Any], columns: dict[str, Any]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        put(sql, **{"metadata": {"type": "Any"}, **columns})
