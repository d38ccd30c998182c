"""`fang doctor` on real databases: what it reads of them. tests/postgres/test_health_rules.py judges the rules."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from fang_core import Limit, Runnable, TaskConfig
from fang_postgres.grants import grants
from fang_postgres.health.facts import HealthFacts, Holder
from fang_threaded import Queue
from fang_threaded.database import run_on
from tests.cli.invoking import fang
from tests.pgbouncer import pgbouncer

ALL = [
    *("schema", "server", "clock", "pooler", "settings", "connections"),
    *("privileges", "vacuum", "bloat", "indexes", "horizon", "transactions"),
    *("pools", "served", "schedules", "paused", "runs"),
]
PASSWORD = "not-to-be-shown"
FACTS = HealthFacts("fang")


class Nobodys(Runnable):
    task_config = TaskConfig(kind="doctor.Nobodys", task_type="doctor.nobodys")
    text: str = ""

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def owner(url: str) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def checks(url: str, *arguments: str, code: int = 0) -> dict[str, dict[str, str]]:
    """What it says of each thing."""
    result = fang("doctor", "--json", "--database-url", url, *arguments)
    assert (result.returncode, result.stderr) == (code, ""), result.stdout
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_what_is_well(url: str) -> None:
    found = checks(url)
    assert list(found) == ALL
    assert set(found["schema"]) == {"name", "level", "text", "remedy"}
    others = {"connections", "horizon", "transactions", "clock"}  # of all who use this server
    assert {name: check for name, check in found.items() if check["level"] != "ok" and name not in others} == {}
    lines = fang("doctor", "--database-url", url).stdout.splitlines()
    assert lines[0].split()[:2] == ["ok", "schema"]


def test_what_is_wrong_with_the_tables_has_its_command(url: str, owner: "psycopg.Connection[Any]") -> None:
    with Queue(url) as queue:
        queue.insert_task(Nobodys())
        queue.schedules.put("nightly", Nobodys(), cron="@daily")
        queue.schedules.put("yearly", Nobodys(), cron="@yearly")
        queue.schedules.pause("yearly", by="ada", reason="holidays")
        queue.pause("doctor.nobodys", by="ada", reason="incident")
        queue.limits.set("doctor.limited", [Limit(0)], by="ada", reason="disk")
    owner.execute("ALTER TABLE fang.fang_tasks SET (autovacuum_enabled = off)")
    [(index,)] = owner.execute(
        "UPDATE pg_index SET indisvalid = false FROM pg_class AS c, pg_namespace AS n"
        " WHERE c.oid = indexrelid AND n.oid = relnamespace AND nspname = 'fang' AND relname LIKE 'fang_tasks_failed%'"
        " RETURNING relname"
    ).fetchall()
    database = sql.Identifier(make_url(url).database or "")
    owner.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = serializable").format(database))
    owner.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = '3s'").format(database))
    found = checks(url, code=1)
    assert found["vacuum"]["remedy"] == "ALTER TABLE fang.fang_tasks RESET (autovacuum_enabled)"
    assert found["indexes"]["remedy"] == f"REINDEX INDEX CONCURRENTLY fang.{index}"
    assert "default_transaction_isolation = serializable, statement_timeout = 3000ms" in found["settings"]["text"]
    assert found["served"]["text"] == "no pool serves task type doctor.nobodys: 1 due"
    assert (found["schedules"]["level"], found["schedules"]["text"]) == (
        "warning",
        "schedule nightly makes no ticks: no pool serves its task type doctor.nobodys",
    )
    assert (found["paused"]["level"], found["paused"]["text"]) == (
        "warning",
        "nothing of task type doctor.limited starts: its limit is 0, set by ada: disk; "
        "task type doctor.nobodys is paused by ada: incident; schedule yearly is paused by ada: holidays",
    )
    assert found["paused"]["remedy"] == (
        "if it is no longer needed: fang queues resume TYPE; fang limits set TYPE N; fang schedules resume NAME"
    )
    assert found["pools"]["level"] == "error"
    shown = fang("doctor", "--database-url", url)
    assert shown.returncode == 1
    assert f"-> REINDEX INDEX CONCURRENTLY fang.{index}" in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith("errors: 3")


def test_tables_that_are_missing(url: str) -> None:
    found = checks(url, "--schema", "other", code=1)
    assert list(found) == ALL[: ALL.index("privileges")]
    assert (found["schema"]["level"], found["schema"]["remedy"]) == ("error", "fang migrate --schema other")


def test_statistics_of_the_table(url: str, owner: "psycopg.Connection[Any]") -> None:
    with Queue(url) as queue:
        queue.insert_tasks([Nobodys(text="x" * 1000) for _ in range(20)])
    owner.execute("VACUUM ANALYZE fang.fang_tasks")
    table = run_on(owner, FACTS.table())
    assert table is not None
    assert table.rows == 20
    assert table.size > 20_000
    assert table.width is not None
    assert 1000 < table.width < 2000
    assert table.vacuumed_at is not None


def test_who_holds_back_vacuum(url: str, owner: "psycopg.Connection[Any]") -> None:
    with psycopg.connect(url, application_name="forgotten") as other:
        other.execute("CREATE TABLE made_and_not_committed ()")
        mine = [each for each in run_on(owner, FACTS.holders()) if each.application == "forgotten"]
        [held] = mine
        assert held[:2] == ("session", str(other.info.backend_pid))
        assert (held.user, held.state) == (other.info.user, "idle in transaction")
        assert held.seconds is not None
        assert held.transactions is not None
        other.rollback()
    if owner.execute("SHOW max_prepared_transactions").fetchone() == ("0",):
        pytest.skip("the server has max_prepared_transactions = 0")
    with psycopg.connect(url) as other:
        other.tpc_begin(other.xid(1, "doctor", "test"))
        other.execute("CREATE TABLE made_and_prepared ()")
        other.tpc_prepare()
        prepared = [each for each in run_on(owner, FACTS.holders()) if each.kind == "prepared"]
        assert [(type(each), each.user) for each in prepared] == [(Holder, other.info.user)]
        assert prepared[0].seconds is not None
        other.tpc_rollback()


ROLE = 'doctor "quoted"'


@pytest.fixture
def role(url: str, owner: "psycopg.Connection[Any]") -> Iterator[str]:
    """A role without rights; the URL by which it connects."""
    name = sql.Identifier(ROLE)
    owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    yield make_url(url).set(username=ROLE).render_as_string(hide_password=False)
    owner.execute(sql.SQL("DROP OWNED BY {}").format(name))
    owner.execute(sql.SQL("DROP ROLE {}").format(name))


def test_what_a_role_may_not_see_is_said(role: str, owner: "psycopg.Connection[Any]") -> None:
    found = checks(role, code=1)
    assert list(found) == ALL
    unknown = {name for name, check in found.items() if check["level"] == "unknown"}
    assert unknown == {"schema", "pools", "served", "schedules", "paused", "runs"}
    assert found["privileges"]["level"] == "error"
    assert "to see all" in found["transactions"]["text"]
    owner.execute(grants(ROLE, "worker").encode())
    found = checks(role)
    assert "can run pools" in found["privileges"]["text"]
    assert {name for name, check in found.items() if check["level"] == "unknown"} == set()
    owner.execute("ALTER TABLE fang.fang_tasks ENABLE ROW LEVEL SECURITY")
    try:
        assert checks(role)["privileges"]["level"] == "warning"
        status = fang("status", "--json", "--database-url", role)
        assert status.returncode == 0
        assert status.stderr == "row-level security may hide tasks from this role: see fang doctor\n"
    finally:
        owner.execute("ALTER TABLE fang.fang_tasks DISABLE ROW LEVEL SECURITY")


def test_a_pooler_in_transaction_mode_is_found(url: str) -> None:
    with pgbouncer(url) as bouncer:
        found = checks(bouncer.url)
    assert found["pooler"]["level"] == "warning"
    assert "behind_pooler=True" in found["pooler"]["remedy"]
    assert {check["text"] for check in found.values() if check["level"] == "unknown"} == set()


def test_a_database_that_is_down() -> None:
    result = fang("doctor", "--database-url", f"postgresql://someone:{PASSWORD}@127.0.0.1:1/nowhere")
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr.startswith("fang: the database does not answer")
    assert PASSWORD not in result.stderr
