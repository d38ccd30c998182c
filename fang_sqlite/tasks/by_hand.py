"""Finds, fetches, moves, changes, cancels and removes one task, for people and applications."""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from fang_core.backends.pools import manual_pool
from fang_core.backends.rows import after_cancel, after_change, after_edit, can_be_cancelled
from fang_core.backends.verbs import Fetched
from fang_core.errors import StaleTask, TwinExists
from fang_core.lifecycle import DUE_STATES, Change, cancelled_by_hand
from fang_core.record import Task, TaskState
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.editing import Edit, edit_meets_twin
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.pools import registering
from fang_sqlite.schema import DUE
from fang_sqlite.tasks import flow, inserting, lanes, uniques


def find(tx: Transaction, task_id: UUID) -> Task | None:
    """Returns a task, with the progress that its pool has reported."""
    task = rows.find(tx, task_id)
    return None if task is None else task._replace(progress=registering.progress_of(tx, task))


def fetch(tx: Transaction, task_type: str, pool_id: UUID) -> Fetched:
    """Claims the first task of a type that may start, of any kind, for a queue; cancels those that are to be.

    It registers the queue's pool, unless that is done.
    """
    registering.register(tx, manual_pool(pool_id))
    while (task := _fetched(tx, task_type, pool_id)) is not None:
        cancelled = cancelled_by_hand(task)
        if cancelled is None:
            break
        change(tx, cancelled)
    return Fetched(task)


FIRST_OF_TYPE: Final = f"""WHERE rowid = (SELECT rowid FROM fang_tasks INDEXED BY fang_tasks_due
  WHERE {DUE} AND task_type = ? AND priority IN (-2, -1, 0, 1, 2) AND scheduled_at <= ?
  ORDER BY priority, scheduled_at, id LIMIT 1)"""


def _fetched(tx: Transaction, task_type: str, pool_id: UUID) -> Task | None:
    if flow.managed_types(tx, [task_type]):
        return lanes.fetch(tx, task_type, pool_id)
    for task in rows.select(tx, FIRST_OF_TYPE, (task_type, tx.micros)):
        taken = task._replace(
            state=TaskState.IN_PROGRESS,
            attempt=task.attempt + 1,
            pool_id=pool_id,
            claimed_at=tx.now,
            updated_at=tx.now,
        )
        rows.write(tx, [taken])
        return taken
    return None


def change(tx: Transaction, change: Change) -> Task:
    """Moves a task. Raises ``StaleTask`` or ``TwinExists``."""
    task = _unchanged(tx, change.task)
    if change.revives and uniques.has_twin(tx, task):
        raise TwinExists(f"task {task.id} cannot be revived: an equal unique task is waiting or running")
    (changed,) = flow.in_lanes(tx, [after_change(task, change, rows.later(tx, task))])
    rows.write(tx, [changed])
    inserting.wake(tx, [changed] if change.state in DUE_STATES else [])
    _tell_of_slots(tx, [task])
    return changed


def edit(tx: Transaction, edit: Edit) -> Task:
    """Changes payload and options of a waiting task. Raises ``StaleTask`` or ``TwinExists``."""
    task = _unchanged(tx, edit.task)
    if uniques.edited(tx, task, edit.compared):
        raise edit_meets_twin(task.id)
    (changed,) = flow.in_lanes(tx, [after_edit(task, edit, rows.later(tx, task))])
    rows.write(tx, [changed])
    inserting.wake(tx, [changed])
    return changed


def cancel(tx: Transaction, task_id: UUID, wanted: Cancellation) -> Task | None:
    """Cancels a task that waits, or asks the pool of one that runs; returns the row, changed or not."""
    task = find(tx, task_id)
    if task is None or not can_be_cancelled(task):
        return task
    return _cancelled(tx, task, wanted)


def remove(tx: Transaction, task_id: UUID) -> int:
    """Removes a task, and ends its period, even that of one that is gone already; returns how many tasks."""
    removed = _removed(tx, [task_id])
    uniques.forget(tx, [task_id])
    return removed


def remove_twin(tx: Transaction, compared: str) -> int:
    """Removes the unique task with this hash that has not ended, and ends its period; returns how many tasks."""
    removed = _removed(tx, uniques.compared_by(tx, compared))
    uniques.end_period(tx, compared)
    return removed


def _unchanged(tx: Transaction, read: Task) -> Task:
    """Returns the row of a task that was read. Raises ``StaleTask``."""
    task = rows.find(tx, read.id)
    if task is None or (task.state, task.attempt, task.updated_at) != (read.state, read.attempt, read.updated_at):
        raise StaleTask(f"task {read.id} has changed since it was read: read it again")
    return task


def _cancelled(tx: Transaction, task: Task, wanted: Cancellation) -> Task:
    cancelled = after_cancel(task, wanted, rows.later(tx, task))
    rows.write(tx, [cancelled])
    if cancelled.pool_id is not None:
        tx.tell([cancelled.pool_id])
    return cancelled


def _removed(tx: Transaction, ids: Sequence[UUID]) -> int:
    _tell_of_slots(tx, filter(None, [rows.find(tx, task_id) for task_id in ids]))
    return rows.delete(tx, ids)


def _tell_of_slots(tx: Transaction, tasks: Iterable[Task]) -> None:
    """Makes pools look for tasks of the types of these tasks, if they ran, and limits counted them."""
    tx.tell_types(task.task_type for task in tasks if task.state is TaskState.IN_PROGRESS and task.lane is not None)
