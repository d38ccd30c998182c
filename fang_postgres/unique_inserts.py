"""Writes the script that inserts unique tasks on terms of their own: those with a period, those that are unique until
they are claimed, and those whose insert raises, replaces or postpones. Pure, like ``fang_postgres.scripts``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from pydantic_core import from_json

from fang_core.errors import BackendError, IdInUse, TwinExists
from fang_core.lifecycle import DUE_STATES
from fang_core.record import Task
from fang_core.tasks.insertion import NewTask, Overrides, in_chunks, refuse_equal, twin_of
from fang_postgres.operations import Operations
from fang_postgres.operations.inserts import left_out
from fang_postgres.operations.uniques import KeepingOut
from fang_postgres.statement import Script

TRIES: Final = 20  # of an insert whose twin is there when it inserts, and gone when it looks
_MOST_CHANGED: Final = 1_000  # rows look their values up in lists, which takes longer the longer these are


def insert_on_terms(
    operations: Operations, rows: Sequence[NewTask], overrides: Overrides, *, is_callers: bool, notify: bool
) -> Script[list[Task]]:
    """Inserts rows, or does as they say to the tasks that keep them out; returns tasks in the order given.

    The indexes decide: who loses a race is not inserted, reads what kept it out with a second statement, and tries
    again if that is gone. All of it is done in the order of hashes or ids, periods before tasks, so that two bulks wait
    for each other in one direction only.

    Run it in one transaction if there are several rows, or one with a period, which may have to be taken back. With
    ``is_callers`` the transaction is the caller's, which goes on after ``TwinExists``: what was inserted is deleted
    before. Raises ``IdInUse`` too.
    """
    refuse_equal(rows)
    tasks: dict[UUID, Task] = {}
    missing = sorted(rows, key=_compared)
    due = overrides
    if is_callers and len(rows) > 1:  # looking first is cheaper than to delete
        for chunk in in_chunks(row for row in missing if row.on_conflict == "raise"):
            _raise_if_told(chunk, _kept_out(chunk, (yield operations.keeping_out(chunk))))
    for _ in range(TRIES):
        inserted = yield from _insert_free(operations, missing, due, notify)
        tasks |= inserted
        due = due_as(inserted, due)
        missing = [row for row in missing if row.id not in tasks]
        kept_out: dict[UUID, _KeptOut] = {}
        for chunk in in_chunks(missing):
            kept_out |= _kept_out(chunk, (yield operations.keeping_out(chunk)))
        try:
            _raise_if_told(missing, kept_out)
        except TwinExists:
            if is_callers and tasks:
                yield operations.undo_inserts(tasks)
            raise
        if not any(row.on_conflict == "raise" and row.id not in kept_out for row in missing):
            last = {kept_out[row.id].by.id: row for row in rows if row.id in kept_out}
            changed = yield from _change_twins(operations, kept_out, last.values(), overrides, notify)
            for row in missing:
                kept = kept_out.get(row.id)
                if kept is not None and (kept.by.id in changed or not _changes(row, kept)):
                    tasks[row.id] = changed.get(kept.by.id, kept.by)._replace(conflict=True)
            tasks |= {row_id: changed[row_id] for row_id in inserted.keys() & changed.keys()}
        missing = [row for row in missing if row.id not in tasks]
        if not missing:
            return [tasks[row.id] for row in rows]
    raise came_and_went(missing[0])


def due_as(inserted: Mapping[UUID, Task], otherwise: Overrides) -> Overrides:
    """Returns the due time of inserted tasks for the rest of a bulk, so that all run in the order of their ids."""
    for task in inserted.values():
        return Overrides(scheduled_at=task.scheduled_at)
    return otherwise


def came_and_went(row: NewTask) -> BackendError:
    """Returns the error for an insert whose twin was there each time it inserted, and gone each time it looked.

    A row that has no twins was kept out by something else.
    """
    if row.uniq_hash is None:
        return left_out(row.kind, 0, 1)
    return BackendError(f"{row.kind}: an equal unique task came and went {TRIES} times; insert it again")


def _compared(row: NewTask) -> str:
    return (row.uniq_hash or "") if row.terms is None else row.terms.compared


def _insert_free(
    operations: Operations, rows: Sequence[NewTask], due: Overrides, notify: bool
) -> Script[dict[UUID, Task]]:
    """Inserts those of the rows that nothing keeps out; returns them by id."""
    begun: set[UUID] = set()
    with_period = [row for row in rows if row.terms is not None and row.terms.period is not None]
    for chunk in in_chunks(with_period):
        begun |= yield operations.begin_periods(chunk)
    barred = {row.id for row in with_period} - begun
    tasks: dict[UUID, Task] = {}
    for chunk in in_chunks(row for row in rows if row.id not in barred):
        tasks |= yield operations.insert_on_terms(chunk, due, notify=notify)
        due = due_as(tasks, due)
    without_task = begun - tasks.keys()
    if without_task:
        yield operations.end_periods(
            row.terms.period for row in with_period if row.terms is not None and row.id in without_task
        )
    return tasks


class _KeptOut(NamedTuple):
    """A row that is kept out by a task: by its twin, or because that has its id."""

    by: Task
    is_twin: bool


def _kept_out(rows: Sequence[NewTask], found: KeepingOut) -> dict[UUID, _KeptOut]:
    """Returns the task that keeps each row out, by the row's id, for those that are kept out. Raises ``IdInUse``."""
    kept_out = {}
    for row in rows:
        twin, with_id = found.twin(row), found.by_id.get(row.id)
        if with_id is not None and not (row.on_conflict == "replace" and twin is not None and twin.id == row.id):
            if with_id.metadata != from_json(row.metadata):
                raise IdInUse(f"another task has the id {row.id}")
            kept_out[row.id] = _KeptOut(with_id, is_twin=False)
        elif twin is not None:
            kept_out[row.id] = _KeptOut(twin, is_twin=True)
    return kept_out


def _raise_if_told(rows: Iterable[NewTask], kept_out: Mapping[UUID, _KeptOut]) -> None:
    """Raises ``TwinExists`` if a twin keeps out one of the rows whose insert is to raise then."""
    for row in rows:
        kept = kept_out.get(row.id)
        if row.on_conflict == "raise" and kept is not None and kept.is_twin:
            raise twin_of(kept.by)


def _changes(row: NewTask, kept: _KeptOut) -> bool:
    """Returns whether the insert changes the task that keeps the row out."""
    return row.on_conflict in {"replace", "postpone"} and kept.is_twin and kept.by.state in DUE_STATES


def _change_twins(
    operations: Operations,
    kept_out: Mapping[UUID, _KeptOut],
    rows: Iterable[NewTask],
    overrides: Overrides,
    notify: bool,
) -> Script[dict[UUID, Task]]:
    """Replaces or postpones the tasks that keep these rows out; returns by id those that were not claimed meanwhile."""
    changed: dict[UUID, Task] = {}
    pairs = sorted(
        ((kept_out[row.id].by, row) for row in rows if _changes(row, kept_out[row.id])),
        key=lambda pair: pair[0].id.bytes,
    )
    for replaces in (True, False):
        some = [pair for pair in pairs if (pair[1].on_conflict == "replace") is replaces]
        for start in range(0, len(some), _MOST_CHANGED):
            chunk = some[start : start + _MOST_CHANGED]
            changed |= yield operations.change_twins(chunk, overrides, replaces=replaces, notify=notify)
    return changed
