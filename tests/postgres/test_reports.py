"""The read-only views: their SQL, what they count, and that the oldest due rows come from the index."""

import asyncio
import dataclasses
import json
import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from fang_async.runner import run_on as run_async
from fang_core.record import TaskState
from fang_postgres.reports import (
    Reports,
    ReportStatements,
    TaskCount,
    UnknownKind,
    UnservedType,
    report_statements,
    unknown_kinds,
    unserved_types,
)
from fang_threaded.runner import run_on

GOLDEN = Path(__file__).parent / "golden" / "reports"
NAMES = [field.name for field in dataclasses.fields(ReportStatements)]
REPORTS = Reports("fang")


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    statement = getattr(report_statements("fang"), name)
    assert not statement.order
    text = "\n".join(line.rstrip() for line in statement.text.splitlines()) + "\n"
    file = GOLDEN / f"{name}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), "read the difference as SQL, then run with UPDATE_GOLDEN=1"


def test_every_golden_file_has_its_statement() -> None:
    assert {file.stem for file in GOLDEN.glob("*.sql")} == set(NAMES)


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


def test_tasks_are_counted_by_type_state_and_kind(connection: psycopg.Connection[Any]) -> None:
    insert(connection, "A")
    insert(connection, "A", due="1 hour")
    insert(connection, "A", state="retried")
    insert(connection, "A", state="in_progress")
    insert(connection, "B", task_type="heavy", state="finished")
    assert run_on(connection, REPORTS.tasks()) == [
        TaskCount("common", TaskState.NEW, "A", 2, due=1, unheld=0),
        TaskCount("common", TaskState.IN_PROGRESS, "A", 1, due=0, unheld=1),
        TaskCount("common", TaskState.RETRIED, "A", 1, due=1, unheld=0),
        TaskCount("heavy", TaskState.FINISHED, "B", 1, due=0, unheld=0),
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
    text = report_statements("fang").last_failures.psycopg_text
    row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}".encode()).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert plan["Actual Rows"] == 10
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 150  # of more than a thousand


def test_an_empty_table(connection: psycopg.Connection[Any]) -> None:
    assert run_on(connection, REPORTS.tasks()) == []
    assert run_on(connection, REPORTS.oldest_due()) == []
    assert run_on(connection, REPORTS.pools()) == []


def test_both_drivers_read_the_same(connection: psycopg.Connection[Any], url: str) -> None:
    insert(connection, "A")
    register(connection, ["A"])
    connection.commit()

    async def read() -> list[Any]:
        asynchronous = await asyncpg.connect(url)
        try:
            operations = (REPORTS.tasks(), REPORTS.oldest_due(), REPORTS.pools())
            return [await run_async(asynchronous, operation) for operation in operations]  # type: ignore[arg-type]
        finally:
            await asynchronous.close()

    tasks, [oldest], pools = asyncio.run(read())
    assert tasks == run_on(connection, REPORTS.tasks())
    assert oldest.id == run_on(connection, REPORTS.oldest_due())[0].id
    assert pools == run_on(connection, REPORTS.pools())


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
    counts, pools = run_on(connection, REPORTS.tasks()), run_on(connection, REPORTS.pools())
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
    counts, pools = run_on(connection, REPORTS.tasks()), run_on(connection, REPORTS.pools())
    assert unserved_types(counts, pools) == [UnservedType("b", 2), UnservedType("c", 2), UnservedType("a", 1)]


@pytest.mark.parametrize("statistics", ["none", "fresh"])
def test_the_oldest_due_rows_come_from_the_index(connection: psycopg.Connection[Any], statistics: str) -> None:
    connection.execute(
        """INSERT INTO fang.fang_tasks (id, metadata, state, task_type, priority, scheduled_at)
        SELECT gen_random_uuid(), '{"type": "A"}', 'new',
               'type' || n % 4, n % 5 - 2, now() - n * interval '1 ms' FROM generate_series(1, 60000) n"""
    )
    if statistics == "fresh":
        connection.execute("ANALYZE fang.fang_tasks")
    text = report_statements("fang").oldest_due.psycopg_text
    row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}".encode()).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert plan["Actual Rows"] == 4
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 400  # of more than a thousand
