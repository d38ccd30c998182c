"""Faults inside the database: migrations, and what is changed by hand (F29)."""

import time
from contextlib import suppress
from typing import Final

from fang_core.errors import RowsLocked
from fang_postgres import migrate
from tests.faults.kinds.database.shared import hold, until_said
from tests.faults.registry import BOUND, SHORT, fault
from tests.faults.trial import Trial


@fault("F29 migrations", "fang migrate repeatedly, one revision back and forth, while pools work", also=("I8",))
def migrate_while_working(trial: Trial) -> None:
    workers = trial.start(2)
    inserted = len(trial.insert(100, seconds=0.01))
    for _ in range(5):
        migrate.upgrade(trial.url)
        inserted += len(trial.insert(20, seconds=0.01))
    _downgrade(trial, "0001")
    until_said(trial, "run `fang migrate`")  # who are of this version
    migrate.upgrade(trial.url)
    upgraded = time.monotonic()
    after = trial.insert(20, seconds=0.01)
    trial.expect(after, upgraded, BOUND)
    trial.settle()
    assert trial.starts() == inserted + len(after), "a task ran again"
    assert all(worker.exit_code is None for worker in workers)


def _downgrade(trial: Trial, revision: str) -> None:
    """It needs all tables to itself, and pools lock some in another order: a deadlock is said, and it is tried anew."""
    for _ in range(10):
        with suppress(RowsLocked):
            migrate.downgrade(trial.url, revision=revision)
            return
    raise AssertionError("ten downgrades met a deadlock")


def some(limit: int, *states: str) -> str:
    """So many random rows in one of these states, as the end of a statement."""
    names = ", ".join(f"'{state}'" for state in states)
    return f"WHERE id IN (SELECT id FROM fang.fang_tasks WHERE state IN ({names}) ORDER BY random() LIMIT {limit})"


_FREED: Final = "pool_id = NULL, claimed_at = NULL, updated_at = now()"
EDITS: Final = (
    f"UPDATE fang.fang_tasks SET state = 'new', {_FREED} {some(3, 'in_progress')}",
    f"UPDATE fang.fang_tasks SET state = 'retried', scheduled_at = now() + '1 s', {_FREED} {some(3, 'in_progress')}",
    f"UPDATE fang.fang_tasks SET state = 'finished', {_FREED} {some(1, 'in_progress')}",
    f"UPDATE fang.fang_tasks SET state = 'cancelled', {_FREED} {some(1, 'new')}",
    f"UPDATE fang.fang_tasks SET state = 'in_progress', attempt = attempt + 5 {some(1, 'in_progress')}",
    f"UPDATE fang.fang_tasks SET scheduled_at = '0001-01-03 00:00:00+00' {some(3, 'new', 'retried')}",
    f"UPDATE fang.fang_tasks SET scheduled_at = now() - interval '1 hour', priority = 2 {some(3, 'new', 'retried')}",
    f"UPDATE fang.fang_tasks SET scheduled_at = now() + interval '1 s', priority = -2 {some(3, 'new', 'retried')}",
    f"UPDATE fang.fang_tasks SET retries = 7, crashes = 1 {some(3, 'new', 'retried', 'in_progress')}",
    f"DELETE FROM fang.fang_tasks {some(1, 'new', 'retried')}",
    f"DELETE FROM fang.fang_tasks {some(1, 'in_progress')}",
)


@fault("F29 edits", "rows changed and removed by hand while working", also=("I8", "I10"), given=SHORT)
def edit_by_hand(trial: Trial) -> None:
    workers = trial.start()
    for _ in range(60):
        trial.insert(5, seconds=0.05)
        for edit in trial.chance.sample(EDITS, 2):
            trial.database.execute(edit.encode())
    trial.insert(20, seconds=0.05)
    trial.settle(within=60)
    for worker in workers:
        trial.until(lambda worker=worker: "no longer holds it" in worker.said())
        trial.assert_slots(worker)


_TRUNCATED: Final = """
    CREATE FUNCTION audit.of_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit.tasks (task_id, was, became, attempt, pool_id, retries, crashes, max_retries, kind, due)
        SELECT id, state, NULL, attempt, pool_id, retries, crashes, coalesce(max_retries, 20), kind, scheduled_at
        FROM fang.fang_tasks;
        RETURN NULL;
    END $$;
    CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON fang.fang_tasks EXECUTE FUNCTION audit.of_truncate();
"""


@fault("F29 TRUNCATE", "the table of tasks emptied while working", quick=True, also=("I8", "I10"))
def truncate(trial: Trial) -> None:
    trial.database.execute(_TRUNCATED.encode())
    workers = trial.start()
    for number in range(3):
        hold(trial, f"gate-{number}")
        trial.insert(50)
        trial.database.execute(b"TRUNCATE fang.fang_tasks")
        trial.open_gate(f"gate-{number}")
        after = time.monotonic()
        trial.expect(trial.insert(20), after, BOUND)
        trial.settle()
    for worker in workers:
        trial.until(lambda worker=worker: "no longer holds it" in worker.said())
        trial.assert_slots(worker)
