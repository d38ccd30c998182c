"""The plans of what finds tasks of managed types: by the index of lanes, and no more rows than it deals with.

As in ``test_plans``: under custom and generic plans, whatever the statistics say. What the claim reads in functions no
EXPLAIN shows: there the server's count of its sequential scans must not rise.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fang_core.backends.claims import LaneRequest
from fang_postgres.connections.connecting import GUARD, SET_FOR_SESSION, SETTINGS, as_options
from fang_postgres.operations import Operations
from fang_postgres.operations.managing import Place
from fang_postgres.statement import Operation
from tests.fixtures import database
from tests.postgres.plans import MODES, explain, faults
from tests.postgres.test_plans import (
    ANALYZE,
    ANY_UUID,
    DRAIN,
    FOREIGN,
    MANY,
    MILLION,
    OTHER,
    POOL,
    SMALL,
    WHOLE,
    Size,
    held,
    prepared,
    run,
)
from tests.postgres.test_plans import fill as fill_plainly

OPS = Operations("fang")
KEYS = 1_000


def fill(
    count: int,
    keys: int = KEYS,
    *,
    state: str = "new",
    holder: UUID = OTHER,
    of: str = "common",
    due: str = "- interval '1 hour'",
) -> str:
    """Due for an hour unless told otherwise, as many of each key, in turn."""
    return f"""
        INSERT INTO fang.fang_tasks (id, metadata, task_type, state, attempt, pool_id, lane, scheduled_at)
        SELECT {ANY_UUID}, '{{"type": "Planned"}}', '{of}', '{state}', 1,
               {f"'{holder}'" if state == "in_progress" else "NULL"}, 'k' || n % {keys},
               now() {due} + n * interval '1 millisecond'
        FROM generate_series(1, {count}) n"""


BUSY = fill(200, 100, state="in_progress")
"""A tenth of the keys is full."""

SCENARIOS: dict[str, Callable[[Size], list[str]]] = {
    "no statistics": lambda size: [fill(size.new), BUSY],
    "statistics of an empty table": lambda size: [ANALYZE, fill(size.new), BUSY],
    "statistics of when all rows had one key": lambda size: [fill(2 * size.held, 1), ANALYZE, fill(size.new), BUSY],
    "statistics of when all rows ran, of another type": lambda size: [
        fill(2 * size.held, 1, state="in_progress", of=FOREIGN),
        *(ANALYZE, fill(size.new), BUSY),
    ],
    "statistics of when no row had a key": lambda size: [
        *(fill_plainly("new", size.new), held(size), ANALYZE, fill(size.new), BUSY)
    ],
    "fresh statistics": lambda size: [fill(size.new), fill_plainly("new", size.new), held(size), BUSY, ANALYZE],
}
LIMITS = "INSERT INTO fang.fang_types (task_type, max_running_per_key{0}) VALUES ('common', 2{1})"
OF_ALL = LIMITS.format(", max_running", ", 10000")
OF_EACH_KEY = LIMITS.format("", "")
RATED = LIMITS.format(", key_rate_interval, key_rate_burst", ", '1 s', 2")


@pytest.fixture(scope="module", params=[SMALL, pytest.param(WHOLE, marks=pytest.mark.long)], ids=["small", "whole"])
def size(request: pytest.FixtureRequest) -> Size:
    size: Size = request.param
    return size


@pytest.fixture(scope="module", params=SCENARIOS)
def scenario(
    request: pytest.FixtureRequest, server_url: str, template: str, size: Size
) -> Iterator[psycopg.Connection[Any]]:
    for url in database(server_url, template):
        with prepared(url) as connection:
            run(connection, *SCENARIOS[request.param](size))
            yield connection


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    with prepared(url) as connection:
        yield connection


def claim(limit: int = 100, *, rated: bool = False, looks_closely: bool = False) -> Operation[Any]:
    request = LaneRequest(POOL, "common", ("Planned",), limit, after_lane="k5", looks_closely=looks_closely)
    return OPS.claim_lanes(request, rated=rated)


def wrong_plans(
    connection: psycopg.Connection[Any], settings: str, guard: Mapping[str, str] | None = None
) -> list[str]:
    """What is wrong with the plan of a claim, or with those within its functions."""
    found = []
    with connection.transaction(force_rollback=True):
        run(connection, settings)
        for mode in MODES:
            for looks_closely in (False, True):
                plan = explain(connection, claim(rated=settings == RATED, looks_closely=looks_closely), mode, guard)
                found += [f"{mode}: {fault}" for fault in faults(plan, INDEXES, LOOKED_AT, 101)]
            before = sequential_scans(connection)
            with connection.transaction(force_rollback=True):
                for name, value in ({"plan_cache_mode": mode} | dict(guard or {})).items():
                    connection.execute(f"SET LOCAL {name} = {value}".encode())
                connection.execute(b"SELECT fang.fang_running_1('common', lane), fang.fang_running_1('common', NULL),"
                                   b" fang.fang_running_each_1('common', ARRAY[lane, lane || '0'])"
                                   b" FROM generate_series(1, 10) n, concat('k', n) AS lane")  # fmt: skip
            if sequential_scans(connection) > before:
                found.append(f"{mode}: a function reads the whole table")
    return found


COUNTS_PLANS_SINCE = 140_000

LOOKED_AT = 200
"""For a claim of 100: it walks fifty keys and those that are full, and of most nodes the pages count twice."""

# The first row holds no task.
INDEXES = {"fang_tasks_lanes", "fang_tasks_running", "Tid Scan"}


def sequential_scans(connection: psycopg.Connection[Any]) -> int:
    counted = "SELECT pg_stat_get_xact_numscans('fang.fang_tasks'::regclass)"
    return int(connection.execute(counted).fetchone()[0])  # type: ignore[index]


@pytest.mark.parametrize("settings", [OF_EACH_KEY, OF_ALL, RATED], ids=["of each key", "of all", "rated"])
def test_plans_whatever_the_statistics_say(scenario: psycopg.Connection[Any], settings: str) -> None:
    wrong = wrong_plans(scenario, settings)
    assert not wrong, "\n".join(wrong)


def test_a_sequential_scan_in_a_function_is_seen(connection: psycopg.Connection[Any]) -> None:
    run(connection, fill(1_000))
    with connection.transaction(force_rollback=True):
        run(connection, "SET LOCAL enable_indexscan = off", "SET LOCAL enable_bitmapscan = off")
        run(connection, "SET LOCAL plan_cache_mode = force_custom_plan", "DROP INDEX fang.fang_tasks_running")
        before = sequential_scans(connection)
        run(connection, "SELECT fang.fang_running_each_1('common', ARRAY['k1'])")
        assert sequential_scans(connection) > before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("settings", [OF_EACH_KEY, RATED], ids=["of each key", "rated"])
def test_what_other_types_run_is_not_read(connection: psycopg.Connection[Any], settings: str, mode: str) -> None:
    """The functions find what runs of a key by its type and the key: here nothing. By the key alone they would scan the
    whole index, and find what another type runs under the same key."""
    run(connection, settings, fill(5_000, 100))
    run(connection, f"INSERT INTO fang.fang_types (task_type, fair) VALUES ('{FOREIGN}', true)")
    run(connection, fill(1_000, KEYS, state="in_progress", of=FOREIGN))
    run(connection, f"INSERT INTO fang.fang_lanes SELECT '{FOREIGN}', 'k' || n, now() FROM generate_series(1, 1000) n")
    run(connection, ANALYZE, "ANALYZE fang.fang_lanes")
    before = entries_read(connection)
    explain(connection, claim(rated=settings == RATED), mode)
    assert entries_read(connection) == before


def test_what_runs_of_few_keys_is_counted_without_a_new_plan_each_time(connection: psycopg.Connection[Any]) -> None:
    if connection.info.server_version < COUNTS_PLANS_SINCE:
        pytest.skip("this server does not count the plans of a statement")
    source = "SELECT prosrc FROM pg_proc WHERE proname = 'fang_running_each_1'"
    body = str(connection.execute(source.encode()).fetchone()[0])  # type: ignore[index]
    counts = body.partition("RETURN")[2].partition(";")[0].replace("p_type", "$1").replace("p_lanes", "$2")
    run(connection, f"PREPARE counts (text, text[]) AS SELECT {counts}")
    run(connection, *["EXECUTE counts ('common', ARRAY['k1'])"] * 10)
    plans = connection.execute(b"SELECT generic_plans, custom_plans FROM pg_prepared_statements").fetchone()
    assert plans == (5, 5)


@pytest.mark.parametrize("rated", [False, True], ids=["of each key", "rated"])
def test_claims_are_not_planned_anew_each_time(connection: psycopg.Connection[Any], rated: bool) -> None:
    """A plan for the values at hand, which knows that a claim does not look closely, must not look cheaper."""
    if connection.info.server_version < COUNTS_PLANS_SINCE:
        pytest.skip("this server does not count the plans of a statement")
    run(connection, SET_FOR_SESSION, RATED if rated else OF_EACH_KEY, fill(5_000))
    operation = claim(rated=rated)
    arguments = operation.statement.arguments(operation.params)
    execute = f"EXECUTE claims ({', '.join(['%s'] * len(arguments))})"
    with connection.transaction(force_rollback=True):
        connection.execute(f"PREPARE claims AS {operation.statement.text}".encode())
        for _ in range(10):
            connection.execute(execute.encode(), arguments)
        counted = b"SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'claims'"
        assert connection.execute(counted).fetchone() == (5, 5)


def entries_read(connection: psycopg.Connection[Any]) -> int:
    """How many entries the server has found in the indexes of what runs and of the rates of keys."""
    run(connection, "SELECT pg_stat_force_next_flush()")
    counted = "SELECT sum(pg_stat_get_tuples_returned(i::regclass)) FROM unnest(%s::text[]) i"
    indexes = ["fang.fang_tasks_running", "fang.fang_lanes_pkey"]
    return int(connection.execute(counted.encode(), [indexes]).fetchone()[0])  # type: ignore[index]


@pytest.mark.parametrize("many", MANY)
def test_plans_with_many_waiting(connection: psycopg.Connection[Any], many: int) -> None:
    """The natural trap: the statistics of a drained table, few rows in many pages, when the next burst comes."""
    run(connection, fill(many), *DRAIN, fill(many), BUSY)
    if many == MILLION:  # no trap, no test of the guard; fewer rows do not lead into it
        assert wrong_plans(connection, OF_EACH_KEY)
    wrong = wrong_plans(connection, OF_EACH_KEY, GUARD)
    run(connection, ANALYZE)
    wrong += wrong_plans(connection, OF_EACH_KEY)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("left", [1, 10])
def test_plans_of_pools_after_few_rows(url: str, left: int) -> None:
    """ANALYZE comes while a queue is nearly empty, and then a burst: a plan by a bitmap, or a scan of the whole table,
    would read and sort all rows for each key. The settings of the sessions of pools rule these out, without a guard."""
    few = [f"{DRAIN[0].rpartition('LIMIT')[0]}LIMIT {left})", ANALYZE]
    with prepared(url, as_options(SETTINGS)) as connection:
        run(connection, fill(10_000), *few, fill(10_000), BUSY)
        wrong = wrong_plans(connection, OF_EACH_KEY)
    assert not wrong, "\n".join(wrong)


def test_a_key_with_many_rows_at_the_head_is_one_step(connection: psycopg.Connection[Any], size: Size) -> None:
    run(connection, OF_EACH_KEY, fill(size.new, 1), fill(2, 2), fill(2, 1, state="in_progress"), ANALYZE)
    for mode in MODES:
        assert not faults(explain(connection, claim(), mode), INDEXES, 10, 2), mode


def test_rows_not_yet_due_of_a_key_are_one_step(connection: psycopg.Connection[Any], size: Size) -> None:
    run(connection, OF_EACH_KEY, fill(size.new, 10, due="+ interval '1 hour'"), fill(10, 10), ANALYZE)
    for mode in MODES:
        assert not faults(explain(connection, claim(), mode), INDEXES, 40, 11), mode


def test_one_fetch_by_hand(connection: psycopg.Connection[Any], size: Size) -> None:
    run(connection, OF_EACH_KEY, fill(size.new), BUSY)
    for mode in MODES:
        assert not faults(explain(connection, OPS.touch_lane("common", POOL), mode), INDEXES, 5, 2), mode


def test_adoption(connection: psycopg.Connection[Any], size: Size) -> None:
    run(connection, fill_plainly("new", size.new), held(size))
    waiting, running = OPS.adopt_waiting("common", Place(), 500, notify=True), OPS.adopt_running("common")
    for mode in MODES:
        plan = explain(connection, waiting, mode, GUARD)
        assert not faults(plan, {"fang_tasks_due", "fang_tasks_pkey"}, 500, 1), mode
        assert not faults(explain(connection, running, mode, GUARD), {"fang_tasks_held"}, size.held, 1), mode
