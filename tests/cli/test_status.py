"""`fang status` as users meet it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from fang_cli.watching.reading import Patience
from fang_cli.watching.status import read_status
from fang_cli.watching.status_json import as_json
from fang_core import liveness
from fang_core.monitoring.life import Life
from fang_core.pool.telling import glance
from fang_postgres.reports.reports import Reports
from fang_threaded import Queue, Runnable, TaskConfig, WorkerPool
from fang_threaded.database import run_on
from tests.cli.invoking import fang
from tests.forking import ROOT, Forked
from tests.modes import Database, Harness, eventually

PASSWORD = "not-to-be-shown"


class Served(Runnable):
    task_config = TaskConfig(task_type="served")

    def run(self, queue: Any) -> None: ...


INSERT = """
    INSERT INTO fang.fang_tasks (id, metadata, task_type, state, scheduled_at, error_message) VALUES
    ('00000000-0000-0000-0000-00000000000a', '{"type": "Nobodys"}', 'heavy', 'new', now() - interval '1 hour', NULL),
    ('00000000-0000-0000-0000-00000000000b', '{"type": "Nobodys"}', 'heavy', 'retried', now() - interval '1 min', 'E'),
    ('00000000-0000-0000-0000-00000000000c', '{"type": "Nobodys"}', 'heavy', 'failed', now(), E'KeyError: 7\n- more'),
    ('00000000-0000-0000-0000-00000000000d', '{"type": "[red]\\u001b[31m"}', '[bold]strange', 'new', now(), NULL)
"""


@pytest.fixture
def pool(url: str) -> Iterator[WorkerPool]:
    with psycopg.connect(url) as connection:
        connection.execute(INSERT)
    with WorkerPool(Queue(url), number_of_workers=3, task_type=["served", "other"]) as pool:
        yield pool


def test_json_has_keys_that_stay(url: str, pool: WorkerPool) -> None:
    result = fang("status", "--json", "--database-url", url)
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["tasks"] == [
        {"task_type": "[bold]strange", "state": "new", "count": 1, "estimated": False, "at_least": False},
        {"task_type": "heavy", "state": "new", "count": 1, "estimated": False, "at_least": False},
        {"task_type": "heavy", "state": "failed", "count": 1, "estimated": False, "at_least": False},
        {"task_type": "heavy", "state": "retried", "count": 1, "estimated": False, "at_least": False},
    ]
    assert found["kinds"][-1] == {
        "task_type": "heavy",
        "kind": "Nobodys",
        "state": "retried",
        "count": 1,
        "estimated": False,
        "at_least": False,
    }
    [retried] = found["retried"]
    assert retried.pop("next_due").endswith("+00:00")
    assert retried == {
        "task_type": "heavy",
        "kind": "Nobodys",
        "count": 1,
        "estimated": False,
        "at_least": False,
        "error": "E",
    }
    oldest = found["oldest_due"][1]
    assert (oldest["task_type"], oldest["id"]) == ("heavy", "00000000-0000-0000-0000-00000000000a")
    assert 3600 <= oldest["seconds"] < 3700
    [failure] = found["last_failures"]
    assert failure.pop("failed_at").endswith("+00:00")
    assert failure == {
        "task_type": "heavy",
        "kind": "Nobodys",
        "id": "00000000-0000-0000-0000-00000000000c",
        "error": "KeyError: 7",
    }
    [registered] = found["pools"]
    assert registered.pop("started_at").endswith("+00:00")
    assert registered.pop("host")
    assert registered.pop("pid")
    assert registered == {
        "id": str(pool.id),
        "mode": "threaded",
        "task_types": ["served", "other"],
        "workers": 3,
        "stopping": False,
        "life": "alive",
    }
    assert found["unserved_types"] == [
        {"task_type": "heavy", "due": 2, "estimated": False, "at_least": False},
        {"task_type": "[bold]strange", "due": 1, "estimated": False, "at_least": False},
    ]
    assert found["unknown_kinds"] == [
        {"task_type": "heavy", "kind": "Nobodys", "due": 2, "estimated": False, "at_least": False},
        {"task_type": "[bold]strange", "kind": "[red]\x1b[31m", "due": 1, "estimated": False, "at_least": False},
    ]


def test_for_people(url: str, pool: WorkerPool) -> None:
    result = fang("status", FANG_DATABASE_URL=url)
    assert (result.returncode, result.stderr) == (0, "")
    assert str(pool.id) in result.stdout
    assert "served, other" in result.stdout
    assert re.search(r"│ 1 h +│", result.stdout)
    assert "KeyError: 7" in result.stdout
    assert "task types that no live pool serves\n" in result.stdout
    # What stands in a row is neither markup nor a terminal's command.
    assert "[bold]strange" in result.stdout
    assert "[red]" in result.stdout
    assert "\x1b" not in result.stdout


def test_empty_tables(url: str) -> None:
    result = fang("status", "--database-url", url)
    assert result.returncode == 0
    assert result.stdout == (
        "no tasks\nno tasks by kind\nno tasks in progress\n"
        "no runs that hang or report their progress\n"
        "in the last hour: 0 runs started, 0/min\nno kinds that took most of the workers' time\n"
        "no tasks that failed and run again\n"
        "no oldest due tasks\nno tasks that failed last\n"
        "no registered pools\nno task types that are paused or limited\n"
        "no schedules that are paused\nno task types that no live pool serves\n"
        "no kinds that no live pool of their task type knows\n"
        "no schedules of which no live pool makes ticks\n"
        "no tasks in progress that no pool holds\n"
    )


def test_runs_that_hang_come_first_and_then_those_that_tell_of_their_progress(url: str) -> None:
    def run(seconds: int, **told: Any) -> dict[str, Any]:
        since = datetime.now(UTC) - timedelta(seconds=seconds)
        return {"kind": "Import", "attempt": 1, "since": since.isoformat(), **told}

    progress = {"done": 2, "total": 4, "text": "[red]\x1b[31m half"}
    runs = {
        "a": run(900, progress=progress),
        "b": run(60, hung="/app/tasks.py:7", progress=progress),
        "c": run(120, hung=None),
        "of a later version": {"state": "dances"},
        "of another one": 7,
    }
    with WorkerPool(Queue(url), warn_after=None) as pool, psycopg.connect(url) as connection:
        eventually(lambda: connection.execute("SELECT beats FROM fang.fang_pools WHERE beats > 0").fetchone())
        connection.execute("UPDATE fang.fang_pools SET runs = %s", [json.dumps(runs)])
        connection.commit()
        shown = fang("status", "--database-url", url).stdout
        found = json.loads(fang("status", "--json", "--database-url", url).stdout)["runs"]
        assert [(each["id"], each["hung"], each["place"]) for each in found] == [
            ("c", True, None),
            ("b", True, "/app/tasks.py:7"),
            ("a", False, None),
        ]
        assert found[2]["progress"] == progress
        assert 900 <= found[2].pop("seconds") < 1_000
        assert (found[2]["pool_id"], found[2]["pool"], found[2]["attempt"]) == (str(pool.id), "alive", 1)
        assert "/app/tasks.py:7" in shown
        assert "2 of 4 [red]" in shown
        assert "\x1b" not in shown


def test_tasks_that_no_pool_holds(url: str) -> None:
    """Another program claimed them, or a hand did: nobody can tell whether they run."""
    with psycopg.connect(url) as connection:
        connection.execute(INSERT)
        connection.execute("UPDATE fang.fang_tasks SET state = 'in_progress' WHERE state IN ('new', 'retried')")
        connection.execute("UPDATE fang.fang_tasks SET pool_id = gen_random_uuid() WHERE task_type != 'heavy'")
    result = fang("status", "--json", "--database-url", url)
    assert json.loads(result.stdout)["unheld"] == [{"task_type": "heavy", "kind": "Nobodys", "count": 2}]
    assert "tasks in progress that no pool holds\n" in fang("status", FANG_DATABASE_URL=url).stdout


LEFT_BEHIND = """
    INSERT INTO fang.fang_pools (id, mode, host, pid, task_types, kinds, workers, lease, locks)
    VALUES ('00000000-0000-0000-0000-0000000000aa', 'threaded', 'here', 7, '{heavy}', '{Nobodys}', 1, '10 ms', true)
"""


def test_a_pool_that_was_killed_serves_nothing_and_is_shown_as_dead(url: str) -> None:
    """Nobody else is there to take its tasks back, nor its record."""
    with psycopg.connect(url) as connection:
        connection.execute(LEFT_BEHIND)
        connection.execute(INSERT)
        connection.execute(
            "UPDATE fang.fang_tasks SET state = 'in_progress', claimed_at = now() - interval '1 hour',"
            " pool_id = '00000000-0000-0000-0000-0000000000aa' WHERE state = 'retried'"
        )
    found = json.loads(fang("status", "--json", "--database-url", url).stdout)
    assert [pool["life"] for pool in found["pools"]] == ["dead"]
    assert {"task_type": "heavy", "due": 1, "estimated": False, "at_least": False} in found["unserved_types"]
    [running] = found["running"]
    assert (running["kind"], running["count"], running["pool"]) == ("Nobodys", 1, "dead")
    assert 3600 <= running["seconds"] < 3700


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[glance.Look]:
    """What each look at the pools has brought. More than one means that status has waited for a beat.

    On a loaded machine a beat may come late, so all bounds are long.
    """
    monkeypatch.setattr(glance, "ACTIVE_WITHIN", 20.0)
    monkeypatch.setattr(glance, "LONGEST", 20.0)
    seen: list[glance.Look] = []
    look = glance.Glance.look

    def watched(self: glance.Glance, found: glance.Look, now: float) -> None:
        seen.append(found)
        look(self, found, now)

    monkeypatch.setattr(glance.Glance, "look", watched)
    return seen


LOCKED = "SELECT FROM fang.fang_pools WHERE locks"


def test_a_pool_that_beats_is_alive_at_once(
    harness: Harness, url: str, database: Database, looks: list[glance.Look]
) -> None:
    pool = harness.pool(harness.queue(url))
    eventually(lambda: database.rows(LOCKED))
    assert read_status(url, "fang").lives == {pool.id: Life.ALIVE}
    assert len(looks) == 1


@pytest.mark.parametrize("option", ["listen", "behind_pooler"])
def test_a_pool_that_holds_no_lock_is_watched(
    harness: Harness, url: str, looks: list[glance.Look], option: str
) -> None:
    options = {"listen": False} if option == "listen" else {}
    pool = harness.pool(harness.queue(url, behind_pooler=option == "behind_pooler"), **options)
    assert read_status(url, "fang").lives == {pool.id: Life.ALIVE}
    assert len(looks) > 1


PROGRAM = {
    "threaded": """
import sys, time
from datetime import timedelta
from fang_threaded import Queue, WorkerPool

WorkerPool(Queue(sys.argv[1]), lease=timedelta(seconds=3)).start()
time.sleep(60)
""",
    "async": """
import asyncio, sys
from datetime import timedelta
from fang_async import AsyncQueue, AsyncWorkerPool

async def main():
    await AsyncWorkerPool(AsyncQueue(sys.argv[1]), lease=timedelta(seconds=3)).start()
    await asyncio.sleep(60)

asyncio.run(main())
""",
}


@pytest.mark.parametrize("mode", PROGRAM)
def test_a_pool_is_silent_when_it_is_stopped_and_dead_when_it_is_killed(
    mode: str, url: str, database: Database, looks: list[glance.Look], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Forked("-c", PROGRAM[mode], url, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        eventually(lambda: database.rows(LOCKED))
        assert list(read_status(url, "fang").lives.values()) == [Life.ALIVE]
        assert len(looks) == 1

        # The same rules with short times, so that the test need not wait.
        monkeypatch.setattr(glance, "ACTIVE_WITHIN", 0.2)
        monkeypatch.setattr(liveness, "LOCK_FREE_FOR", 0.2)
        monkeypatch.setattr(glance, "LONGEST", 0.5)
        monkeypatch.setattr("fang_core.monitoring.silence.SILENT_AFTER", timedelta(seconds=0.2))
        process.send_signal(signal.SIGSTOP)
        reports = Reports("fang")
        eventually(lambda: min(run_on(database.connection, reports.look()).quiet.values()) > 0.2)
        assert list(read_status(url, "fang").lives.values()) == [Life.SILENT]
        assert len(looks) > 2

        process.kill()
        # A free lock proves nothing until the server has been up for a lease.
        eventually(lambda: list(read_status(url, "fang").lives.values()) == [Life.DEAD])
    finally:
        process.close()


def test_what_is_locked_is_left_out_and_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a migration, or if the database is too slow: status answers all the same."""
    patience = partial(Patience, milliseconds=250)
    monkeypatch.setattr("fang_cli.watching.reading.Patience", patience)
    with psycopg.connect(url) as connection:
        connection.execute(LEFT_BEHIND)
        connection.commit()
        connection.execute("LOCK fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
        status = read_status(url, "fang")
    assert list(status.counts) == []
    assert {"pages", "oldest_due", "last_failures", "running"} <= set(status.unread)
    assert json.loads(as_json(status))["unread"] == status.unread


SLOW_TO_IMPORT = {
    *("alembic", "asyncpg", "pydantic", "pydantic_core", "sqlalchemy", "fang_async"),
    *("fang_core.tasks.runnable", "fang_postgres.schema", "fang_postgres.sql", "fang_threaded.database"),
}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_nothing_is_imported_that_only_tasks_and_writes_need(url: str, form: list[str]) -> None:
    """Most of the time that the command took on a large table went into these."""
    code = (
        "import sys\nfrom fang_cli.__main__ import main\n"
        f"sys.argv = {['fang', 'status', '--database-url', url, *form]!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\nimported', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert "fang_postgres.reports.reports" in imported
    assert imported & SLOW_TO_IMPORT == set()


def test_another_schema_that_is_missing(url: str) -> None:
    result = fang("status", "--schema", "other", "--database-url", url)
    assert result.returncode == 78
    assert result.stderr == "fang: table other.fang_tasks is missing: run `fang migrate --schema other`\n"


def test_tables_of_an_older_version(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE fang.fang_alembic_version SET version_num = '0000'")
    result = fang("status", "--database-url", url)
    assert result.returncode == 78
    assert "at revision 0000" in result.stderr


def test_a_database_that_is_down() -> None:
    result = fang("status", "--database-url", f"postgresql://someone:{PASSWORD}@127.0.0.1:1/nowhere")
    assert result.returncode == 69
    assert result.stderr.startswith("fang: the database does not answer")
    assert PASSWORD not in result.stderr
