"""Claims that fall into the trap of ``test_plans`` come out of it: the ones that follow run under the guard."""

import logging
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, make_url

from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord, PruneRequest
from fang_core.errors import FangError
from fang_core.lifecycle import Outcome
from fang_core.record import TaskState
from fang_postgres import planner_guard
from fang_postgres.connections.connecting import GUARD, SETTINGS, as_options
from fang_postgres.operations import Operations
from fang_postgres.planner_guard import PlanGuard
from fang_threaded.database import run_on
from tests.fixtures import database
from tests.modes import Harness, harness_of
from tests.postgres.plans import MODES, explain, faults
from tests.postgres.test_plans import DRAIN, EXPECTED, connected, fill

POOL = uuid.UUID(int=7)
SMALL, WHOLE = 100_000, 200_000
AUTOVACUUM_OFF = "ALTER TABLE fang.fang_tasks SET (autovacuum_enabled = off)"
UNLOGGED = "ALTER TABLE fang.fang_tasks SET UNLOGGED"  # faster to fill, and planned all the same
REQUEST = ClaimRequest(POOL, ("common",), ("Planned",), 500)
GUARDED, NOT_GUARDED = "guarded", "not guarded"

IS_GUARDED = " AND ".join(f"current_setting('{name}') = '{value}'" for name, value in GUARD.items())
LEDGER = f"""
    CREATE TABLE ledger (n serial, did text, how text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO ledger (did, how) SELECT TG_OP, CASE WHEN {IS_GUARDED} THEN '{GUARDED}' ELSE '{NOT_GUARDED}' END;
        RETURN NULL;
    END $$;
    CREATE TRIGGER note BEFORE UPDATE OR DELETE ON fang.fang_tasks FOR EACH STATEMENT EXECUTE FUNCTION note();
"""

SLEEPS = f"""
    CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NOT ({IS_GUARDED}) THEN PERFORM pg_sleep(60); END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER sleeps BEFORE UPDATE ON fang.fang_tasks FOR EACH STATEMENT EXECUTE FUNCTION sleeps();
"""


@pytest.fixture
def short_statements(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """On our own connections, and on those of an application's engine."""
    monkeypatch.setitem(SETTINGS, "statement_timeout", "500ms")
    name = make_url(url).database
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET statement_timeout = 500'.encode())


@pytest.fixture(params=["threaded", "threaded on an engine", "async"])
def store(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    """Of a registered pool, with each method called from the test's thread."""
    mode, _, shared = request.param.partition(" ")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg")) if shared else None
    with harness_of(mode) as harness:
        made = Called(harness, harness.call(harness.queue(url if engine is None else engine).store))
        made.register(PoolRecord(POOL, mode, "h", 1, ("common",), ("Planned",), 1))
        yield made
        made.close()
    if engine is not None:
        engine.dispose()


class Called:
    """A store's methods, whatever its mode."""

    def __init__(self, harness: Harness, store: Any) -> None:
        self._harness = harness
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self._harness.call(getattr(self.store, name), *args)


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(AUTOVACUUM_OFF.encode())
        yield connection


def how(connection: psycopg.Connection[Any]) -> list[Any]:
    """What ran since the last look, in order."""
    rows = connection.execute("DELETE FROM ledger RETURNING n, did, how").fetchall()
    return [(did, guarded) for _, did, guarded in sorted(rows)]


@pytest.fixture(scope="module", params=[SMALL, pytest.param(WHOLE, marks=pytest.mark.long)])
def rows(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def trap(server_url: str, template: str, rows: int) -> Iterator[str]:
    """The name of a database whose table was drained and filled again, to be copied: filling it takes long."""
    for url in database(server_url, template):
        with psycopg.connect(url, autocommit=True) as connection:
            for step in (AUTOVACUUM_OFF, UNLOGGED, fill("new", rows), *DRAIN, fill("new", rows), LEDGER):
                connection.execute(step.encode())
            name = connection.info.dbname
        yield name


class TestInTheTrap:
    @pytest.fixture
    def url(self, server_url: str, trap: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        if rows == SMALL:  # a scan of fewer rows is slow from less on
            monkeypatch.setattr(planner_guard, "SLOW", planner_guard.SLOW / 2)
            monkeypatch.setattr(planner_guard, "HEALTHY", planner_guard.HEALTHY / 2)
        yield from database(server_url, trap)

    @pytest.fixture
    def guard_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sessions that allow every plan, as those of an application's engine."""
        for name in ("enable_seqscan", "enable_bitmapscan"):
            monkeypatch.delitem(SETTINGS, name)

    def test_the_sessions_of_pools_stay_out_of_the_trap(self, url: str) -> None:
        operations = Operations("fang")
        with connected(url, as_options(SETTINGS)) as connection:
            run_on(connection, operations.register(PoolRecord(POOL, "threaded", "h", 1, (), (), 1)))
            for mode in MODES:
                assert not faults(explain(connection, operations.claim(REQUEST), mode), *EXPECTED["claim"]), mode

    @pytest.mark.usefixtures("guard_alone")
    def test_claims_come_out_of_the_trap(
        self, connection: psycopg.Connection[Any], store: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        plan = explain(connection, Operations("fang").claim(REQUEST), "force_custom_plan")
        assert "goes by Seq Scan" in str(faults(plan, *EXPECTED["claim"]))  # no trap, no test of the guard
        how(connection)

        with caplog.at_level(logging.INFO):
            for _ in range(10):
                assert len(store.claim(REQUEST).tasks) == REQUEST.limit
        claims = how(connection)
        fell = claims.index(("UPDATE", GUARDED))
        assert 1 <= fell <= 3
        assert claims[fell:] == [("UPDATE", GUARDED)] * (10 - fell)
        assert [record.getMessage() for record in caplog.records if "plans are guarded" in record.getMessage()]
        held = "SELECT count(*) FROM fang.fang_tasks WHERE state = 'in_progress'"
        assert connection.execute(held).fetchall() == [(10 * REQUEST.limit,)]  # each was committed

        store.store._guard_of_claims = PlanGuard()  # on the same connection: the settings ended with each transaction
        store.claim(REQUEST)
        assert how(connection) == [("UPDATE", NOT_GUARDED)]


@pytest.mark.usefixtures("short_statements")
def test_a_claim_that_dies_of_its_timeout_is_followed_by_guarded_ones(
    connection: psycopg.Connection[Any], store: Any
) -> None:
    for step in (fill("new", 10), LEDGER):
        connection.execute(step.encode())
    connection.execute(SLEEPS.encode())
    with pytest.raises(FangError, match="statement timeout"):  # the first that the guard sees, and yet it counts
        store.claim(REQUEST)
    how(connection)
    assert len(store.claim(REQUEST).tasks) == 10
    assert how(connection) == [("UPDATE", GUARDED)]


def test_outcomes_are_guarded_as_well(connection: psycopg.Connection[Any], store: Any) -> None:
    for step in (fill("new", 10), LEDGER):
        connection.execute(step.encode())
    claimed = store.claim(REQUEST).tasks
    ended = [Outcome(task.id, task.attempt, None) for task in claimed]
    how(connection)

    store.complete(POOL, ended[:2])
    assert how(connection) == [("DELETE", NOT_GUARDED)]
    store.store._guard_of_outcomes.observe(1, 1e12)
    store.complete(POOL, ended[2:4])
    assert how(connection) == [("DELETE", GUARDED)]
    several = [ended[4], ended[5]._replace(state=TaskState.FINISHED)]
    assert store.complete(POOL, several) == {outcome.id for outcome in several}
    assert sorted(how(connection)) == [("DELETE", GUARDED), ("UPDATE", GUARDED)]
    assert store.complete(POOL, [ended[6]._replace(completed_by_run=True)]) == {ended[6].id}
    assert how(connection) == [("DELETE", GUARDED)]


def test_every_prune_is_guarded(connection: psycopg.Connection[Any], store: Any) -> None:
    for step in (fill("finished", 10), LEDGER):
        connection.execute(step.encode())
    assert store.prune(PruneRequest(("common",), keep_finished=timedelta(days=1), keep_failed=None, limit=4)) == 4
    assert {guarded for _, guarded in how(connection)} == {GUARDED}


def test_a_guarded_statement_that_is_refused_leaves_a_connection_that_works(
    connection: psycopg.Connection[Any], store: Any
) -> None:
    for step in (fill("new", 2), LEDGER):
        connection.execute(step.encode())
    for _ in range(2):
        store.store._guard_of_claims.observe(1, 1e12)
    connection.execute("ALTER TABLE fang.fang_tasks ADD CONSTRAINT no_claim CHECK (attempt < 2) NOT VALID")
    with pytest.raises(Exception, match="no_claim"):
        store.claim(REQUEST)
    connection.execute("ALTER TABLE fang.fang_tasks DROP CONSTRAINT no_claim")
    assert len(store.claim(REQUEST).tasks) == 2
    assert how(connection) == [("UPDATE", GUARDED)]


def test_only_a_claim_that_does_not_look_back_is_judged_by_its_time(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[float] = []

    def observe(guard: PlanGuard, seconds: float, now: float) -> bool:
        judged.append(seconds)
        return False

    monkeypatch.setattr(PlanGuard, "observe", observe)
    store.claim(REQUEST._replace(looks_back=True))
    assert not judged
    store.claim(REQUEST)
    assert len(judged) == 1
