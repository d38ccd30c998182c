"""Faults inside the database: locks and DDL (F28)."""

import time
from collections.abc import Sequence
from typing import Final

import psycopg

from tests.faults.kinds.database.room import TABLES
from tests.faults.kinds.database.shared import hold, until_said
from tests.faults.registry import BOUND, SHORT, SHORT_LEASE, fault
from tests.faults.trial import MODES, Trial


def _lock(trial: Trial, *tables: str) -> None:
    """For longer than a statement waits for a lock, in which the runs that are held end."""
    workers = trial.start(2)
    held = hold(trial)
    with trial.database.transaction():
        _lock_now(trial, tables)
        trial.open_gate()
        until_said(trial, "event: backend_failed")
        time.sleep(SHORT_LEASE)
    freed = time.monotonic()
    trial.expect(trial.insert(len(workers)), freed, BOUND)
    trial.settle()
    assert trial.starts() == len(held) + len(workers), "a task ran again"
    for worker in workers[len(MODES[trial.mix]) :]:
        worker.kill()
    for worker in workers[: len(MODES[trial.mix])]:
        trial.assert_slots(worker)


def _lock_now(trial: Trial, tables: Sequence[str]) -> None:
    """Takes one lock after the other, as a migration does; and again, where a statement of a pool had taken two of them
    the other way round, and the server chose this session to end the deadlock."""
    while True:
        try:
            with trial.database.transaction():
                for table in tables:
                    trial.database.execute(f"LOCK TABLE fang.{table} IN ACCESS EXCLUSIVE MODE".encode())
        except psycopg.errors.DeadlockDetected:
            continue
        return


@fault(
    "F28 tasks", "the table of tasks locked, past the lease and the wait for a lock", also=("I8", "I10"), given=SHORT
)
def tasks_locked(trial: Trial) -> None:
    _lock(trial, "fang_tasks")


@fault("F28 pools", "the table of pools locked, past the lease", also=("I8", "I10"), given=SHORT)
def pools_locked(trial: Trial) -> None:
    """No heart beats: and nobody is taken for dead for it."""
    _lock(trial, "fang_pools")


@fault("F28 all", "all tables locked, past the lease", also=("I8", "I10"), given=SHORT)
def all_locked(trial: Trial) -> None:
    _lock(trial, *TABLES)


DDL: Final = (
    "ALTER TABLE fang.fang_tasks ADD COLUMN extra int DEFAULT 7",
    "VACUUM FULL fang.fang_tasks",
    "CREATE INDEX extra ON fang.fang_tasks (extra)",
    "REINDEX TABLE fang.fang_tasks",
    "REINDEX TABLE CONCURRENTLY fang.fang_tasks",
    "CLUSTER fang.fang_tasks USING fang_tasks_pkey",
    "ALTER TABLE fang.fang_tasks ALTER COLUMN retries TYPE bigint, ALTER COLUMN crashes TYPE int",
    "ALTER TABLE fang.fang_tasks ALTER COLUMN retries TYPE int, ALTER COLUMN crashes TYPE smallint",
    "ALTER TABLE fang.fang_tasks DROP COLUMN extra",
    "VACUUM FULL fang.fang_pools",
    "DISCARD ALL",
    "ANALYZE",
)


@fault("F28 DDL", "VACUUM FULL, ALTER TABLE, CREATE INDEX, REINDEX, CLUSTER while working", quick=True, also=("I8",))
def change_tables(trial: Trial) -> None:
    workers = trial.start(2)
    inserted = 0
    for statement in DDL:
        inserted += len(trial.insert(40, seconds=0.005))
        trial.database.execute(statement.encode())
        inserted += len(trial.insert(len(workers)))
    trial.settle()
    assert trial.starts() == inserted, "a task ran again"
    assert all(worker.exit_code is None for worker in workers)
