"""Reads and writes whole tasks, for those that move from one queue to another: ``fang_core.backends.moving``."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from fang_core.backends.conflicts import Period
from fang_core.backends.rows import is_as_read
from fang_core.backends.verbs import Parcel
from fang_core.record import Task
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import COLUMNS, moment, moment_or_none, row_of
from fang_sqlite.tasks import flow, inserting, uniques

_KEEPS_OUT: Final = """SELECT t.uniq_waiting, u.hash, u.inserted_at, u.until
  FROM fang_tasks t LEFT JOIN fang_uniques u ON u.task_id = t.id WHERE t.id = ?"""
_INSERT: Final = (
    f"INSERT INTO fang_tasks ({', '.join(COLUMNS)}, uniq_waiting) VALUES ({', '.join('?' for _ in COLUMNS)}, ?)"
)


def read(tx: Transaction, ids: Sequence[UUID]) -> list[Parcel]:
    """Returns those of these tasks that are there."""
    found = (rows.find(tx, task_id) for task_id in sorted(set(ids)))
    return [_parcel(tx, task) for task in found if task is not None]


def _parcel(tx: Transaction, task: Task) -> Parcel:
    waiting, period_hash, inserted_at, until = tx.row(_KEEPS_OUT, (task.id.bytes,))
    period = None if period_hash is None else Period(task.id, moment(inserted_at), moment_or_none(until))
    return Parcel(task, waiting, period_hash, period)


def exchange(tx: Transaction, pairs: Sequence[tuple[Task, Task]]) -> set[UUID]:
    """Writes the second task over each first one that is as it was read; returns the ids of those."""
    changed = []
    for before, after in pairs:
        task = rows.find(tx, before.id)
        if task is not None and is_as_read(before, task):
            changed.append(
                task._replace(
                    task_type=after.task_type,
                    scheduled_at=after.scheduled_at,
                    headers=after.headers,
                    updated_at=rows.later(tx, task),
                )
            )
    changed = flow.in_lanes(tx, changed)
    rows.write(tx, changed)
    inserting.wake(tx, changed)
    return {task.id for task in changed}


def put(tx: Transaction, parcels: Sequence[Parcel]) -> set[UUID]:
    """Inserts tasks that nothing keeps out; returns their ids."""
    written = []
    for task, waiting, period_hash, period in parcels:
        if rows.find(tx, task.id) is not None or uniques.keeps_out(tx, task, waiting, period_hash):
            continue
        (new,) = flow.in_lanes(tx, [task._replace(updated_at=tx.now)])
        tx.run(_INSERT, (*row_of(new), waiting))
        if period_hash is not None and period is not None:
            uniques.carry_period(tx, period_hash, period)
        written.append(new)
    inserting.wake(tx, written)
    return {task.id for task in written}
