"""The plan of each walk of a list, and of each batch of a call for many tasks: by its index, and no further than told.

Under no, stale and misleading statistics, with the settings that these statements always have. ``make faults`` has ten
million rows, ``make test`` a few. Nothing is judged by the clock. Setting statistics by hand takes a superuser.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.words.moments import EARLIEST, LATEST
from fang_postgres.connections.connecting import GUARD, READING
from fang_postgres.once import builders_of
from fang_postgres.operations import Operations
from fang_postgres.operations.bulk import REMOVALS, RETRIES, Sizes
from fang_postgres.operations.bulk import STATEMENTS as BULK
from fang_postgres.operations.listing import Asked, EndedLane, ListingStatements
from fang_postgres.statement import Operation
from tests.fixtures import database
from tests.postgres.plans import explain, faults
from tests.postgres.test_plans import ANALYZE, fill, prepared, run

OPS = Operations("fang")
MOST_ID, START = UUID(int=2**128 - 1), ("", -2, EARLIEST, UUID(int=0))
NOBODY, EVERY = TaskFilter(kinds="nobody's"), TaskFilter(kinds=["Planned"])
LOOKED, CHANGED, HELD = 1_000, 100, 500
TEN_MILLION = 10_000_000


def scenarios(rows: int) -> dict[str, list[str]]:
    """What each of them does, with so many rows in all."""
    share = rows // 10
    waits = [fill("new", 2 * share), fill("retried", share)]
    held = [fill("in_progress", HELD)]
    ended = [
        fill(state, share, task_type=task_type)
        for state in ("finished", "failed", "cancelled")
        for task_type in ("common", "billing")
    ]
    return {
        "no statistics": [*waits, *held, *ended],
        "statistics of an empty table": [ANALYZE, *waits, *held, *ended],
        "statistics of when all were in progress": [
            *(fill("in_progress", 2 * share), ANALYZE, "DELETE FROM fang.fang_tasks", *waits, *held, *ended)
        ],
        "statistics of before the rows ended": [*waits, *held, ANALYZE, *ended],
        "fresh statistics": [*waits, *held, *ended, ANALYZE],
    }


FEW = 20_000
IN_SHORT = {"no statistics", "statistics of when all were in progress", "fresh statistics"}
LONG = [pytest.mark.long, pytest.mark.timeout(1_800)]


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param((name, FEW), id=name, marks=[] if name in IN_SHORT else LONG) for name in scenarios(FEW)),
        *(
            pytest.param((name, TEN_MILLION), id=f"{name}, many", marks=LONG)
            for name in ("no statistics", "fresh statistics")
        ),
    ],
)
def connection(request: pytest.FixtureRequest, server_url: str, template: str) -> Iterator[psycopg.Connection[Any]]:
    """To the database of a scenario; filling it takes most of the time, so its tests share it."""
    name, rows = request.param
    for url in database(server_url, template):
        with prepared(url) as connection:
            run(connection, *scenarios(rows)[name])
            yield connection


def walks(connection: psycopg.Connection[Any]) -> dict[str, tuple[Operation[Any], set[str], int, int]]:
    """Each of the statements that look: the indexes it goes by, the rows it deals with, and those that it returns."""
    ids = [row[0] for row in connection.execute(f"SELECT id FROM fang.fang_tasks LIMIT {CHANGED}").fetchall()]
    behind = (LATEST, MOST_ID)
    types = [Asked(EndedLane(TaskState.FAILED, name), behind, LOOKED // 2) for name in ("common", "billing")]
    kinds = [Asked(EndedLane(TaskState.FAILED, None, "Planned"), behind, LOOKED)]
    error = TaskFilter(error="is nowhere")
    due, retried = (OPS.list_waiting(NOBODY, START, LOOKED, retried=retried, shows=True) for retried in (False, True))
    return {
        "list_waiting": (due, {"fang_tasks_due"}, LOOKED, 1),
        "list_retried": (retried, {"fang_tasks_retried"}, LOOKED, 1),
        "list_inserted": (
            *(OPS.list_inserted(NOBODY, MOST_ID, UUID(int=0), LOOKED, shows=True), {"fang_tasks_pkey"}, LOOKED, 1),
        ),
        "list_ids": (OPS.list_ids(NOBODY, ids, shows=True), {"fang_tasks_pkey"}, CHANGED, 1),
        "list_held": (OPS.list_held(NOBODY, (EARLIEST, UUID(int=0)), 51, shows=True), {"fang_tasks_held"}, HELD, 1),
        "list_ended": (OPS.list_ended(NOBODY, types, EARLIEST, shows=True), {"fang_tasks_ended"}, LOOKED, 2),
        "list_failed": (OPS.list_ended(error, kinds, EARLIEST, shows=True), {"fang_tasks_failed_kinds"}, LOOKED, 1),
        "show": (OPS.show(TaskFilter(), ids), {"fang_tasks_pkey"}, CHANGED, CHANGED),
        "ended_types": (OPS.ended_lanes(), {"fang_tasks_ended"}, 10, 6),
        "has_ids_from": (OPS.has_ids_from(UUID(int=0)), {"fang_tasks_pkey"}, 1, 1),
    }


PLACES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "ended": ((LATEST, MOST_ID), {"p_state": "failed", "p_task_type": "common"}),
    "failed": ((LATEST, MOST_ID), {"p_kind": "Planned"}),
    "waiting": (START, {}),
    "retried": (START, {}),
    "inserted": ((MOST_ID,), {}),
    "held": ((MOST_ID,), {}),
}
INDEXES = {
    "ended": "fang_tasks_ended",
    "failed": "fang_tasks_failed_kinds",
    "waiting": "fang_tasks_due",
    "retried": "fang_tasks_retried",
    "inserted": "fang_tasks_pkey",
    "held": "fang_tasks_held",
    "ids": "fang_tasks_pkey",
}


def batches(connection: psycopg.Connection[Any]) -> dict[str, tuple[Operation[Any], set[str], int, int]]:
    """The same of those that change or remove."""
    named = "SELECT id FROM fang.fang_tasks WHERE state = 'failed' LIMIT %s"
    ids = [row[0] for row in connection.execute(named, [CHANGED]).fetchall()]
    places = PLACES | {"ids": ((MOST_ID,), {"p_ids": ids})}
    found: dict[str, tuple[Operation[Any], set[str], int, int]] = {}
    for verb, ways in (("retry", RETRIES), ("remove", REMOVALS)):
        for way in ways:
            behind, of = places[way]
            sizes = Sizes(LOOKED, CHANGED)
            name = f"{verb}_{way}"
            batch = OPS.bulk(name, EVERY, datetime.now(UTC), sizes, behind=behind, of=of, notify=True)
            twins = {"fang_tasks_uniq", "fang_tasks_uniq_waiting"} if verb == "retry" else set()
            found[name] = (batch, {INDEXES[way], "fang_tasks_pkey"} | twins, LOOKED, 1)
    next_type = OPS.next_ended_type(TaskState.FAILED, "")
    return found | {"next_ended_type": (next_type, {"fang_tasks_ended"}, 1, 1)}


def test_each_walk_goes_by_its_index_and_no_further(connection: psycopg.Connection[Any]) -> None:
    found = []
    guard = READING | {"statement_timeout": "0"}
    for name, (operation, indexes, tasks, returned) in walks(connection).items():
        plan = explain(connection, operation, "force_custom_plan", guard, was_unguarded=False)
        found += [f"{name} {fault}" for fault in faults(plan, indexes, tasks, returned)]
    assert not found


def test_each_batch_goes_by_its_index_and_no_further(connection: psycopg.Connection[Any]) -> None:
    found = []
    for name, (operation, indexes, tasks, returned) in batches(connection).items():
        plan = explain(connection, operation, "force_custom_plan", GUARD, was_unguarded=False)
        found += [f"{name} {fault}" for fault in faults(plan, indexes, tasks, returned)]
    assert not found


def test_every_statement_is_looked_at(connection: psycopg.Connection[Any]) -> None:
    assert builders_of(ListingStatements).keys() - {"estimate"} == walks(connection).keys()
    assert BULK.keys() - {"edit"} == batches(connection).keys()  # which goes by an id, as `change` does
