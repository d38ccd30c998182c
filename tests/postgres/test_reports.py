"""The read-only views: their SQL, what they count, and that the oldest due rows come from the index."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from fang_core.liveness import Pulse, lock_key
from fang_core.monitoring.figures import TaskCount, UnknownKind, UnservedType
from fang_core.monitoring.unserved import unknown_kinds, unserved_types
from fang_core.record import TaskState
from fang_postgres.reports import bounds, reports
from fang_postgres.reports.bounds import SETTINGS
from fang_postgres.reports.reports import Reports, ReportStatements
from fang_threaded.database import run_on, run_script

REPORTS = Reports("fang")
STATEMENTS = ReportStatements("fang")


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url) as connection:
        yield connection


def insert(
    connection: psycopg.Connection[Any],
    kind: str,
    task_type: str = "common",
    state: str = "new",
    due: str = "-1 minute",
    priority: int = 0,
) -> uuid.UUID:
    task_id = uuid.uuid4()
    connection.execute(
        "INSERT INTO fang.fang_tasks (id, metadata, task_type, state, scheduled_at, priority)"
        " VALUES (%s, %s, %s, %s, now() + %s::interval, %s)",
        (task_id, json.dumps({"type": kind}), task_type, state, due, priority),
    )
    return task_id


def counts_of(connection: psycopg.Connection[Any]) -> list[TaskCount]:
    running = run_on(connection, REPORTS.running())
    return run_script(partial(run_on, connection), REPORTS.tasks(running))


def fill(
    connection: psycopg.Connection[Any], count: int, state: str, task_type: str = "'common'", **columns: str
) -> None:
    """Inserts so many rows; the columns are SQL, in which ``n`` counts them."""
    columns = {"kind": "'A'", "scheduled_at": "now() - n * interval '1 ms'", "error_message": "NULL", **columns}
    connection.execute(
        f"""INSERT INTO fang.fang_tasks (id, metadata, task_type, state, scheduled_at, updated_at, error_message)
        SELECT gen_random_uuid(), jsonb_build_object('type', {columns["kind"]}, 'payload', repeat('x', 100)),
        {task_type}, '{state}', {columns["scheduled_at"]}, now() - n * interval '1 ms', {columns["error_message"]}
        FROM generate_series(1, {count}) n""".encode()
    )


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a table that is a hundred times as large."""
    monkeypatch.setattr(reports, "COUNTED", 100)
    monkeypatch.setattr(reports, "SAMPLED", 60)


@pytest.mark.usefixtures("small_bounds")
def test_what_is_too_much_to_count_is_estimated_and_says_so(connection: psycopg.Connection[Any]) -> None:
    fill(connection, 15_000, "finished")
    fill(connection, 5_000, "new")
    fill(connection, 30, "retried", "'small'")
    fill(connection, 7, "in_progress", "'small'")
    one_of_them = "(SELECT id FROM fang.fang_tasks WHERE state = 'in_progress' LIMIT 1)"
    connection.execute(f"UPDATE fang.fang_tasks SET pool_id = gen_random_uuid() WHERE id = {one_of_them}".encode())
    counts = {(each.task_type, each.state): each for each in counts_of(connection)}
    assert counts["small", TaskState.RETRIED] == TaskCount("small", TaskState.RETRIED, "A", 30, 30)
    assert counts["small", TaskState.IN_PROGRESS] == TaskCount("small", TaskState.IN_PROGRESS, "A", 7, 0)
    for state, real in ((TaskState.FINISHED, 15_000), (TaskState.NEW, 5_000)):
        estimate = counts["common", state]
        assert estimate.is_estimate
        assert real / 2 < estimate.count < real * 2
        assert estimate.due == (estimate.count if state is TaskState.NEW else 0)
    assert len(counts) == 4
    assert unserved_types(list(counts.values()), []) == [
        UnservedType("common", counts["common", TaskState.NEW].due, True),
        UnservedType("small", 30),
    ]


@pytest.mark.usefixtures("small_bounds")
def test_more_task_types_than_are_listed_are_estimated(
    connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_TYPES", 200)
    fill(connection, 15_000, "new", "'type' || n % 300")
    counts = counts_of(connection)
    assert len({each.task_type for each in counts}) > 200
    assert all(each.is_estimate for each in counts)


@pytest.mark.usefixtures("small_bounds")
def test_what_took_too_long_is_left_to_the_sample() -> None:
    script, answers = (
        REPORTS.tasks([]),
        {"pages": 1_000, "sample": [TaskCount("a", TaskState.NEW, "A", 5, 5, True)]},
    )
    asked: list[str] = []
    answer: Any = None
    with suppress(StopIteration):
        while True:
            operation = script.send(answer)
            asked.append(operation.statement.name)
            answer = answers.get(operation.statement.name)
    assert asked == ["pages", "waiting", "ended", "sample"]


def test_what_is_retried_and_why(connection: psycopg.Connection[Any]) -> None:
    fill(connection, 5, "new")
    later = "now() + n * interval '1 hour'"
    fill(connection, 3, "retried", scheduled_at=later, error_message="'KeyError: ' || n || E'\\nmore'")
    fill(connection, 1, "retried", "'other'", kind="'B'")
    found = run_script(partial(run_on, connection), REPORTS.retries(counts_of(connection)))
    hour = timedelta(hours=1)
    now = connection.execute("SELECT now()").fetchone()[0]  # type: ignore[index]
    assert [(each.task_type, each.kind, each.count, each.error, each.is_estimate) for each in found] == [
        ("common", "A", 3, "KeyError: 1", False),
        ("other", "B", 1, "", False),
    ]
    assert found[0].next_due == now + hour


@pytest.mark.usefixtures("small_bounds")
def test_what_is_retried_behind_a_long_backlog_is_found(connection: psycopg.Connection[Any]) -> None:
    fill(connection, 15_000, "new")
    fill(connection, 3, "retried", kind="'B'", scheduled_at="now() + n * interval '1 hour'", error_message="'E'")
    (found,) = run_script(partial(run_on, connection), REPORTS.retries(counts_of(connection)))
    assert (found.kind, found.count, found.error) == ("B", 3, "E")


def test_what_runs_and_since_when(connection: psycopg.Connection[Any]) -> None:
    pool_id = register(connection, ["A"])
    fill(connection, 2, "in_progress")
    connection.execute(
        "UPDATE fang.fang_tasks SET pool_id = %s, claimed_at = clock_timestamp() - interval '1 hour'", (pool_id,)
    )
    fill(connection, 1, "in_progress", kind="'B'")
    held, unheld = run_on(connection, REPORTS.running())
    assert (held.kind, held.pool_id, held.count) == ("A", pool_id, 2)
    assert held.age is not None
    assert timedelta(hours=1) <= held.age < timedelta(hours=2)
    assert (unheld.kind, unheld.pool_id, unheld.count, unheld.age) == ("B", None, 1, None)


BOUNDED = ["waiting", "ended", "running", "retried", "oldest_due", "last_failures"]


@pytest.mark.parametrize("statistics", ["none", "stale", "fresh"])
def test_no_statement_reads_more_than_its_bound(connection: psycopg.Connection[Any], statistics: str) -> None:
    """Counts blocks, not time: each part of the table that is bounded here has more of them."""
    connection.execute("ALTER TABLE fang.fang_tasks SET (autovacuum_enabled = off)")
    if statistics == "stale":
        fill(connection, 10, "new")
        connection.execute("ANALYZE fang.fang_tasks")
    for state in ("new", "retried", "in_progress", "finished", "failed"):
        fill(connection, 5_000, state, "'type' || n % 4")
    if statistics == "fresh":
        connection.execute("ANALYZE fang.fang_tasks")
    for name, value in SETTINGS.items():
        connection.execute(f"SET LOCAL {name} = {value}".encode())
    blocks = {}
    for name in BOUNDED:
        text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {getattr(STATEMENTS, name).psycopg_text}"
        row = connection.execute(text.encode(), {"p_each": 20}).fetchone()
        assert row is not None
        blocks[name] = row[0][0]["Plan"]["Shared Hit Blocks"] + row[0][0]["Plan"]["Shared Read Blocks"]
    assert max(blocks.values()) < 400, blocks


def test_a_reader_without_a_pool_sees_counters_and_locks_and_writes_nothing(
    connection: psycopg.Connection[Any],
) -> None:
    pool_id = register(connection, ["A"])
    connection.execute("UPDATE fang.fang_pools SET locks = true")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(pool_id),))
    connection.execute("SET TRANSACTION READ ONLY")
    look = run_on(connection, REPORTS.look())
    assert look.beat.pulses == [Pulse(pool_id, 0, True, True, 60.0)]
    assert look.beat.server_up > 0
    assert set(look.quiet) == {pool_id}


def test_how_long_the_session_with_the_lock_of_a_pool_has_been_quiet(
    connection: psycopg.Connection[Any], url: str
) -> None:
    quiet, free = register(connection, ["A"]), register(connection, ["A"])
    connection.commit()
    before = time.monotonic()
    with psycopg.connect(url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (lock_key(quiet),))
        connection.execute("SELECT pg_sleep(0.1)")
        look = run_on(connection, REPORTS.look())
        assert {pulse.pool_id: pulse.is_locked for pulse in look.beat.pulses} == {quiet: True, free: False}
        assert set(look.quiet) == {quiet}
        assert 0.1 <= look.quiet[quiet] <= time.monotonic() - before


def test_nothing_is_told_of_sessions_that_the_server_does_not_track(
    connection: psycopg.Connection[Any], url: str
) -> None:
    pool_id = register(connection, ["A"])
    connection.commit()
    with psycopg.connect(url, autocommit=True) as holder:
        holder.execute("SET track_activities = off")
        holder.execute("SELECT pg_advisory_lock(%s)", (lock_key(pool_id),))
        look = run_on(connection, REPORTS.look())
        assert look.beat.pulses[0].is_locked
        assert look.quiet == {}


def test_tasks_are_counted_by_type_state_and_kind(connection: psycopg.Connection[Any]) -> None:
    insert(connection, "A")
    insert(connection, "A", due="1 hour")
    insert(connection, "A", state="retried")
    insert(connection, "A", state="in_progress")
    insert(connection, "B", task_type="heavy", state="finished")
    assert counts_of(connection) == [
        TaskCount("common", TaskState.NEW, "A", 2, due=1),
        TaskCount("common", TaskState.IN_PROGRESS, "A", 1, due=0),
        TaskCount("common", TaskState.RETRIED, "A", 1, due=1),
        TaskCount("heavy", TaskState.FINISHED, "B", 1, due=0),
    ]


def test_the_oldest_due_task_of_each_type(connection: psycopg.Connection[Any]) -> None:
    oldest = insert(connection, "A", due="-3 hours", priority=2)
    insert(connection, "A", due="-2 hours", priority=-2)
    insert(connection, "A", due="-9 hours", state="finished")
    insert(connection, "A", task_type="future", due="1 hour")
    retried = insert(connection, "B", task_type="heavy", state="retried", due="-1 hour")
    found = run_on(connection, REPORTS.oldest_due())
    assert [(row.task_type, row.id, row.age) for row in found] == [
        ("common", oldest, timedelta(hours=3)),
        ("heavy", retried, timedelta(hours=1)),
    ]


def test_the_last_failures_come_first_with_the_first_line_of_their_message(
    connection: psycopg.Connection[Any],
) -> None:
    insert(connection, "A", state="retried")
    ids = [insert(connection, "A", task_type=f"type{n % 5}", state="failed") for n in range(12)]
    for age, task_id in enumerate(ids):
        connection.execute(
            "UPDATE fang.fang_tasks SET error_message = %s, updated_at = now() - %s * interval '1 s' WHERE id = %s",
            (f"E: {age}\nmore", age, task_id),
        )
    connection.execute("UPDATE fang.fang_tasks SET error_message = NULL WHERE id = %s", (ids[0],))
    found = run_on(connection, REPORTS.last_failures())
    assert [failure.id for failure in found] == ids[:10]
    assert [failure.error for failure in found] == ["", *(f"E: {age}" for age in range(1, 10))]


@pytest.mark.parametrize("statistics", ["none", "fresh"])
def test_the_last_failures_come_from_the_index(connection: psycopg.Connection[Any], statistics: str) -> None:
    connection.execute(
        """INSERT INTO fang.fang_tasks (id, metadata, task_type, state, updated_at)
        SELECT gen_random_uuid(), '{"type": "A"}', 'type' || n / 20000, 'failed', now() - n * interval '1 s'
        FROM generate_series(1, 59999) n"""
    )
    if statistics == "fresh":
        connection.execute("ANALYZE fang.fang_tasks")
    text = STATEMENTS.last_failures.psycopg_text
    row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}".encode()).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert plan["Actual Rows"] == 10
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 150  # of more than a thousand


def test_an_empty_table(connection: psycopg.Connection[Any]) -> None:
    assert counts_of(connection) == []
    assert run_on(connection, REPORTS.oldest_due()) == []
    assert run_on(connection, REPORTS.pools()) == []


def register(connection: psycopg.Connection[Any], kinds: list[str]) -> uuid.UUID:
    pool_id = uuid.uuid4()
    connection.execute(
        "INSERT INTO fang.fang_pools (id, mode, host, pid, task_types, kinds, workers)"
        " VALUES (%s, 'async', 'here', 7, '{common,heavy}', %s, 3)",
        (pool_id, kinds),
    )
    return pool_id


def test_pools_as_they_registered(connection: psycopg.Connection[Any]) -> None:
    pool_id = register(connection, ["A", "B"])
    [pool] = run_on(connection, REPORTS.pools())
    assert (pool.id, pool.mode, pool.host, pool.pid) == (pool_id, "async", "here", 7)
    assert (pool.task_types, pool.kinds, pool.workers, pool.stopping) == (("common", "heavy"), ("A", "B"), 3, False)
    assert pool.started_at.tzinfo is not None


def test_unknown_kinds_are_those_with_due_tasks_that_no_pool_of_their_type_has(
    connection: psycopg.Connection[Any],
) -> None:
    for kind in ("Known", "Unknown", "Foreign", "Foreign"):
        insert(connection, kind)
    insert(connection, "Foreign", task_type="heavy")
    insert(connection, "Known", task_type="unserved")
    insert(connection, "Future", due="1 hour")
    insert(connection, "Past", state="failed")
    register(connection, ["Known"])
    register(connection, [])
    counts, pools = counts_of(connection), run_on(connection, REPORTS.pools())
    assert unknown_kinds(counts, pools) == [
        UnknownKind("common", "Foreign", 2),
        UnknownKind("heavy", "Foreign", 1),
        UnknownKind("unserved", "Known", 1),
        UnknownKind("common", "Unknown", 1),
    ]


def test_unserved_types_are_those_with_due_tasks_that_no_pool_has(connection: psycopg.Connection[Any]) -> None:
    for task_type in ("common", "b", "b", "a", "c"):
        insert(connection, "A", task_type=task_type)
    insert(connection, "B", task_type="c")
    insert(connection, "A", task_type="future", due="1 hour")
    insert(connection, "A", task_type="past", state="failed")
    register(connection, ["A"])
    counts, pools = counts_of(connection), run_on(connection, REPORTS.pools())
    assert unserved_types(counts, pools) == [UnservedType("b", 2), UnservedType("c", 2), UnservedType("a", 1)]


def test_schedules_that_no_pool_serves_are_those_that_may_have_ticks_left(connection: psycopg.Connection[Any]) -> None:
    columns = {
        "served": "kind = 'X', task_type = 'common', every = '1 day'",
        "unserved": "kind = 'A', task_type = 'other', every = '1 day'",
        "of a class": """declared = '{"kind": "A", "task_type": "other", "cron": "@daily"}'""",
        "of a known class": """declared = '{"kind": "A", "task_type": "common", "cron": "@daily"}'""",
        "of an unknown class": """declared = '{"kind": "B", "task_type": "common", "cron": "@daily"}'""",
        "A": """declared = '{"task_type": "common", "cron": "@daily"}'""",
        "put in place of a class": """kind = 'A', task_type = 'other', every = '1 day',
                                      declared = '{"kind": "A", "task_type": "common", "cron": "@daily"}'""",
        "paused": "kind = 'A', task_type = 'other', every = '1 day', paused = true",
        "paused no more": "kind = 'A', task_type = 'other', every = '1 day', paused = true, paused_until = now()",
        "once": "kind = 'A', task_type = 'other', at = last_tick + interval '1 day'",
        "once, done": "kind = 'A', task_type = 'other', at = last_tick",
        "over": "kind = 'A', task_type = 'other', every = '1 day', until = last_tick",
        "only its tick is known": "kind = NULL",
        "spoilt": """declared = '["task_type"]'""",
    }
    for name, values in columns.items():
        connection.execute("INSERT INTO fang.fang_schedules (name, last_tick) VALUES (%s, now())", (name,))
        connection.execute(f"UPDATE fang.fang_schedules SET {values} WHERE name = '{name}'")  # type: ignore[arg-type]
    register(connection, ["A"])
    ids = [pool.id for pool in run_on(connection, REPORTS.pools())]
    found = run_on(connection, REPORTS.unserved_schedules(ids))
    expected = {"of a class", "of an unknown class", "once", "paused no more", "put in place of a class", "unserved"}
    assert [info.name for info in found] == sorted(expected)
    of_none = run_on(connection, REPORTS.unserved_schedules([]))
    assert {info.name for info in of_none} == expected | {"A", "of a known class", "served"}


@pytest.mark.parametrize("statistics", ["none", "fresh"])
def test_the_oldest_due_rows_come_from_the_index(connection: psycopg.Connection[Any], statistics: str) -> None:
    connection.execute(
        """INSERT INTO fang.fang_tasks (id, metadata, state, task_type, priority, scheduled_at)
        SELECT gen_random_uuid(), '{"type": "A"}', 'new',
               'type' || n % 4, n % 5 - 2, now() - n * interval '1 ms' FROM generate_series(1, 60000) n"""
    )
    if statistics == "fresh":
        connection.execute("ANALYZE fang.fang_tasks")
    text = STATEMENTS.oldest_due.psycopg_text
    row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}".encode()).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert plan["Actual Rows"] == 4
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 400  # of more than a thousand
