"""The plan of every statement that finds rows of fang_tasks: by its index, and no more rows than it deals with.

Under custom and generic plans, whatever the statistics say, up to a million rows in ``make faults``, a fifth of that in
``make test``. Nothing is judged by the clock. If no form of a statement helps, the settings of ``GUARD`` must. Setting
statistics by hand takes a superuser.
"""

import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from fang_core.config import RetentionMode
from fang_core.insertion import NewTask
from fang_core.lifecycle import Outcome, change_by_hand
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.run import Run
from fang_core.store import ClaimRequest, PoolRecord, PruneRequest
from fang_postgres.connecting import GUARD
from fang_postgres.operations import Operations
from fang_postgres.statement import Operation
from fang_postgres.statements import Statements, statements
from fang_threaded.runner import run_on
from tests.fixtures import database
from tests.postgres.plans import MODES, explain, faults

MILLION = 1_000_000
MANY = [200_000, pytest.param(MILLION, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
POOL, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)
OPS = Operations("fang")

# The indexes that each statement goes by, the tasks that it deals with, and how many rows it returns.
EXPECTED: dict[str, tuple[set[str], int, int]] = {
    "claim": ({"fang_tasks_due", "fang_tasks_pkey"}, 500, 500),
    "remove": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "finish": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "settle": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "prune_finished": ({"fang_tasks_ended", "fang_tasks_pkey"}, 1_000, 1_000),
    "prune_cancelled": ({"fang_tasks_ended", "fang_tasks_pkey"}, 1_000, 1_000),
    "prune_failed": ({"fang_tasks_ended", "fang_tasks_pkey"}, 1_000, 1_000),
    "find": ({"fang_tasks_pkey"}, 1, 1),
    "existing": ({"fang_tasks_pkey", "fang_tasks_uniq"}, 2, 2),
    "twins": ({"fang_tasks_uniq"}, 500, 500),
    "change": ({"fang_tasks_pkey", "fang_tasks_uniq"}, 1, 1),
    "touch": ({"fang_tasks_due", "fang_tasks_pkey"}, 1, 1),
    "remove_one": ({"fang_tasks_pkey"}, 1, 1),
    "remove_twin": ({"fang_tasks_uniq"}, 1, 1),
    "unknown_kinds": ({"fang_tasks_due"}, 200, 0),
    "unserved_types": ({"fang_tasks_due"}, 1, 0),
    "next_due": ({"fang_tasks_due"}, 200, 1),
    "waiting_types": ({"fang_tasks_due"}, 1, 1),
    "unlocked": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "held": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "complete_and_keep": ({"fang_tasks_pkey"}, 1, 1),
    "complete_and_remove": ({"fang_tasks_pkey"}, 1, 1),
    "orphaned": ({"fang_tasks_held"}, 10_000, 0),
    "rescue": ({"fang_tasks_held", "fang_tasks_pkey"}, 10_000, 10_000),
    "reconcile": ({"fang_tasks_held", "fang_tasks_pkey"}, 10_000, 9_000),
}
# Always guarded. The first batch looks at ten thousand rows, and removes one. last_id has no parameters: it would keep
# a plan that was cached before the guard, and is planned as removals plan it.
REMOVALS: dict[str, tuple[set[str], int, int]] = {
    name: ({"fang_tasks_pkey"}, 10_000, 1) for name in ("remove_type", "remove_all", "remove_scheduled")
} | {"last_id": ({"fang_tasks_pkey"}, 1, 1)}
INSERTS = {"insert", "insert_many", "insert_unique", "tick"}
READ_ALL = {"of_kinds", "kinds"}  # for tests of applications
WRITES = ("claim", "remove", "finish", "settle")
PRUNES = ("prune_finished", "prune_cancelled", "prune_failed")


ANY_UUID = "md5(random()::text)::uuid"  # a quarter of the time that gen_random_uuid() takes


def fill(state: str, count: int = 50_000, holder: uuid.UUID = POOL, task_type: str = "common") -> str:
    """Due for an hour, or held by a pool, or ended more than a day ago.

    Ids at random, as other clients make them: more forms of a statement fall over these than over ids that ascend.
    """
    return f"""
        INSERT INTO fang.fang_tasks
            (id, metadata, task_type, state, attempt, pool_id, uniq_hash, scheduled_at, updated_at)
        SELECT {ANY_UUID}, '{{"type": "Planned"}}', '{task_type}', '{state}', 1,
               {f"'{holder}', {ANY_UUID}" if state == "in_progress" else "NULL, NULL"},
               now() - interval '1 hour' + n * interval '1 millisecond',
               now() - interval '1 day' - n * interval '1 millisecond'
        FROM generate_series(1, {count}) n"""


ANALYZE = "ANALYZE fang.fang_tasks"
HELD = fill("in_progress", 10_000)
FOREIGN = "billing"  # a task type that no pool here serves, whose ended rows are all older than most others
ENDED = [
    *(fill(state, 10_000) for state in ("finished", "cancelled", "failed")),
    *(fill(state, 20_000, task_type=FOREIGN) for state in ("finished", "cancelled", "failed")),
]
DRAIN = [
    "DELETE FROM fang.fang_tasks WHERE id NOT IN (SELECT id FROM fang.fang_tasks ORDER BY scheduled_at DESC LIMIT 10)",
    "VACUUM ANALYZE fang.fang_tasks",
]

SCENARIOS: dict[str, list[str]] = {
    "no statistics": [fill("new"), HELD, *ENDED],
    "statistics of an empty table": [ANALYZE, fill("new"), HELD, *ENDED],
    "statistics of when all were new": [fill("new"), ANALYZE, HELD, *ENDED],
    "statistics of when all were in progress": [
        *(fill("in_progress", holder=OTHER), HELD, ANALYZE, fill("new"), *ENDED)
    ],
    "statistics of before the rows ended": [fill("new"), HELD, ANALYZE, *ENDED],
    "statistics of when what had ended was of another type": [fill("new"), HELD, *ENDED[3:], ANALYZE, *ENDED[:3]],
    "statistics of when nothing of another type had ended": [fill("new"), HELD, *ENDED[:3], ANALYZE, *ENDED[3:]],
    "fresh statistics": [fill("new"), HELD, *ENDED, ANALYZE],
}


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    """To a database in which the pools are registered and nothing is analyzed but by the test."""
    with prepared(url) as connection:
        yield connection


@pytest.fixture(scope="module", params=SCENARIOS)
def scenario(
    request: pytest.FixtureRequest, server_url: str, template: str
) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """A scenario's name, and a connection to its database: filling it takes most of the time, so its tests share it."""
    for url in database(server_url, template):
        with prepared(url) as connection:
            run(connection, *SCENARIOS[request.param])
            yield request.param, connection


@contextmanager
def prepared(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("ALTER TABLE fang.fang_tasks SET (autovacuum_enabled = off)")
        connection.execute("ALTER TABLE fang.fang_tasks SET UNLOGGED")  # faster to fill, and planned all the same
        for pool_id in (POOL, OTHER):
            run_on(connection, OPS.register(PoolRecord(pool_id, "threaded", "h", 1, ("common",), ("Planned",), 1)))
        yield connection


def run(connection: psycopg.Connection[Any], *steps: str) -> None:
    for step in steps:
        connection.execute(step.encode())


def operations(connection: psycopg.Connection[Any]) -> dict[str, Operation[Any]]:
    held = "SELECT id, uniq_hash FROM fang.fang_tasks WHERE pool_id = %s LIMIT 1000"
    ids, hashes = zip(*connection.execute(held, [POOL]).fetchall(), strict=True)
    ended = one_ended(connection)
    day = timedelta(days=1)
    removals = (OPS.remove_type("common"), OPS.remove_all(), OPS.remove_scheduled())
    of: list[Operation[Any]] = [
        OPS.claim(ClaimRequest(POOL, ("common", "other"), ("Planned",), 500)),
        *OPS.complete(POOL, [Outcome(id_, 1, None) for id_ in ids]),
        *OPS.complete(POOL, [Outcome(id_, 1, TaskState.FINISHED) for id_ in ids]),
        *OPS.complete(POOL, [Outcome(id_, 1, TaskState.FAILED, error_entry="{}") for id_ in ids]),
        *OPS.prune(PruneRequest(("common", "other"), keep_finished=day, keep_failed=day, limit=1_000)),
        OPS.find(ids[0]),
        OPS.existing(NewTask(ids[0], "{}", "Planned", "common", 0, 20, hashes[1])),
        OPS.twins(list(hashes[:500])),
        OPS.change(change_by_hand(ended, TaskState.NEW), notify=True),
        OPS.touch("common", POOL),
        OPS.last_id(),
        *(batch(uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), 1) for batch in removals),
        OPS.remove_one(ids[0]),
        OPS.remove_twin(hashes[0]),
        OPS.unknown_kinds(["common", "other"]),
        OPS.unserved_types(timedelta(minutes=1)),
        OPS.next_due(["common", "other"], ["Planned"]),
        OPS.waiting_types(1_000),
        OPS.unlocked(POOL, [Outcome(id_, 1, None) for id_ in ids]),
        OPS.held(POOL, [Outcome(id_, 1, None) for id_ in ids]),
        OPS.complete_one(held_run(ids[0], RetentionMode.KEEP_ALL)),
        OPS.complete_one(held_run(ids[0], RetentionMode.REMOVE_ALL)),
        OPS.orphaned(),
        OPS.rescue(POOL, charged=True, max_crashes=3),
        OPS.reconcile(POOL, ids),
    ]
    return {operation.statement.name: operation for operation in of}


def held_run(task_id: uuid.UUID, mode: RetentionMode) -> Run:
    task = ClaimedTask(task_id, "Planned", "{}", 1, 0, 20, 0, "common", 0, datetime.now(UTC))
    return Run(task, POOL, mode)


def one_ended(connection: psycopg.Connection[Any]) -> Task:
    finished = "SELECT id FROM fang.fang_tasks WHERE state = 'finished' LIMIT 1"
    [(task_id,)] = connection.execute(finished).fetchall()
    task = run_on(connection, OPS.find(task_id))
    assert task is not None
    return task


def wrong_plans(
    connection: psycopg.Connection[Any],
    where: str,
    guard: Mapping[str, str] | None = None,
    names: Collection[str] = EXPECTED.keys(),
) -> list[str]:
    """What is wrong with which plan."""
    found = []
    operation_of = operations(connection)
    for name in names:
        for mode in MODES:
            plan = explain(connection, operation_of[name], mode, guard, was_unguarded=name != "last_id")
            found += [f"{where}, {mode}: {name} {fault}" for fault in faults(plan, *(EXPECTED | REMOVALS)[name])]
    return found


@contextmanager
def rows_by_hand(connection: psycopg.Connection[Any], rows: int) -> Iterator[str]:
    """Statistics that tell of so few rows, in as many pages as there are."""
    with connection.transaction(force_rollback=True):
        run(connection, f"UPDATE pg_class SET reltuples = {rows} WHERE oid = 'fang.fang_tasks'::regclass")
        yield f"{rows} rows by hand"


def test_every_statement_that_finds_tasks_is_looked_at() -> None:
    made = [getattr(statements("fang"), field.name) for field in fields(Statements)]
    finding = {statement.name for statement in made if ".fang_tasks" in statement.text}
    assert finding - INSERTS - READ_ALL == EXPECTED.keys() | REMOVALS.keys()


@pytest.mark.parametrize("mode", MODES)
def test_a_generic_plan_is_generic(connection: psycopg.Connection[Any], mode: str) -> None:
    plan = explain(connection, OPS.find(POOL), mode)
    assert ("$1" in json.dumps(plan)) == (mode == "force_generic_plan")


@pytest.mark.parametrize("suspects", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_claim_starts_at_its_position_within_the_index(
    connection: psycopg.Connection[Any], mode: str, suspects: bool
) -> None:
    run(connection, fill("new"), ANALYZE)
    [(at, id_)] = connection.execute(
        "SELECT scheduled_at, id FROM fang.fang_tasks ORDER BY scheduled_at, id OFFSET 45000 LIMIT 1"
    ).fetchall()
    starts = {("common", 0): (at, id_)}
    request = ClaimRequest(POOL, ("common",), ("Planned",), 500, starts, suspects=suspects)
    plan = explain(connection, OPS.claim(request), mode)
    assert not faults(plan, {"fang_tasks_due", "fang_tasks_pkey"}, 500, 500)
    (scan,) = (node for node in plan if node.get("Index Name") == "fang_tasks_due")
    assert "ROW(scheduled_at, id) > ROW(COALESCE(level.after_at" in scan["Index Cond"]
    assert "ROW" not in scan["Filter"]


def test_plans_whatever_the_statistics_say(scenario: tuple[str, psycopg.Connection[Any]]) -> None:
    name, connection = scenario
    wrong = wrong_plans(connection, name)
    wrong += wrong_plans(connection, f"{name}, guarded", GUARD, REMOVALS)
    assert not wrong, "\n".join(wrong)


def test_types_that_nobody_serves_are_found_step_by_step(scenario: tuple[str, psycopg.Connection[Any]]) -> None:
    """Three of them, beside one that a pool serves: rows that wait are not read, whoever's they are.

    The last user of the scenario, whose rows it renames.
    """
    _, connection = scenario
    others = "UPDATE fang.fang_pools SET task_types = ARRAY['other']"
    first_byte = "get_byte(uuid_send(id), 0)"
    named = f"CASE WHEN {first_byte} < 64 THEN 'z' WHEN {first_byte} < 128 THEN 'other' ELSE 'a' END"
    renamed = f"UPDATE fang.fang_tasks SET task_type = {named} WHERE state = 'new' AND {first_byte} < 192"
    run(connection, others, renamed)
    operation = OPS.unserved_types(timedelta(minutes=1))
    assert run_on(connection, operation) == ["a", "common", "z"]
    for mode in MODES:
        assert not faults(explain(connection, operation, mode), {"fang_tasks_due"}, 20, 3), mode


@pytest.mark.timeout(240)  # on a crowded machine; a minute is too short for it there
@pytest.mark.parametrize("many", MANY)
def test_plans_with_many_waiting(connection: psycopg.Connection[Any], many: int) -> None:
    # The natural trap: the statistics of a drained table, few rows in many pages, when the next burst comes.
    run(connection, fill("new", many), *DRAIN, fill("new", many), HELD, *ENDED)
    for name in WRITES if many == MILLION else ():  # no trap, no test of the guard; fewer rows do not lead into it
        assert "goes by" in str(wrong_plans(connection, "drained and filled again", names=[name]))
    wrong = wrong_plans(connection, "drained and filled again, guarded", GUARD)
    wrong += wrong_plans(connection, "drained and filled again, guarded", GUARD, REMOVALS)
    wrong += wrong_plans(connection, "drained and filled again", names=["find"])

    run(connection, ANALYZE)
    wrong += wrong_plans(connection, "fresh statistics")
    for rows in (0, 1, 2, 10, 200):
        with rows_by_hand(connection, rows) as lie:
            wrong += wrong_plans(connection, f"{lie}, guarded", GUARD)
            # Told of fewer, the planner believes that the index has thousands of pages for each row.
            wrong += wrong_plans(connection, lie, names=["find"] if rows < 10 else ["find", *WRITES])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("many", MANY)
def test_plans_with_many_kept(connection: psycopg.Connection[Any], many: int) -> None:
    run(connection, fill("new", 5_000), HELD, *ENDED, ANALYZE, fill("finished", many))
    wrong = wrong_plans(connection, "statistics of before they ended")
    run(connection, ANALYZE)
    wrong += wrong_plans(connection, "fresh statistics")
    run(connection, *DRAIN, fill("finished"), fill("new", 5_000), HELD, *ENDED)
    wrong += wrong_plans(connection, "pruned and filled again, guarded", GUARD)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("many", MANY)
def test_pruning_beside_many_rows_of_another_type(connection: psycopg.Connection[Any], many: int) -> None:
    """Also where nothing is to be pruned: a pool looks each minute."""
    nothing = OPS.prune(PruneRequest(("other", "more"), timedelta(days=1), timedelta(days=1), 1_000))
    run(connection, fill("new", 5_000), HELD, ANALYZE, fill("finished", many, task_type=FOREIGN), *ENDED)
    wrong = []
    for where in ("statistics of before they ended", "fresh statistics"):
        wrong += wrong_plans(connection, where, GUARD, PRUNES)
        for operation in nothing:
            for mode in MODES:
                plan = explain(connection, operation, mode, GUARD)
                indexes, *_ = EXPECTED[operation.statement.name]
                wrong += [f"{where}, {mode}: nothing to prune, and it {fault}" for fault in faults(plan, indexes, 1, 0)]
        run(connection, ANALYZE)
    assert not wrong, "\n".join(wrong)
