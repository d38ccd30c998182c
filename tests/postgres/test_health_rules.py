"""The rules of `fang doctor`, each by itself: what is well, what is wrong, and what mends it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from fang_core.monitoring import checks
from fang_core.monitoring.checks import Level
from fang_core.monitoring.figures import NotableRun, TaskCount, UnknownKind, UnservedType
from fang_core.monitoring.life import Life
from fang_core.record import TaskState
from fang_postgres.grants import PRIVILEGES
from fang_postgres.health import rules
from fang_postgres.health.facts import Clock, Holder, Pooler, Rights, Server, TaskTable
from fang_postgres.names import HEAD
from fang_postgres.revisions import Revision

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SERVER = Server(NOW, "app", False, 10, True)
SETTINGS = {
    "autovacuum": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "idle_in_transaction_session_timeout": "0",
    "max_connections": "103",
    "statement_timeout": "0",
    "superuser_reserved_connections": "3",
    "track_counts": "on",
}
MIB = 2**20
TABLE = TaskTable("", MIB, 1000.0, 1000, 10, NOW, 200.0)
SESSION = Holder("session", "4711", "app", "web", "idle in transaction", 60.0, 5)
LIVES = {UUID(int=1): Life.ALIVE}


@pytest.mark.parametrize(
    ("found", "level", "remedy"),
    [
        (Revision(HEAD, None), Level.OK, ""),
        (Revision("9999", HEAD), Level.OK, ""),
        (None, Level.ERROR, "fang migrate --schema jobs"),
        (Revision("0001", None), Level.ERROR, "fang migrate --schema jobs"),
        (Revision("9999", None), Level.ERROR, "upgrade fang-tasks"),
    ],
)
def test_the_schema(found: Revision | None, level: Level, remedy: str) -> None:
    check = rules.schema("jobs", found)
    assert (check.level, check.remedy) == (level, remedy)


def test_a_standby() -> None:
    assert rules.server(SERVER).level is Level.OK
    check = rules.server(SERVER._replace(is_standby=True))
    assert check.level is Level.ERROR
    assert "target_session_attrs=read-write" in check.remedy


@pytest.mark.parametrize(
    ("ahead", "uncertainty", "level", "told"),
    [
        (0.4, 0.1, Level.OK, "at most 0.5 s"),
        (3.0, 2.5, Level.OK, "at most 5.5 s"),  # a slow answer proves nothing
        (3.0, 0.5, Level.WARNING, "2.5 s behind"),
        (-3.0, 0.5, Level.WARNING, "2.5 s ahead of"),
        (-90.0, 0.5, Level.ERROR, "89.5 s ahead of"),
    ],
)
def test_the_clocks(ahead: float, uncertainty: float, level: Level, told: str) -> None:
    check = rules.clock(Clock(ahead, uncertainty))
    assert check.level is level
    assert told in check.text


def test_a_pooler() -> None:
    assert rules.pooler(Pooler(1, 1, 2)) == ("pooler", Level.OK, "each connection has its own session", "")
    assert "no two connections were seen to share a session" in rules.pooler(Pooler(9, 1, 2)).text
    shared = rules.pooler(Pooler(9, 1, 1))
    assert shared.level is Level.WARNING
    assert "behind_pooler=True" in shared.remedy


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({}, ""),
        ({"statement_timeout": "60000"}, ""),
        (
            {"default_transaction_isolation": "serializable"},
            """ALTER ROLE "a""b" SET default_transaction_isolation = 'read committed'""",
        ),
        ({"default_transaction_read_only": "on"}, 'ALTER ROLE "a""b" SET default_transaction_read_only = off'),
        ({"statement_timeout": "100"}, """ALTER ROLE "a""b" SET statement_timeout = '60s'"""),
        (
            {"idle_in_transaction_session_timeout": "100"},
            """ALTER ROLE "a""b" SET idle_in_transaction_session_timeout = '60s'""",
        ),
    ],
)
def test_settings_of_the_role(wrong: dict[str, str], remedy: str) -> None:
    check = rules.settings('a"b', SETTINGS | wrong)
    assert (check.level, check.remedy) == (Level.WARNING if remedy else Level.OK, remedy)
    if remedy:
        assert all(f"{name} = {value}" in check.text for name, value in wrong.items())


@pytest.mark.parametrize(("taken", "level"), [(79, Level.OK), (80, Level.WARNING), (95, Level.ERROR)])
def test_connections(taken: int, level: Level) -> None:
    check = rules.connections(SERVER._replace(connections=taken), SETTINGS)
    assert (check.level, check.text) == (level, f"{taken} of 100 connections are in use")


def lacking(*tables: str) -> Rights:
    return Rights({table: frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}) for table in tables})


def test_privileges() -> None:
    assert rules.privileges("app", "fang", Rights({})).level is Level.OK
    check = rules.privileges("app", "fang", lacking("fang_messages"))
    assert check.level is Level.OK
    assert (
        "has the rights for web, status, but not for a worker: it lacks SELECT, INSERT, DELETE on fang_mess"
        in check.text
    )
    assert check.remedy == "to let it run pools: fang migrate --grants app --for worker"
    check = rules.privileges("app", "jobs", Rights({}, ["fang_tasks"]))
    assert check.level is Level.WARNING
    assert "row-level security decides which rows of fang_tasks role app sees" in check.text
    assert check.remedy == 'ALTER TABLE "jobs".fang_tasks DISABLE ROW LEVEL SECURITY'
    check = rules.privileges("app", "jobs", lacking(*PRIVILEGES["worker"]))
    assert check.level is Level.ERROR
    assert check.remedy == "fang migrate --grants app --for worker --schema jobs"


@pytest.mark.parametrize(
    ("settings", "table", "level", "remedy"),
    [
        ({}, {}, Level.OK, ""),
        ({"autovacuum": "off"}, {}, Level.ERROR, "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()"),
        ({"track_counts": "off"}, {}, Level.ERROR, "ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf()"),
        (
            {},
            {"options": "fillfactor=70,autovacuum_enabled=false"},
            Level.ERROR,
            "ALTER TABLE jobs.fang_tasks RESET (autovacuum_enabled)",
        ),
        ({}, {"dead": 100_000, "live": 50_000}, Level.OK, ""),
        (
            {},
            {"dead": 100_000, "live": 49_999, "vacuumed_at": None},
            Level.WARNING,
            "VACUUM jobs.fang_tasks, unless something holds it back: see horizon",
        ),
    ],
)
def test_vacuum(settings: dict[str, str], table: dict[str, Any], level: Level, remedy: str) -> None:
    check = rules.vacuum("jobs", SETTINGS | settings, TABLE._replace(**table))
    assert (check.level, check.remedy) == (level, remedy)


@pytest.mark.parametrize(
    ("table", "level"),
    [
        ({"size": 255 * MIB}, Level.OK),  # it may be empty: that is little
        ({"size": 512 * MIB, "rows": 512 * 1024.0, "width": 984.0}, Level.OK),
        ({"size": 512 * MIB, "rows": 50 * 1024.0, "width": 984.0}, Level.WARNING),
        ({"size": 512 * MIB, "width": None}, Level.UNKNOWN),
        ({"size": 512 * MIB, "rows": -1.0}, Level.UNKNOWN),
    ],
)
def test_bloat(table: dict[str, Any], level: Level) -> None:
    check = rules.bloat("jobs", TABLE._replace(**table))
    assert check.level is level
    assert ("VACUUM FULL jobs.fang_tasks" in check.remedy) is (level is Level.WARNING)


def test_indexes() -> None:
    assert rules.indexes("jobs", []).level is Level.OK
    check = rules.indexes("jobs", ["fang_tasks_due"])
    assert (check.level, check.remedy) == (Level.ERROR, "REINDEX INDEX CONCURRENTLY jobs.fang_tasks_due")


@pytest.mark.parametrize(
    ("holders", "level", "told", "remedy"),
    [
        ([], Level.OK, "nothing", ""),
        ([SESSION], Level.OK, "by 5 transactions", ""),
        ([SESSION._replace(seconds=90_000.0)], Level.OK, "by 5 transactions", ""),  # nothing goes on meanwhile
        ([SESSION._replace(seconds=601.0, transactions=10_000)], Level.WARNING, "4711", "pg_terminate_backend(4711)"),
        ([SESSION._replace(seconds=None, transactions=10_000)], Level.OK, "4711", ""),
        ([SESSION._replace(seconds=None, transactions=1_000_000)], Level.WARNING, "4711", "pg_terminate_backend(4711)"),
        (
            [SESSION._replace(seconds=90_000.0, transactions=10_000)],
            Level.ERROR,
            "1 d 1 h",
            "pg_terminate_backend(4711)",
        ),
        (
            [SESSION, Holder("slot", "it's", "", "", "inactive", None, 200_000_000)],
            Level.ERROR,
            "the inactive replication slot it's holds back VACUUM by 200,000,000 transactions",
            "pg_drop_replication_slot('it''s')",
        ),
        (
            [Holder("prepared", "g'1", "app", "", None, 700.0, 10_000), SESSION],
            Level.WARNING,
            'the prepared transaction "g\'1" of app, open for 11 min 40 s',
            "ROLLBACK PREPARED 'g''1'",
        ),
    ],
)
def test_who_holds_back_vacuum(holders: Sequence[Holder], level: Level, told: str, remedy: str) -> None:
    check = rules.horizon(SERVER, holders)
    assert check.level is level
    assert told in check.text
    assert remedy in check.remedy
    assert bool(check.remedy) is bool(remedy)


def test_a_role_that_does_not_see_is_told_so() -> None:
    blind = SERVER._replace(sees_sessions=False)
    assert "pg_read_all_stats" in rules.horizon(blind, [SESSION._replace(seconds=None)]).text
    assert "pg_read_all_stats" in rules.transactions(blind, []).text
    assert "pg_read_all_stats" not in rules.transactions(SERVER, []).text


def test_long_transactions() -> None:
    assert rules.transactions(SERVER, [SESSION, SESSION._replace(seconds=None)]).level is Level.OK
    old = SESSION._replace(name="4712", seconds=700.0, transactions=None)
    check = rules.transactions(SERVER, [SESSION, old])
    assert (check.level, check.text) == (
        Level.WARNING,
        "session 4712 (app, web, idle in transaction, open for 11 min 40 s)",
    )
    assert "pg_terminate_backend(4712)" in check.remedy
    assert rules.transactions(SERVER, [old, SESSION._replace(seconds=90_000.0)]).level is Level.ERROR


def count(due: int) -> TaskCount:
    return TaskCount("heavy", TaskState.NEW, "Print", due, due)


@pytest.mark.parametrize(
    ("lives", "due", "level", "remedy"),
    [
        ({}, 0, Level.OK, ""),
        ({}, 1, Level.ERROR, "fang worker MODULE:POOL"),
        (LIVES, 1, Level.OK, ""),
        (LIVES | {UUID(int=2): Life.DEAD}, 0, Level.WARNING, "fang pools"),
        (LIVES | {UUID(int=2): Life.SILENT}, 0, Level.WARNING, "fang pools"),
        ({UUID(int=2): Life.DEAD}, 0, Level.ERROR, "fang worker MODULE:POOL"),
    ],
)
def test_pools(lives: dict[UUID, Life], due: int, level: Level, remedy: str) -> None:
    check = checks.pools(lives, [count(due)])
    assert (check.level, check.remedy) == (level, remedy)
    assert all(str(pool_id) in check.text for pool_id, life in lives.items() if life is not Life.ALIVE)


def test_what_nobody_serves() -> None:
    assert checks.served([], []).level is Level.OK
    types = [UnservedType("heavy", 1234)]
    kinds = [UnknownKind("heavy", "Print", 1234), UnknownKind("light", "Old", 2)]
    check = checks.served(types, kinds)
    assert check.level is Level.WARNING
    assert check.text == ("no pool serves task type heavy: 1,234 due; no pool of task type light knows kind Old: 2 due")
    cancels = "; or cancel the tasks: fang tasks cancel"
    serve, know = "start a pool that serves the type", "deploy the kind's class to its workers"
    assert check.remedy == f"{serve}, and {know}{cancels}"
    assert checks.served(types, kinds[:1]).remedy == serve + cancels
    assert checks.served([], kinds).remedy == know + cancels
    many = checks.served([UnservedType(f"type{n}", 1) for n in range(5)], [])
    assert many.text.endswith("no pool serves task type type2: 1 due; and 2 more")


def test_a_number_that_was_estimated_is_told_as_such() -> None:
    estimated = TaskCount("heavy", TaskState.NEW, "Render", 8700, 8700, is_estimate=True)
    assert checks.pools({}, [estimated]).text == "no pool is running, and ~8,700 tasks are due"
    types = [UnservedType("heavy", 8700, is_estimate=True)]
    assert checks.served(types, []).text == "no pool serves task type heavy: ~8,700 due"


def test_runs_that_hang() -> None:
    run = NotableRun(uuid4(), "7", "Print", 1, NOW, timedelta(hours=1), False, None, None)
    assert checks.runs([run]).level is Level.OK
    hung = NotableRun(uuid4(), "8", "Print", 1, NOW, timedelta(hours=1), True, "app.py:3", None)
    check = checks.runs([hung, run])
    assert (check.level, check.text) == (Level.WARNING, "Print 8 hangs at app.py:3, 1 h after it began")
    assert check.remedy == "fang why 8"
