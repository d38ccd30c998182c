"""The plan of every statement that finds rows of fang_tasks: by its index, and no more rows than it deals with.

Under custom and generic plans, whatever the statistics say, up to a million rows in ``make faults``; ``make test`` has
fewer rows, and half of the statistics. Nothing is judged by the clock. If no form of a statement helps, the
settings of ``GUARD`` must. Setting statistics by hand takes a superuser.
"""

import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import pytest

from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord, PruneRequest
from fang_core.backends.ticks import Tick
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.config import RetentionMode
from fang_core.lifecycle import Outcome, change_by_hand
from fang_core.liveness import BeatRequest
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.remarks import Remark
from fang_core.runs.run import Run
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.insertion import NewTask, Overrides
from fang_core.tasks.selecting.filter import TaskFilter
from fang_postgres.connections.connecting import GUARD
from fang_postgres.once import builders_of
from fang_postgres.operations import Operations
from fang_postgres.operations.by_hand import DuePlace
from fang_postgres.statement import Operation
from fang_postgres.statements import Statements, statements
from fang_threaded.database import run_on
from tests.fixtures import database
from tests.postgres.plans import MODES, explain, faults

MILLION = 1_000_000
MANY = [20_000, pytest.param(MILLION, marks=[pytest.mark.long])]
POOL, OTHER, LAST = uuid.UUID(int=7), uuid.UUID(int=8), uuid.UUID(int=2**128 - 1)
OPS = Operations("fang")
PLANNED, WITHDRAWN = TaskFilter(kinds="Planned", task_types="common"), Cancellation("withdrawn", "ops")

# The indexes that each statement goes by, the tasks that it deals with, and how many rows it returns.
EXPECTED: dict[str, tuple[set[str], int, int]] = {
    "claim": ({"fang_tasks_due", "fang_tasks_pkey"}, 500, 501),  # the first row holds no task
    "remove": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "finish": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "settle": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "prune_finished": ({"fang_tasks_ended", "fang_tasks_pkey"}, 1_000, 1_000),
    "prune_cancelled": ({"fang_tasks_ended", "fang_tasks_pkey"}, 1_000, 1_000),
    "prune_failed": ({"fang_tasks_ended", "fang_tasks_pkey"}, 1_000, 1_000),
    "find": ({"fang_tasks_pkey"}, 1, 1),
    "existing": ({"fang_tasks_pkey", "fang_tasks_uniq"}, 2, 2),
    "twins": ({"fang_tasks_uniq"}, 500, 500),
    "keeping_out": ({"fang_tasks_pkey", "fang_tasks_uniq", "fang_tasks_uniq_waiting"}, 1_000, 1_000),
    "change": ({"fang_tasks_pkey", "fang_tasks_uniq", "fang_tasks_uniq_waiting"}, 1, 1),
    "cancel": ({"fang_tasks_pkey"}, 1, 1),
    "touch": ({"fang_tasks_due", "fang_tasks_pkey"}, 1, 1),
    "remove_one": ({"fang_tasks_pkey"}, 1, 1),
    "remove_twin": ({"fang_tasks_pkey", "fang_tasks_uniq", "fang_tasks_uniq_waiting"}, 1, 1),
    "unknown_kinds": ({"fang_tasks_due"}, 200, 0),
    "unserved_types": ({"fang_tasks_due"}, 1, 0),
    "next_due": ({"fang_tasks_due"}, 200, 1),
    "waiting_types": ({"fang_tasks_due"}, 1, 1),
    "unlocked": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "held": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "complete_and_keep": ({"fang_tasks_pkey"}, 1, 1),
    "complete_and_remove": ({"fang_tasks_pkey"}, 1, 1),
    "tick_stored": ({"fang_tasks_pkey", "fang_tasks_uniq"}, 2, 1),
    "resume_schedule": ({"fang_tasks_pkey"}, 1, 1),
}


def expected_of_all_held(held: int) -> dict[str, tuple[set[str], int, int]]:
    """The same of what deals with all rows that a pool holds."""
    return {
        "lost_or_cancelled": ({"fang_tasks_pkey"}, held, 0),
        "orphaned": ({"fang_tasks_held"}, held, 0),
        "rescue": ({"fang_tasks_held", "fang_tasks_pkey"}, held, held),
        "reconcile": ({"fang_tasks_held", "fang_tasks_pkey"}, held, held - 1_000),
    }


UNGUARDED = (*EXPECTED, *expected_of_all_held(0))  # in order: one finds the dead entries that others leave
# Always guarded. The first batch looks at ten thousand rows, and removes or cancels one. last_id has no parameters: it
# would keep a plan that was cached before the guard, and is planned as removals plan it.
BATCHES: dict[str, tuple[set[str], int, int]] = {
    name: ({"fang_tasks_pkey"}, 10_000, 1) for name in ("remove_type", "remove_all", "remove_scheduled")
} | {
    "last_id": ({"fang_tasks_pkey"}, 1, 1),
    "cancel_ids": ({"fang_tasks_pkey"}, 1_000, 1),
    "cancel_held": ({"fang_tasks_held", "fang_tasks_pkey"}, 10_000, 1),
    "cancel_waiting": ({"fang_tasks_due", "fang_tasks_pkey"}, 10_000, 1),
    "explain": ({"fang_tasks_due", "fang_tasks_lanes", "fang_tasks_pkey", "fang_tasks_running"}, 1_000, 1),
}
# Apart, since what they write, and is rolled back, would lie in the way of others, or that of others in theirs.
APART: dict[str, tuple[set[str], int, int]] = {
    "claim_retries_first": ({"fang_tasks_due", "fang_tasks_retried", "fang_tasks_pkey"}, 500, 501),
    "replace_twins": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "postpone_twins": ({"fang_tasks_pkey"}, 1_000, 1_000),
    "undo_inserts": ({"fang_tasks_pkey"}, 1_000, 0),
}
INSERTS = {"insert", "insert_many", "insert_past", "insert_unique", "insert_on_terms", "tick"}
READ_ALL = {"of_kinds", "kinds"}  # for tests of applications
MANAGED = {
    "claim_lanes",
    "claim_rated_lanes",
    "touch_lane",
    "adopt_running",
    "adopt_waiting",
    "list_types",
}  # see test_lane_plans
WRITES = ("claim", "remove", "finish", "settle")
PRUNES = ("prune_finished", "prune_cancelled", "prune_failed")


class Size(NamedTuple):
    """How many rows the tables of the scenarios have."""

    new: int
    held: int
    ended: int
    """In each of three states, and twice as many of another task type."""


SMALL, WHOLE = Size(20_000, 2_000, 4_000), Size(50_000, 10_000, 10_000)
ANY_UUID = "md5(random()::text)::uuid"  # a quarter of the time that gen_random_uuid() takes


def fill(state: str, count: int, holder: uuid.UUID = POOL, task_type: str = "common") -> str:
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
SCHEDULED, SECOND = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=1)
SCHEDULE = """
    INSERT INTO fang.fang_schedules (name, last_tick, changed_at, paused, kind, overlap)
    VALUES (%s, %s, %s, %s, 'Planned', 'cancel_running')"""
FOREIGN = "billing"  # a task type that no pool here serves, whose ended rows are all older than most others
DRAIN = [
    "DELETE FROM fang.fang_tasks WHERE id NOT IN (SELECT id FROM fang.fang_tasks ORDER BY scheduled_at DESC LIMIT 10)",
    "VACUUM ANALYZE fang.fang_tasks",
]


def held(size: Size) -> str:
    return fill("in_progress", size.held)


def ended(size: Size) -> list[str]:
    states = ("finished", "cancelled", "failed")
    return [
        *(fill(state, size.ended) for state in states),
        *(fill(state, 2 * size.ended, task_type=FOREIGN) for state in states),
    ]


def filled_with(size: Size) -> list[str]:
    return [fill("new", size.new), held(size), *ended(size)]


SCENARIOS: dict[str, Callable[[Size], list[str]]] = {
    "no statistics": filled_with,
    "statistics of an empty table": lambda size: [ANALYZE, *filled_with(size)],
    "statistics of when all were new": lambda size: [fill("new", size.new), ANALYZE, held(size), *ended(size)],
    "statistics of when all were in progress": lambda size: [
        *(fill("in_progress", size.new, holder=OTHER), held(size), ANALYZE, fill("new", size.new), *ended(size))
    ],
    "statistics of before the rows ended": lambda size: [fill("new", size.new), held(size), ANALYZE, *ended(size)],
    "statistics of when what had ended was of another type": lambda size: [
        *(fill("new", size.new), held(size), *ended(size)[3:], ANALYZE, *ended(size)[:3])
    ],
    "statistics of when nothing of another type had ended": lambda size: [
        *(fill("new", size.new), held(size), *ended(size)[:3], ANALYZE, *ended(size)[3:])
    ],
    "fresh statistics": lambda size: [*filled_with(size), ANALYZE],
}


@pytest.fixture(scope="module", params=[SMALL, pytest.param(WHOLE, marks=pytest.mark.long)], ids=["small", "whole"])
def size(request: pytest.FixtureRequest) -> Size:
    size: Size = request.param
    return size


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    """To a database in which the pools are registered and nothing is analyzed but by the test."""
    with prepared(url) as connection:
        yield connection


# The others take as long, and are for `make faults`.
IN_SHORT = {
    "no statistics",
    "statistics of when all were in progress",
    "statistics of when what had ended was of another type",
    "fresh statistics",
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in IN_SHORT else [pytest.mark.long]) for name in SCENARIOS],
)
def scenario(
    request: pytest.FixtureRequest, server_url: str, template: str, filled: str, size: Size
) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """A scenario's name, and a connection to its database: filling it takes most of the time, so its tests share it."""
    steps, begin = SCENARIOS[request.param](size), filled_with(size)
    begins_filled = steps[: len(begin)] == begin
    for url in database(server_url, filled if begins_filled else template):
        with connected(url) if begins_filled else prepared(url) as connection:
            run(connection, *steps[len(begin) if begins_filled else 0 :])
            yield request.param, connection


@pytest.fixture(scope="module")
def filled(server_url: str, template: str, size: Size) -> Iterator[str]:
    """The name of a database with the rows that several scenarios begin with, to be copied."""
    for url in database(server_url, template):
        with prepared(url) as connection:
            run(connection, *filled_with(size))
            name = connection.info.dbname
        yield name


@pytest.fixture(scope="module")
def waiting(server_url: str, template: str, size: Size) -> Iterator[psycopg.Connection[Any]]:
    """To a database of the module's in which tasks wait, for tests that only look."""
    for url in database(server_url, template):
        with prepared(url) as connection:
            run(connection, fill("new", size.new), ANALYZE)
            yield connection


def connected(url: str, settings: str = "") -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor, options=settings)


@contextmanager
def prepared(url: str, settings: str = "") -> Iterator[psycopg.Connection[Any]]:
    with connected(url, settings) as connection:
        connection.execute("ALTER TABLE fang.fang_tasks SET (autovacuum_enabled = off)")
        connection.execute("ALTER TABLE fang.fang_tasks SET UNLOGGED")  # faster to fill, and planned all the same
        for pool_id in (POOL, OTHER):
            run_on(connection, OPS.register(PoolRecord(pool_id, "threaded", "h", 1, ("common",), ("Planned",), 1)))
        for name in ("planned", "resumed"):
            connection.execute(SCHEDULE, [name, SCHEDULED, SCHEDULED, name == "resumed"])
        yield connection


def run(connection: psycopg.Connection[Any], *steps: str) -> None:
    for step in steps:
        connection.execute(step.encode())


def operations(connection: psycopg.Connection[Any]) -> dict[str, Operation[Any]]:
    held = "SELECT id, uniq_hash FROM fang.fang_tasks WHERE pool_id = %s LIMIT 1000"
    ids, hashes = zip(*connection.execute(held, [POOL]).fetchall(), strict=True)
    all_held = connection.execute("SELECT id, attempt FROM fang.fang_tasks WHERE pool_id = %s", [POOL]).fetchall()
    finished = one_ended(connection)
    last = "SELECT id FROM fang.fang_tasks WHERE state = 'new' ORDER BY scheduled_at DESC LIMIT 1"
    [(last_waiting,)] = connection.execute(last).fetchall()
    row = NewTask(ids[0], '{"type": "Planned"}', "Planned", ("common", 0, 20, None, None), hashes[1])
    connection.execute("UPDATE fang.fang_schedules SET last_task_id = %s", [ids[0]])
    day = timedelta(days=1)
    options = ("common", 0, 20, None, None)
    rows = [
        NewTask(id_, '{"type": "Planned"}', "Planned", options, hash_)
        for id_, hash_ in zip(ids[:500], hashes[500:], strict=True)
    ]
    removals = (OPS.remove_type("common"), OPS.remove_all(), OPS.remove_scheduled())
    of: list[Operation[Any]] = [
        OPS.claim(ClaimRequest(POOL, ("common", "other"), ("Planned",), 500)),
        *OPS.complete(POOL, [Outcome(id_, 1, None) for id_ in ids]),
        *OPS.complete(POOL, [Outcome(id_, 1, TaskState.FINISHED) for id_ in ids]),
        *OPS.complete(POOL, [Outcome(id_, 1, TaskState.FAILED, error_entry="{}") for id_ in ids]),
        *OPS.prune(PruneRequest(("common", "other"), keep_finished=day, keep_failed=day, limit=1_000)),
        OPS.find(ids[0]),
        OPS.existing(row),
        OPS.twins(list(hashes[:500])),
        OPS.keeping_out(rows),
        OPS.change(change_by_hand(finished, TaskState.NEW), notify=True),
        OPS.cancel(ids[0], WITHDRAWN, notify=True),
        OPS.cancel_ids(ids, TaskFilter(kinds="Planned", states="in_progress"), WITHDRAWN, notify=True),
        OPS.cancel_held(LAST, 1, PLANNED, WITHDRAWN, notify=True),
        OPS.cancel_waiting(DuePlace("common"), LAST, 1, PLANNED, WITHDRAWN, notify=True),
        OPS.touch("common", POOL),
        OPS.last_id(),
        OPS.explain(last_waiting),
        *(batch(uuid.UUID(int=0), LAST, 1, True) for batch in removals),
        OPS.remove_one(ids[0], notify=True),
        OPS.remove_twin(hashes[0], notify=True),
        OPS.unknown_kinds(["common", "other"]),
        OPS.unserved_types(timedelta(minutes=1)),
        OPS.next_due(["common", "other"], ["Planned"]),
        OPS.waiting_types(1_000),
        OPS.lost_or_cancelled(BeatRequest(POOL, held=all_held)),
        OPS.unlocked(POOL, [Outcome(id_, 1, None) for id_ in ids]),
        OPS.held(POOL, [Outcome(id_, 1, None) for id_ in ids]),
        OPS.complete_one(held_run(ids[0], RetentionMode.KEEP_ALL)),
        OPS.complete_one(held_run(ids[0], RetentionMode.REMOVE_ALL)),
        OPS.orphaned(),
        OPS.rescue(POOL, charged=True, max_crashes=3),
        OPS.reconcile(POOL, ids),
        OPS.tick_stored(Tick("planned", SCHEDULED + SECOND, row._replace(id=LAST), changed_at=SCHEDULED), notify=True),
        OPS.resume_schedule("resumed", Remark("ops", None), notify=True),
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
    names: Collection[str] = UNGUARDED,
) -> list[str]:
    """What is wrong with which plan."""
    found = []
    operation_of = operations(connection)
    [(held_rows,)] = connection.execute("SELECT count(*) FROM fang.fang_tasks WHERE pool_id = %s", [POOL]).fetchall()
    expected = EXPECTED | BATCHES | expected_of_all_held(held_rows)
    for name in names:
        for mode in MODES:
            plan = explain(connection, operation_of[name], mode, guard, was_unguarded=name != "last_id")
            found += [f"{where}, {mode}: {name} {fault}" for fault in faults(plan, *expected[name])]
    return found


@contextmanager
def rows_by_hand(connection: psycopg.Connection[Any], rows: int) -> Iterator[str]:
    """Statistics that tell of so few rows, in as many pages as there are."""
    with connection.transaction(force_rollback=True):
        run(connection, f"UPDATE pg_class SET reltuples = {rows} WHERE oid = 'fang.fang_tasks'::regclass")
        yield f"{rows} rows by hand"


def test_every_statement_that_finds_tasks_is_looked_at() -> None:
    made = [getattr(statements("fang"), name) for name in builders_of(Statements)]
    finding = {statement.name for statement in made if ".fang_tasks" in statement.text}
    assert finding - INSERTS - READ_ALL - MANAGED == {*UNGUARDED, *BATCHES, *APART}


@pytest.mark.parametrize("mode", MODES)
def test_a_generic_plan_is_generic(connection: psycopg.Connection[Any], mode: str) -> None:
    plan = explain(connection, OPS.find(POOL), mode)
    assert ("$1" in json.dumps(plan)) == (mode == "force_generic_plan")


@pytest.mark.parametrize("group_size", [1, NO_SUSPECTS])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("retries_first", [False, True])
def test_a_claim_starts_at_its_position_within_the_index(
    waiting: psycopg.Connection[Any], size: Size, mode: str, group_size: int, retries_first: bool
) -> None:
    [(at, id_)] = waiting.execute(
        "SELECT scheduled_at, id FROM fang.fang_tasks ORDER BY scheduled_at, id OFFSET %s LIMIT 1", [size.new - 5_000]
    ).fetchall()
    starts = {("common", 0): (at, id_)}
    request = ClaimRequest(
        POOL, ("common",), ("Planned",), 500, starts, group_size=group_size, retries_first=retries_first
    )
    plan = explain(waiting, OPS.claim(request), mode)
    assert not faults(plan, *(EXPECTED | APART)["claim_retries_first" if retries_first else "claim"])
    (scan,) = (node for node in plan if node.get("Index Name") == "fang_tasks_due")
    assert "ROW(scheduled_at, id) > ROW(COALESCE(lane.after_at" in scan["Index Cond"]
    assert "ROW" not in scan["Filter"]


def test_retries_are_claimed_without_a_look_at_others(connection: psycopg.Connection[Any], size: Size) -> None:
    """All of the first claim are retries: no row of the other index is read."""
    run(connection, fill("new", size.new), ANALYZE, fill("retried", 5_000))
    for where in ("statistics of before there were retries", "fresh statistics"):
        for mode in MODES:
            plan = explain(connection, RETRIES_FIRST, mode)
            assert not faults(plan, *APART["claim_retries_first"]), (where, mode)
            others = [node for node in plan if node.get("Index Name") == "fang_tasks_due"]
            assert sum(node["Actual Rows"] * node["Actual Loops"] for node in others) == 0, (where, mode)
        run(connection, ANALYZE)


RETRIES_FIRST = OPS.claim(ClaimRequest(POOL, ("common", "other"), ("Planned",), 500, retries_first=True))


def test_a_claim_of_retries_first_whatever_the_statistics_say(scenario: tuple[str, psycopg.Connection[Any]]) -> None:
    """The first user of the scenario: others leave dead entries of retries."""
    name, connection = scenario
    for mode in MODES:
        assert not faults(explain(connection, RETRIES_FIRST, mode), *APART["claim_retries_first"]), (name, mode)


@pytest.mark.parametrize("analyzed", [True, False])
def test_twins_and_what_is_undone_are_found_by_their_ids(
    connection: psycopg.Connection[Any], size: Size, analyzed: bool
) -> None:
    run(connection, fill("new", size.new), *ended(size), *([ANALYZE] if analyzed else []))
    some = "SELECT id FROM fang.fang_tasks WHERE state = 'new' LIMIT 1000"
    ids = sorted(task_id for (task_id,) in connection.execute(some).fetchall())
    one = one_ended(connection)
    row = NewTask(one.id, '{"type": "Planned"}', "Planned", ("common", 0, 20, None, None))
    pairs = [(one._replace(id=task_id), row) for task_id in ids]
    later = Overrides(delay=timedelta(days=1))
    for operation in (
        OPS.change_twins(pairs, later, replaces=True, notify=True),
        OPS.change_twins(pairs, later, replaces=False, notify=True),
        OPS.undo_inserts(ids),
    ):
        for mode in MODES:
            name = operation.statement.name
            assert not faults(explain(connection, operation, mode), *APART[name]), (name, mode)


def test_plans_whatever_the_statistics_say(scenario: tuple[str, psycopg.Connection[Any]]) -> None:
    name, connection = scenario
    wrong = wrong_plans(connection, name)
    wrong += wrong_plans(connection, f"{name}, guarded", GUARD, BATCHES)
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


def beside(many: int) -> Size:
    return WHOLE if many == MILLION else SMALL


@pytest.mark.parametrize("many", MANY)
def test_plans_with_many_waiting(connection: psycopg.Connection[Any], many: int) -> None:
    # The natural trap: the statistics of a drained table, few rows in many pages, when the next burst comes.
    size = beside(many)
    run(connection, fill("new", many), *DRAIN, fill("new", many), held(size), *ended(size))
    for name in WRITES if many == MILLION else ():  # no trap, no test of the guard; fewer rows do not lead into it
        assert "goes by" in str(wrong_plans(connection, "drained and filled again", names=[name]))
    wrong = wrong_plans(connection, "drained and filled again, guarded", GUARD)
    wrong += wrong_plans(connection, "drained and filled again, guarded", GUARD, BATCHES)
    wrong += wrong_plans(connection, "drained and filled again", names=["find"])

    run(connection, ANALYZE)
    wrong += wrong_plans(connection, "fresh statistics")
    for rows in (0, 1, 2, 10, 200) if many == MILLION else (1,):
        with rows_by_hand(connection, rows) as lie:
            wrong += wrong_plans(connection, f"{lie}, guarded", GUARD)
            # Told of fewer, the planner believes that the index has thousands of pages for each row.
            wrong += wrong_plans(connection, lie, names=["find"] if rows < 10 else ["find", *WRITES])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("many", MANY)
def test_plans_with_many_kept(connection: psycopg.Connection[Any], many: int) -> None:
    size = beside(many)
    run(connection, fill("new", 5_000), held(size), *ended(size), ANALYZE, fill("finished", many))
    wrong = wrong_plans(connection, "statistics of before they ended")
    run(connection, ANALYZE)
    wrong += wrong_plans(connection, "fresh statistics")
    run(connection, *DRAIN, fill("finished", size.new), fill("new", 5_000), held(size), *ended(size))
    wrong += wrong_plans(connection, "pruned and filled again, guarded", GUARD)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("many", MANY)
def test_pruning_beside_many_rows_of_another_type(connection: psycopg.Connection[Any], many: int) -> None:
    """Also where nothing is to be pruned: a pool looks each minute."""
    nothing = OPS.prune(PruneRequest(("other", "more"), timedelta(days=1), timedelta(days=1), 1_000))
    size = beside(many)
    foreign = fill("finished", many, task_type=FOREIGN)
    run(connection, fill("new", 5_000), held(size), ANALYZE, foreign, *ended(size))
    wrong = []
    for where in ("statistics of before they ended", "fresh statistics"):
        wrong += wrong_plans(connection, where, GUARD, PRUNES)
        for operation in nothing:
            for mode in MODES:
                plan = explain(connection, operation, mode, GUARD)
                indexes, *_ = EXPECTED.get(operation.statement.name, (set(),))  # periods are in another table
                wrong += [f"{where}, {mode}: nothing to prune, and it {fault}" for fault in faults(plan, indexes, 1, 0)]
        run(connection, ANALYZE)
    assert not wrong, "\n".join(wrong)
