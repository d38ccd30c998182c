"""Writes the outcomes of runs, each under its fence: the same pool still holds the task, under the same attempt."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from fang_core.backends.rows import after_outcome, gives_back
from fang_core.config import RetentionMode
from fang_core.errors import TaskLost
from fang_core.lifecycle import Outcome
from fang_core.record import Task
from fang_core.runs.run import Run
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Transaction

FENCE: Final = "id = ? AND attempt = ? AND pool_id = ? AND state = 'in_progress'"

REMOVE: Final = f"DELETE FROM fang_tasks WHERE {FENCE}"

FINISH: Final = f"""UPDATE fang_tasks SET state = 'finished', pool_id = NULL, claimed_at = NULL, updated_at = ?
  WHERE {FENCE}"""


def complete(tx: Transaction, pool_id: UUID, outcomes: Sequence[Outcome]) -> set[UUID]:
    """Writes the outcomes that pass the fence, and returns their ids."""
    removals = [outcome for outcome in outcomes if outcome.state is None]
    others = [outcome for outcome in outcomes if outcome.state is not None]
    return _remove(tx, pool_id, removals) | _write(tx, pool_id, others)


def _remove(tx: Transaction, pool_id: UUID, outcomes: Sequence[Outcome]) -> set[UUID]:
    """Removes rows all at once, and only if one was not held any more, one after the other, to learn which."""
    if not outcomes:
        return set()
    values = [(outcome.id.bytes, outcome.attempt, pool_id.bytes) for outcome in outcomes]
    tx.run("SAVEPOINT fang_removal")
    if tx.run_many(REMOVE, values) < len(values):
        tx.run("ROLLBACK TO fang_removal")
        written = {outcome.id for outcome, each in zip(outcomes, values, strict=True) if tx.run(REMOVE, each)}
    else:
        written = {outcome.id for outcome in outcomes}
    tx.run("RELEASE fang_removal")
    return written


def _write(tx: Transaction, pool_id: UUID, outcomes: Sequence[Outcome]) -> set[UUID]:
    found = {outcome.id: task for outcome in outcomes if (task := _held(tx, pool_id, outcome)) is not None}
    written = [outcome for outcome in outcomes if outcome.id in found]
    after = [after_outcome(found[each.id], each, each.state, tx.now) for each in written if each.state]
    rows.write_states(tx, after)
    tx.wake(found[outcome.id].task_type for outcome in written if gives_back(outcome, found))
    return set(found)


def _held(tx: Transaction, pool_id: UUID, outcome: Outcome) -> Task | None:
    held = rows.states(tx, f"WHERE {FENCE}", (outcome.id.bytes, outcome.attempt, pool_id.bytes))
    return next(iter(held), None)


def complete_run(tx: Transaction, run: Run) -> None:
    """Completes the task of a run in a transaction of its own. Raises ``TaskLost``, and rolls that back."""
    fence = (run.task.id.bytes, run.task.attempt, run.pool_id.bytes)
    if run.retention_mode is RetentionMode.KEEP_ALL:
        count = tx.run(FINISH, (tx.micros, *fence))
    else:
        count = tx.run(REMOVE, fence)
    if not count:
        raise TaskLost(f"the run no longer holds task {run.task.id}")
    run.completed = True
