"""Inserts tasks: plain ones all at once, and those that may meet an equal or earlier one each by itself."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic_core import from_json

from fang_core.backends.conflicts import after_conflict
from fang_core.claims.idle import TOLD_AHEAD
from fang_core.errors import IdInUse
from fang_core.record import Task
from fang_core.tasks.insertion import Bulk, NewTask, Overrides, refuse_equal, twin_of
from fang_core.tasks.options import COLUMNS as OPTIONS
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import as_json, micros, micros_or_none, span
from fang_sqlite.tasks import flow, uniques

_OWN: Final = (
    *("id", "metadata", "kind", "uniq_hash", "uniq_waiting", "scheduled_at", "created_at", "updated_at"),
    *("expires_at", "lane"),
)
_NAMES: Final = (*_OWN, *OPTIONS)
_INSERT: Final = f"INSERT INTO fang_tasks ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})"
_CHANGING: Final = frozenset({"replace", "postpone"})


def insert(tx: Transaction, row: NewTask, overrides: Overrides) -> Task:
    """Inserts a row, due as the overrides say; returns its task, or with ``conflict`` the one that is there.

    Raises ``IdInUse`` or ``TwinExists``.
    """
    return _insert_all(tx, [row], overrides, plain=overrides.id is None and _is_plain(row))[0]


def insert_many(tx: Transaction, bulk: Bulk, overrides: Overrides) -> list[Task]:
    """Inserts many rows, all or none; returns their tasks in the order given. Raises what ``insert`` raises."""
    return _insert_all(tx, bulk.rows, overrides, plain=not bulk.is_unique)


def insert_row(tx: Transaction, row: NewTask, due: datetime, *, is_due_given: bool = True) -> Task:
    """Inserts one row, whose id may be in use; wakes no pool. Returns what ``insert`` returns. Raises ``IdInUse``."""
    twin = None if _is_plain(row) else uniques.twin(tx, row)
    existing = rows.find(tx, row.id)
    if existing is not None and not (twin is not None and twin.id == existing.id and row.on_conflict == "replace"):
        if existing.metadata != from_json(row.metadata):
            raise IdInUse(f"another task has the id {row.id}")
        return existing._replace(conflict=True)
    if twin is None:
        (task,) = flow.in_lanes(tx, [row.inserted(due, tx.now)])
        _write(tx, [row], [task])
        uniques.begin_period(tx, row)
        return task
    task = after_conflict(twin, row, due, tx.now, is_due_given=is_due_given)
    if task is not twin:
        (task,) = flow.in_lanes(tx, [task])
        rows.write(tx, [task])
    return task._replace(conflict=True)


def wake(tx: Transaction, tasks: Iterable[Task]) -> None:
    """Wakes the pools that wait for these tasks, if they are due soon: pools look again before the rest are."""
    soon = tx.now + timedelta(seconds=TOLD_AHEAD)
    tx.wake(task.task_type for task in tasks if task.scheduled_at <= soon)


def _is_plain(row: NewTask) -> bool:
    """Returns whether no equal task can keep the row out."""
    return row.uniq_hash is None and row.terms is None


def _insert_all(tx: Transaction, new: Sequence[NewTask], overrides: Overrides, *, plain: bool) -> list[Task]:
    due = overrides.scheduled_at or tx.now + (overrides.delay or timedelta(0))
    if plain:
        tasks = flow.in_lanes(tx, [row.inserted(due, tx.now) for row in new])
        _write(tx, new, tasks)
        wake(tx, tasks)
        return tasks
    _raise_if_told(tx, new)
    tasks = [insert_row(tx, row, due, is_due_given=overrides.gives_due_time) for row in new]
    if any(row.on_conflict in _CHANGING for row in new):
        # A task that was inserted may have been replaced by an equal one of the same call.
        tasks = [(rows.find(tx, task.id) or task)._replace(conflict=task.conflict) for task in tasks]
    wake(tx, [task for row, task in zip(new, tasks, strict=True) if not task.conflict or row.on_conflict in _CHANGING])
    return tasks


def _raise_if_told(tx: Transaction, new: Iterable[NewTask]) -> None:
    """Raises ``TwinExists`` if one of the rows meets an equal task, and is to raise then."""
    for row in new:
        if row.on_conflict == "raise" and rows.find(tx, row.id) is None:
            twin = uniques.twin(tx, row)
            if twin is not None:
                raise twin_of(twin)
    refuse_equal(new)


def _write(tx: Transaction, new: Sequence[NewTask], tasks: Sequence[Task]) -> None:
    now = tx.micros
    options: dict[int, tuple[Any, ...]] = {}  # rows of a class share their options
    for row in new:
        if id(row.options) not in options:
            options[id(row.options)] = tuple(map(_written, row.options))
    tx.run_many(
        _INSERT,
        (
            (
                row.id.bytes,
                row.metadata,
                row.kind,
                row.uniq_hash,
                None if row.terms is None else row.terms.waiting,
                micros(task.scheduled_at),
                now,
                now,
                micros_or_none(task.expires_at),
                task.lane,
                *options[id(row.options)],
            )
            for row, task in zip(new, tasks, strict=True)
        ),
    )


def _written(option: Any) -> Any:
    if isinstance(option, timedelta):
        return span(option)
    return as_json(option) if isinstance(option, dict) else option
