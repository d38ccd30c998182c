"""A migration that waits for a lock says for whose, and goes on once it has it."""

import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from fang_postgres import lock_waits, migrate
from fang_postgres.lock_waits import Blocker
from fang_postgres.names import HEAD
from tests.modes import eventually

DEADLINE = 30.0
HOLDS = "LOCK TABLE fang.fang_tasks IN ROW EXCLUSIVE MODE"  # an application's insert, say
BEFORE_HEAD = f"{int(HEAD) - 1:04}"


def test_it_says_who_holds_the_lock_and_waits_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock_waits, "TOLD_AFTER", 0.05)
    migrate.upgrade(database_url)
    with psycopg.connect(database_url, application_name="reports") as holder, ThreadPoolExecutor(1) as threads:
        holder.execute(HOLDS)
        pid = holder.info.backend_pid
        downgrade = threads.submit(migrate.downgrade, database_url, revision=BEFORE_HEAD)
        try:
            eventually(lambda: f"pid {pid} ('reports' of " in caplog.text)
            assert not downgrade.done()
        finally:
            holder.rollback()
        downgrade.result(DEADLINE)
    (line,) = [record for record in caplog.records if record.name == "fang_postgres"]
    assert line.levelno == logging.WARNING
    assert "idle in transaction for " in line.getMessage()
    assert "\n" not in line.getMessage()
    assert f"pg_terminate_backend({pid})" in line.getMessage()
    assert migrate.current(database_url) == BEFORE_HEAD


def test_a_migration_that_waits_for_nobody_says_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock_waits, "TOLD_AFTER", 0.0)  # it looks all the time
    migrate.upgrade(database_url)
    assert [record for record in caplog.records if record.name == "fang_postgres"] == []


def test_the_command_says_it_on_stderr_and_ctrl_c_leaves_no_lock_behind(database_url: str) -> None:
    migrate.upgrade(database_url, revision=BEFORE_HEAD)
    with psycopg.connect(database_url, application_name="reports") as holder:
        holder.execute(HOLDS)
        command = [sys.executable, "-m", "fang_cli", "migrate", "--database-url", database_url]
        waits = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        try:
            assert waits.stderr is not None
            said = waits.stderr.readline()
            waits.send_signal(signal.SIGINT)
            waits.communicate(timeout=DEADLINE)
        finally:
            waits.kill()
        assert f"pid {holder.info.backend_pid} ('reports' of " in said
        assert waits.returncode == 130
        queued = "SELECT count(*) FROM pg_locks WHERE relation = 'fang.fang_tasks'::regclass AND NOT granted"
        with psycopg.connect(database_url, autocommit=True) as watcher:
            eventually(lambda: watcher.execute(queued).fetchone() == (0,))
    assert migrate.current(database_url) == BEFORE_HEAD


@pytest.mark.parametrize(
    ("blocker", "told"),
    [
        (
            Blocker(7, "reports", "app", "idle in transaction", 750.0),
            "pid 7 ('reports' of app, idle in transaction for 12 min 30 s)",
        ),
        (Blocker(7, "", "app", None, None), "pid 7 (of app)"),
        (
            Blocker(7, "a\nb\x1b[1m", "app", "active", 2.0),
            "pid 7 ('a b\N{REPLACEMENT CHARACTER}[1m' of app, active for 2 s)",
        ),
        (Blocker(7, None, None, None, None), "pid 7"),
        (Blocker(0, None, None, None, None), "a prepared transaction (see pg_prepared_xacts)"),
    ],
)
def test_what_is_hidden_or_strange_is_told_too(blocker: Blocker, told: str) -> None:
    assert str(blocker) == told


def test_of_many_sessions_the_first_are_named_and_the_rest_counted() -> None:
    blockers = [Blocker(number, None, None, None, None) for number in range(1, 8)]
    told = lock_waits._warning(blockers)
    assert "before it: pid 1, pid 2, pid 3, pid 4, pid 5 and 2 more; SELECT pg_terminate_backend(1) ends" in told
