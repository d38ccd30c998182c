"""Takes back the tasks that dead pools held, by the rule of ``fang_core.crashes``."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.backends.pools import Rescued
from fang_core.backends.rows import with_entry
from fang_core.crashes import AfterCrash, after_crash
from fang_core.liveness import Pulse
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.pools.registering import unregister
from fang_sqlite.records import UNREADABLE, as_json, entries_of, moment, names_of, span
from fang_sqlite.schema import POOL_ID
from fang_sqlite.tasks import spoilt

_LOGGER: Final = SafeLogger("fang_sqlite")

# JSON in these rows is not read, except for the errors, so that a spoilt row is taken back, too.
_HELD: Final = """SELECT id, kind, attempt, retries, max_retries, crashes, task_type, priority, scheduled_at,
    group_limit, errors
  FROM fang_tasks WHERE pool_id = ? AND state = 'in_progress' ORDER BY id"""

_TAKE_BACK: Final = """UPDATE fang_tasks
  SET state = ?, crashes = ?, group_limit = ?, scheduled_at = coalesce(? + ?, scheduled_at),
    error_message = coalesce(?, error_message), errors = coalesce(?, errors),
    pool_id = NULL, claimed_at = NULL, updated_at = ?
  WHERE id = ?"""

ORPHANED: Final = f"""SELECT DISTINCT pool_id FROM fang_tasks
  WHERE pool_id IS NOT NULL AND state = 'in_progress' AND pool_id NOT IN (SELECT id FROM fang_pools WHERE {POOL_ID})"""

SPOILT: Final = f"SELECT 1 FROM fang_pools WHERE NOT {POOL_ID}"
"""Finds records of pools whose ids are none."""

_RECORD: Final = "SELECT stopping, workers, max_crashes, isolated_kinds FROM fang_pools WHERE id = ?"


class _Judged(NamedTuple):
    """Holds what the record of a dead pool says about its tasks."""

    was_stopping: bool
    workers: int | None
    max_crashes: int
    isolated_kinds: Sequence[str] = ()


def rescue(tx: Transaction, dead: Sequence[Pulse], count: Callable[[UUID], int]) -> tuple[list[Rescued], list[UUID]]:
    """Takes back the tasks of dead pools; returns these, and the pools whose records it has removed.

    ``count`` returns a pool's counter: a pool that has beaten since it was looked at is not dead.
    """
    rescued: list[Rescued] = []
    removed: list[UUID] = []
    for pulse in dead:
        record = tx.row(_RECORD, (pulse.pool_id.bytes,))
        if record is None or count(pulse.pool_id) != pulse.beats:
            continue
        stopping, workers, max_crashes, isolated_kinds = record
        judged = _Judged(bool(stopping), workers, max_crashes, names_of(isolated_kinds))
        rescued += _take_back(tx, pulse.pool_id.bytes, judged)
        unregister(tx, pulse.pool_id)
        removed.append(pulse.pool_id)
    return rescued, removed


def rescue_orphans(tx: Transaction, max_crashes: int) -> list[Rescued]:
    """Takes back the tasks of pools that have no record."""
    if tx.run(f"DELETE FROM fang_pools WHERE NOT {POOL_ID}"):
        _LOGGER.error("rows of fang_pools with invalid ids were removed: another program has written them")
    return [
        task for (pool_id,) in tx.rows(ORPHANED) for task in _take_back(tx, pool_id, _Judged(False, None, max_crashes))
    ]


def _take_back(tx: Transaction, pool_id: bytes, judged: _Judged) -> list[Rescued]:
    held = tx.rows(_HELD, (pool_id,))
    rescued = []
    for row in held:
        try:
            rescued.append(_take_back_one(tx, row, len(held), judged))
        except UNREADABLE as error:
            spoilt.fail(tx, row[0], error)
    tx.wake(task.task_type for task in rescued)
    return rescued


def _take_back_one(tx: Transaction, row: tuple[Any, ...], held: int, judged: _Judged) -> Rescued:
    task = _task_of(row)
    after = after_crash(
        task,
        was_stopping=judged.was_stopping,
        held=held,
        workers=judged.workers,
        max_crashes=judged.max_crashes,
        is_isolated=task.kind in judged.isolated_kinds,
    )
    errors = None if after.error_entry is None else as_json(with_entry(entries_of(row[-1]), after.error_entry, tx.now))
    due = (tx.micros, span(after.delay))  # together null if the task keeps its time
    tx.run(
        _TAKE_BACK,
        (after.state.value, after.crashes, after.group_limit, *due, after.error_message, errors, tx.micros, row[0]),
    )
    return _told(task, after, judged.was_stopping)


def _task_of(row: tuple[Any, ...]) -> ClaimedTask:
    id_, kind, attempt, retries, max_retries, crashes, task_type, priority, scheduled_at, group_limit, _ = row
    of_run = (UUID(bytes=id_), kind, "{}", attempt, retries, max_retries or 0, crashes)
    return ClaimedTask(*of_run, task_type, priority, moment(scheduled_at), group_limit=group_limit)


def _told(task: ClaimedTask, after: AfterCrash, was_stopping: bool) -> Rescued:
    told = (task.id, task.kind, task.attempt, after.crashes, after.state, was_stopping, after.is_charged)
    return Rescued(*told, task_type=task.task_type)
