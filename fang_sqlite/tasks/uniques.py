"""Finds which task keeps an equal one out: functions on one transaction, for inserts, revivals, edits and removals.

A transaction that writes has the file to itself, so that what it finds here holds until it is committed. The unique
indexes on ``uniq_hash`` and ``uniq_waiting`` say the same once more, for applications that write with their own SQL.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from fang_core.backends.conflicts import Period
from fang_core.record import Task
from fang_core.tasks.insertion import NewTask
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import micros, moment, moment_or_none
from fang_sqlite.schema import ENDED

_LIVE: Final = f"NOT ({ENDED})"
_BY_HASH: Final = f"uniq_hash IS NOT NULL AND uniq_hash = ? AND {_LIVE}"
_BY_WAITING: Final = f"uniq_waiting IS NOT NULL AND uniq_waiting = ? AND attempt = 0 AND {_LIVE}"


def twin(tx: Transaction, row: NewTask) -> Task | None:
    """Returns the task that keeps the row out. If only its period is left, it is a finished one like the row."""
    found = None if row.uniq_hash is None else _task(tx, _BY_HASH, row.uniq_hash)
    terms = row.terms
    if found is not None or terms is None:
        return found
    if terms.waiting is not None:
        found = _task(tx, _BY_WAITING, terms.waiting)
    if found is not None or terms.period is None:
        return found
    period = _period(tx, terms.period)
    if period is None or not period.lasts(tx.now):
        return None
    return rows.find(tx, period.task_id) or row.outlived(period.task_id, period.inserted_at)


def begin_period(tx: Transaction, row: NewTask) -> None:
    """Has a row that was just inserted keep equal ones out for its time, if it has one."""
    terms = row.terms
    if terms is None or terms.period is None:
        return
    until = None if terms.within is None else micros(tx.now + terms.within)
    tx.run(
        "INSERT OR REPLACE INTO fang_uniques (hash, task_id, inserted_at, until) VALUES (?, ?, ?, ?)",
        (terms.period, row.id.bytes, tx.micros, until),
    )


def keeps_out(tx: Transaction, task: Task, waiting: str | None, period: str | None) -> bool:
    """Returns whether a task that comes from another queue, with these hashes, has an equal one here."""
    if task.uniq_hash is not None and _has(tx, _BY_HASH, task.uniq_hash):
        return True
    if waiting is not None and task.attempt == 0 and _has(tx, _BY_WAITING, waiting):
        return True
    began = None if period is None else _period(tx, period)
    return began is not None and began.task_id != task.id and began.lasts(tx.now)


def carry_period(tx: Transaction, compared: str, period: Period) -> None:
    """Has a task that comes from another queue keep equal ones out for the rest of its time there."""
    until = None if period.until is None else micros(period.until)
    values = (compared, period.task_id.bytes, micros(period.inserted_at), until)
    tx.run("INSERT OR REPLACE INTO fang_uniques (hash, task_id, inserted_at, until) VALUES (?, ?, ?, ?)", values)


def has_twin(tx: Transaction, task: Task) -> bool:
    """Returns whether the task, which has ended, cannot be revived, since an equal one waits or runs."""
    if task.uniq_hash is not None and _has(tx, _BY_HASH, task.uniq_hash):
        return True
    if task.attempt:
        return False
    compared = _waiting_hash(tx, task.id)
    return compared is not None and _has(tx, _BY_WAITING, compared)


def edited(tx: Transaction, task: Task, compared: str) -> bool:
    """Compares a unique waiting task by this hash from now on; returns whether an equal one prevents that.

    The caller writes the ``uniq_hash``.
    """
    others = "id <> ?"
    if task.uniq_hash is not None and _has(tx, f"{_BY_HASH} AND {others}", compared, task.id.bytes):
        return True
    if task.attempt or _waiting_hash(tx, task.id) is None:
        return False
    if _has(tx, f"{_BY_WAITING} AND {others}", compared, task.id.bytes):
        return True
    tx.run("UPDATE fang_tasks SET uniq_waiting = ? WHERE id = ?", (compared, task.id.bytes))
    return False


def compared_by(tx: Transaction, compared: str) -> list[UUID]:
    """Returns the unique tasks with this hash that have not ended."""
    of_period = f"id = (SELECT task_id FROM fang_uniques WHERE hash = ?) AND {_LIVE}"
    ids: set[bytes] = set()
    for where in (_BY_HASH, _BY_WAITING, of_period):
        ids.update(task_id for (task_id,) in tx.rows(f"SELECT id FROM fang_tasks WHERE {where}", (compared,)))
    return [UUID(bytes=each) for each in ids]


def end_period(tx: Transaction, compared: str) -> None:
    """Lets equal tasks in again."""
    tx.run("DELETE FROM fang_uniques WHERE hash = ?", (compared,))


def forget(tx: Transaction, task_ids: Iterable[UUID]) -> None:
    """Ends the periods of tasks that were removed by hand."""
    tx.run_many("DELETE FROM fang_uniques WHERE task_id = ?", [(each.bytes,) for each in task_ids])


def prune(tx: Transaction, limit: int) -> int:
    """Deletes periods that are over, at most this many; returns how many."""
    return tx.run(
        """DELETE FROM fang_uniques WHERE hash IN (
  SELECT hash FROM fang_uniques WHERE until IS NOT NULL AND until <= ? LIMIT ?)""",
        (tx.micros, limit),
    )


def _task(tx: Transaction, where: str, compared: str) -> Task | None:
    return next(iter(rows.select(tx, f"WHERE {where}", (compared,))), None)


def _has(tx: Transaction, where: str, *values: str | bytes) -> bool:
    return tx.row(f"SELECT 1 FROM fang_tasks WHERE {where}", values) is not None


def _waiting_hash(tx: Transaction, task_id: UUID) -> str | None:
    """Returns the hash by which the task keeps equal ones out until it is claimed; None if it does not."""
    row = tx.row("SELECT uniq_waiting FROM fang_tasks WHERE id = ?", (task_id.bytes,))
    return None if row is None else row[0]


def _period(tx: Transaction, compared: str) -> Period | None:
    row = tx.row("SELECT task_id, inserted_at, until FROM fang_uniques WHERE hash = ?", (compared,))
    if row is None:
        return None
    task_id, inserted_at, until = row
    return Period(UUID(bytes=task_id), moment(inserted_at), moment_or_none(until))
