"""Two claims of a managed type that meet: neither limit nor rate is exceeded, whichever lock decides.

The second one is held up after it has taken its snapshot and before it takes its lock; meanwhile the first one claims
and commits. A claim that counted by its own snapshot would exceed each limit here.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import tuple_row

from fang_core.backends.claims import TURN_TAKEN, LaneRequest
from fang_postgres.grants import FUNCTIONS
from fang_postgres.operations import Operations
from fang_postgres.statement import Operation
from fang_threaded.database import run_on
from tests.modes import Database, Harness
from tests.patience import PATIENT
from tests.postgres.blocking import WAITING
from tests.postgres.test_lanes import OTHER, POOL, Flow

GATE = 4711
HOUR = timedelta(hours=1)
SETTINGS: dict[str, dict[str, Any]] = {
    "limit": {"max_running": 5},
    "limit of each key": {"max_running_per_key": 5},
    "rate": {"rate_interval": HOUR, "rate_burst": 5},
    "rate of each key": {"key_rate_interval": HOUR, "key_rate_burst": 5},
}
in_each_form = pytest.mark.parametrize(
    ("settings", "rated"),
    [
        pytest.param(settings, rated, id=f"{name}{'' if rated else ', in the form without rates'}")
        for name, settings in SETTINGS.items()
        for rated in ([True] if "rate" in name else [False, True])
    ],
)


PASS = f"pg_advisory_xact_lock({GATE})"
FIRST = (
    (".fang_types s", f".fang_types s CROSS JOIN (SELECT {PASS} OFFSET 0) gate"),
    ("WHERE lane.task_type", f"WHERE (SELECT {PASS}) IS NOT NULL AND lane.task_type"),
)
"""Where a claim, or another statement, goes through the gate before all else."""

BEFORE_KEYS = (("FROM room CROSS JOIN unnest", f"FROM (SELECT room.*, {PASS} FROM room OFFSET 0) room, unnest"),)
"""Where a claim goes through it when it has read the clock."""


@contextmanager
def held_up(
    url: str,
    operation: Operation[Any],
    connection: psycopg.Connection[Any] | None = None,
    places: Sequence[tuple[str, str]] = FIRST,
) -> Iterator[Callable[[], Any]]:
    """Begins a claim, which waits at the gate with its snapshot taken; yields what opens the gate.

    Its transaction ends with it, unless it is given a ``connection``.
    """
    text = operation.statement.psycopg_text
    for place, gated in places:
        text = text.replace(place, gated, 1)
    assert text.count(PASS) == 1

    def claim() -> Any:
        opened = psycopg.connect(url) if connection is None else nullcontext(connection)
        with opened as used, used.cursor(row_factory=tuple_row) as cursor:
            return operation.decode(cursor.execute(text.encode(), dict(operation.params)).fetchall())

    with (
        psycopg.connect(url, autocommit=True) as keeper,
        psycopg.connect(url, autocommit=True) as watcher,
        ThreadPoolExecutor(1) as executor,
    ):
        keeper.execute("SELECT pg_advisory_lock(%s)", [GATE])
        future = executor.submit(claim)
        while not future.done() and not watcher.execute(WAITING).fetchone()[0]:  # type: ignore[index]
            wait([future], 0.01)

        def open_gate() -> Any:
            keeper.execute("SELECT pg_advisory_unlock(%s)", [GATE])
            return future.result(PATIENT)

        try:
            yield open_gate
        finally:
            keeper.execute("SELECT pg_advisory_unlock_all()")


def meet(url: str, database: Database, settings: dict[str, Any], *, rated: bool = True) -> tuple[int, int]:
    """How many each of the two claims takes, whose limit is five; the second one is held up by the first."""
    flow = Flow(database)
    flow.settings(**settings)
    flow.insert("a", 20)
    late = Operations("fang").claim_lanes(LaneRequest(OTHER, "common", ("A",), 100), rated=rated)
    with held_up(url, late) as open_gate:
        return len(flow.claim().tasks), len(open_gate()[0].tasks)


@in_each_form
def test_a_claim_that_was_held_up_takes_nothing(
    url: str, database: Database, settings: dict[str, Any], rated: bool
) -> None:
    assert meet(url, database, settings, rated=rated) == (5, 0)


@in_each_form
def test_with_functions_that_take_no_new_snapshot_it_would_exceed_them(
    url: str, database: Database, settings: dict[str, Any], rated: bool
) -> None:
    for function in FUNCTIONS["worker"]:
        database.execute(f"ALTER FUNCTION fang.{function} STABLE")
    assert meet(url, database, settings, rated=rated) == (5, 5)


@pytest.mark.parametrize("rated", [False, True])
def test_a_limit_for_each_key_under_the_lock_of_the_type(url: str, database: Database, rated: bool) -> None:
    assert meet(url, database, {"max_running": 100, "max_running_per_key": 5}, rated=rated) == (5, 0)


@pytest.mark.parametrize("settings", [SETTINGS["rate"], SETTINGS["rate of each key"]], ids=["of all", "of each key"])
def test_a_claim_that_knows_nothing_of_rates_takes_nothing_of_a_type_with_one(
    database: Database, settings: dict[str, Any]
) -> None:
    flow = Flow(database)
    flow.settings(**settings)
    flow.insert("a")
    claim, is_rated = run_on(
        database.connection, Operations("fang").claim_lanes(LaneRequest(POOL, "common", ("A",), 1), rated=False)
    )
    assert (claim.tasks, claim.room, is_rated) == ([], None, True)


def test_a_store_claims_in_the_form_that_the_type_needs(harness: Harness, url: str, database: Database) -> None:
    flow = Flow(database)
    flow.insert("a", 20)
    store = harness.call(harness.queue(url).store)

    def claim() -> int:
        return len(harness.call(store.claim_lanes, LaneRequest(POOL, "common", ("A",), 100)).tasks)

    rate = SETTINGS["rate"]
    for settings, tasks in (({"max_running": 2}, 2), (rate, 5), ({"max_running": 10}, 3), (rate, 5)):
        database.execute("DELETE FROM fang.fang_types")
        flow.settings(**settings)
        assert [claim(), claim()] == [tasks, 0]
    harness.call(store.close)


def test_a_claim_whose_keys_others_have_filled_meanwhile_looks_again(url: str, database: Database) -> None:
    flow = Flow(database)
    flow.settings(max_running_per_key=1)
    for lane in ("a", "b"):
        flow.insert(lane)
    request = LaneRequest(OTHER, "common", ("A",), 1)
    with held_up(url, Operations("fang").claim_lanes(request)) as open_gate:
        assert flow.lanes(flow.claim(1)) == {"a": 1}
        late, _ = open_gate()
    assert (late.tasks, late.room) == ([], TURN_TAKEN)
    assert flow.lanes(flow.claim(1)) == {"b": 1}


@pytest.mark.parametrize("places", [FIRST, BEFORE_KEYS], ids=["before all", "before the keys"])
def test_a_claim_whose_keys_others_have_put_out_of_rate_meanwhile_looks_again(
    url: str, database: Database, places: Sequence[tuple[str, str]]
) -> None:
    flow = Flow(database)
    flow.settings(key_rate_interval=HOUR, key_rate_burst=1)
    flow.insert("a", 2)
    late = Operations("fang").claim_lanes(LaneRequest(OTHER, "common", ("A",), 1))
    with held_up(url, late, places=places) as open_gate:
        assert flow.lanes(flow.claim(1)) == {"a": 1}
        claim, _ = open_gate()
    assert (claim.tasks, claim.room) == ([], TURN_TAKEN)
    assert flow.claim(1).look_in == pytest.approx(3_600, abs=60)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_no_claim_goes_by_the_snapshot_of_its_transaction(url: str, database: Database, isolation: str) -> None:
    flow = Flow(database)
    flow.settings(max_running_per_key=5)
    flow.insert("a", 20)
    with psycopg.connect(url) as strict:
        strict.execute(f"SET default_transaction_isolation = '{isolation}'".encode())
        strict.commit()
        assert flow.claim(connection=strict).tasks == []
    assert len(flow.claim().tasks) == 5


def test_pools_claim_whatever_isolation_is_the_default(harness: Harness, url: str, database: Database) -> None:
    flow = Flow(database)
    flow.settings(max_running_per_key=5)
    flow.insert("a", 20)
    name = flow.database.connection.info.dbname
    flow.database.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
    queue = harness.queue(url)
    store = harness.call(queue.store)
    assert len(harness.call(store.claim_lanes, LaneRequest(POOL, "common", ("A",), 100)).tasks) == 5
    harness.call(store.close)
