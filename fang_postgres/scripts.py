"""Writes the scripts, which take more than one statement: unique inserts, moves by hand, schedules, rescue. Pure."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from fang_core.backends.pools import PoolRecord, Rescued
from fang_core.backends.ticks import Tick
from fang_core.backends.verbs import Fetched
from fang_core.errors import IdInUse, RowsLocked, StaleTask, StatementRefused, TwinExists
from fang_core.lifecycle import Change, Outcome, cancelled_by_hand
from fang_core.liveness import Pulse
from fang_core.record import Task
from fang_core.tasks.editing import Edit, edit_meets_twin
from fang_core.tasks.insertion import Bulk, NewTask, Overrides, in_chunks
from fang_core.tasks.selecting.batches import Batches
from fang_postgres.connections.connecting import SETTINGS
from fang_postgres.operations import Operations
from fang_postgres.operations.by_hand import Removing, Touched
from fang_postgres.statement import Operation, Pipeline, Script
from fang_postgres.unique_inserts import TRIES, came_and_went, due_as, insert_on_terms

AHEAD: Final = 1_000
"""Rows of a statement that is in flight while the next is made. Much larger statements overlap less, and do not fit
into a socket's buffer."""


def insert(operations: Operations, row: NewTask, overrides: Overrides, *, notify: bool) -> Script[Task]:
    """Inserts a row; returns its task, or the task that has its id or its unique hash. Raises ``IdInUse``.

    The index decides: the loser writes nothing and locks no row. It reads the winner's row with a second statement, and
    tries again if that is gone. A row with terms of its own is inserted on these.
    """
    if row.terms is not None:
        return (yield from insert_on_terms(operations, [row], overrides, is_callers=False, notify=notify))[0]
    for _ in range(TRIES):
        inserted: Task | None = yield operations.insert(row, overrides, notify=notify)
        if inserted is not None:
            return inserted
        found = _who_is_there(row, (yield operations.existing(row)))
        if found is not None:
            return found
    raise came_and_went(row)


def insert_many(
    operations: Operations, bulk: Bulk, overrides: Overrides, *, is_callers: bool = False, notify: bool
) -> Script[list[Task]]:
    """Inserts many rows, in statements of bounded size; run it in one transaction. Returns tasks in the order given.

    With ``is_callers`` that is a transaction of the caller's.
    """
    if bulk.has_terms:
        rows = list(bulk)
        return (yield from insert_on_terms(operations, rows, overrides, is_callers=is_callers, notify=notify))
    if bulk.is_unique:
        return (yield from _insert_unique(operations, list(bulk), overrides, notify))
    tasks: list[Task] = []
    for operation in insert_chunks(operations, bulk, overrides, notify=notify):
        tasks += yield operation
    return tasks


def insert_chunks(
    operations: Operations, bulk: Bulk, overrides: Overrides, *, notify: bool
) -> list[Operation[list[Task]]]:
    """Makes all statements of an insert of many rows, none of them unique, before one is sent."""
    return [operations.insert_many(chunk, overrides, notify=notify) for chunk in in_chunks(bulk)]


def insert_ahead(operations: Operations, bulk: Bulk, overrides: Overrides, *, notify: bool) -> Pipeline[list[Task]]:
    """Inserts many rows, none of them unique; makes the next rows while the last are in flight; see ``insert_many``."""
    tasks: list[Task] = []
    for chunk in in_chunks(bulk, most_rows=AHEAD):
        tasks += (yield operations.insert_many(chunk, overrides, notify=notify)) or ()
    tasks += (yield None) or ()
    return tasks


def _insert_unique(
    operations: Operations, rows: list[NewTask], overrides: Overrides, notify: bool
) -> Script[list[Task]]:
    tasks: dict[UUID, Task] = {}
    due = overrides
    # In the order of their hashes two bulks wait for each other in one direction only: no deadlock.
    missing = sorted(rows, key=lambda row: row.uniq_hash or "")
    for _ in range(TRIES):
        for chunk in in_chunks(missing):
            inserted: dict[UUID, Task] = yield operations.insert_unique(chunk, due, notify=notify)
            tasks |= inserted
            due = due_as(inserted, due)
        missing = [row for row in missing if row.id not in tasks]
        if not missing:
            return [tasks[row.id] for row in rows]
        twins: dict[str | None, Task] = yield operations.twins([row.uniq_hash for row in missing if row.uniq_hash])
        tasks |= {row.id: twins[row.uniq_hash]._replace(conflict=True) for row in missing if row.uniq_hash in twins}
        missing = [row for row in missing if row.id not in tasks]
    raise came_and_went(missing[0])


def tick_by_hand(operations: Operations, tick: Tick, *, notify: bool) -> Script[Task | None]:
    """Inserts the task of a schedule's tick that lies ahead; returns it, or the one inserted before.

    Returns None if another one has done so meanwhile, and it is gone.
    """
    inserted: Task | None
    _, inserted = yield operations.tick(tick, notify=notify, by_hand=True)
    if inserted is not None:
        return inserted
    found: list[tuple[Task, bool]] = yield operations.existing(tick.row)
    return found[0][0]._replace(conflict=True) if found else None


def _who_is_there(row: NewTask, found: Sequence[tuple[Task, bool]]) -> Task | None:
    for task, is_same in found:
        if task.id == row.id and not is_same:
            raise IdInUse(f"another task has the id {row.id}")
    return found[0][0]._replace(conflict=True) if found else None


def change(operations: Operations, change: Change, *, notify: bool) -> Script[Task]:
    """Changes a task by hand. Raises ``StaleTask`` or ``TwinExists``."""
    changed: Task | None = yield operations.change(change, notify=notify)
    if changed is not None:
        return changed
    read = change.task
    now: Task | None = yield operations.find(read.id)
    if now is not None and (now.state, now.attempt, now.updated_at) == (read.state, read.attempt, read.updated_at):
        raise twin_exists(read.id)
    raise StaleTask(f"task {read.id} has changed since it was read: read it again")


def edit(operations: Operations, edit: Edit, *, notify: bool) -> Script[Task]:
    """Changes payload and options of a waiting task. Raises ``StaleTask`` or ``TwinExists``."""
    changed: Task | None = yield operations.edit(edit, notify=notify)
    if changed is not None:
        return changed
    read = edit.task
    now: Task | None = yield operations.find(read.id)
    if now is not None and (now.state, now.attempt, now.updated_at) == (read.state, read.attempt, read.updated_at):
        raise edit_meets_twin(read.id)
    raise StaleTask(f"task {read.id} has changed since it was read: read it again")


def fetch(operations: Operations, task_type: str, pool_id: UUID, *, notify: bool) -> Script[Fetched]:
    """Fetches a due task by hand, and cancels those before it that are to be cancelled.

    Returns the task that the queue's own pool now holds. Raises ``UsageError``.
    """
    is_managed, taken = False, 0
    while True:
        touch = operations.touch_lane if is_managed else operations.touch
        touched: Touched = yield touch(task_type, pool_id)
        cancelled = None if touched.task is None else cancelled_by_hand(touched.task)
        if cancelled is not None:
            yield operations.change(cancelled, notify=notify)
        elif touched.is_managed is is_managed and (not touched.turn_taken or taken == TRIES):
            return Fetched(touched.task, touched.registered)
        is_managed, taken = touched.is_managed, taken + touched.turn_taken


def twin_exists(task_id: UUID) -> TwinExists:
    """Returns the error for a unique task that cannot be revived."""
    return TwinExists(f"task {task_id} cannot be revived: an equal unique task is waiting or running")


def remove_one(operations: Operations, task_id: UUID, *, notify: bool) -> Script[int]:
    """Removes the task with this id; returns how many tasks it removed."""
    return (yield operations.remove_one(task_id, notify=notify))  # type: ignore[no-any-return]


def remove_twin(operations: Operations, uniq_hash: str, *, notify: bool) -> Script[int]:
    """Removes the live unique task with this hash; returns how many tasks it removed."""
    return (yield operations.remove_twin(uniq_hash, notify=notify))  # type: ignore[no-any-return]


def remove(operations: Operations, batch: Removing, batches: Batches, *, notify: bool = True) -> Script[int]:
    """Removes many tasks, in batches of about a second, which may be committed one by one; returns how many.

    It removes them in the order of their ids, up to the greatest id at the beginning.
    """
    last: UUID | None = yield operations.last_id()
    first = UUID(int=0)
    while last is not None and first <= last:
        batches.begin()
        removed, reached = yield batch(first, last, batches.limit, notify)
        batches.ended(removed)
        if reached is None or reached == last:
            break
        first = UUID(int=reached.int + 1)
    return batches.done


def register(operations: Operations, pool: PoolRecord) -> Script[None]:
    """Inserts a pool's own row, without kinds and task types that the database cannot hold; logs each of those.

    Raises ``StatementRefused`` if it can hold none of the task types.
    """
    unheld = operations.unheld
    while True:
        unheld.check_some_held(pool.task_types)
        try:
            yield operations.register(pool)
        except StatementRefused as error:
            unheld.learn(error, (*pool.task_types, *pool.kinds))
        else:
            break
    unheld.tell("task type", pool.task_types)
    unheld.tell("kind", pool.kinds)


def update_kinds(
    operations: Operations, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str]
) -> Script[bool]:
    """Writes these kinds into a pool's row, without those that the database cannot hold; logs each of those.

    Returns whether the pool has a row.
    """
    while True:
        try:
            is_there: bool = yield operations.update_kinds(pool_id, kinds, isolated_kinds)
        except StatementRefused as error:
            operations.unheld.learn(error, kinds)
        else:
            break
    operations.unheld.tell("kind", kinds)
    return is_there


def rescue(operations: Operations, dead: Sequence[Pulse]) -> Script[list[Rescued]]:
    """Takes back the tasks of dead pools; run it in one transaction.

    It first locks their records, if their counters have not moved, and deletes them last: until then other sessions can
    read whether a pool was stopping, and how many crashes its tasks are allowed. If some tasks are locked, and so not
    taken back, their pool's record stays for the next rescue.
    """
    confirmed: list[tuple[UUID, bool, int, list[str]]] = yield operations.still_dead(dead)
    rescued: list[Rescued] = []
    for pool_id, was_stopping, max_crashes, isolated_kinds in confirmed:
        held, back = yield operations.rescue(
            pool_id, charged=not was_stopping, max_crashes=max_crashes, isolated_kinds=isolated_kinds
        )
        yield operations.declare_dead(pool_id) if held > len(back) else operations.unregister(pool_id)
        rescued += back
    return rescued


def rescue_orphans(operations: Operations, max_crashes: int) -> Script[list[Rescued]]:
    """Takes back tasks of pools without a record. Their ids are never used again, so no live pool can lose tasks."""
    missing: list[UUID] = yield operations.orphaned()
    rescued: list[Rescued] = []
    for pool_id in missing:
        _, back = yield operations.rescue(pool_id, charged=True, max_crashes=max_crashes)
        rescued += back
    return rescued


def complete_unlocked(
    operations: Operations, pool_id: UUID, outcomes: Sequence[Outcome]
) -> Script[tuple[set[UUID], set[UUID]]]:
    """Writes outcomes whose rows are not locked; returns the ids of the written ones, and of those held but locked.

    Run it in one transaction. A task that its run has completed in its own transaction, which may still be open, is
    never among the locked: nothing is left to write unless that is rolled back.
    """
    free: set[UUID] = yield operations.unlocked(pool_id, outcomes)
    written: set[UUID] = set()
    # The statements wait for no row any more; other locks that they may wait for last longer.
    lock_wait = SETTINGS["lock_timeout"]
    unlocked = [outcome for outcome in outcomes if outcome.id in free]
    for operation in operations.complete(pool_id, unlocked, lock_wait=lock_wait):
        written |= yield operation
    others = [outcome for outcome in outcomes if outcome.id not in free and not outcome.completed_by_run]
    if not others:
        return written, set()
    return written, (yield operations.held(pool_id, others))


def some_locked(written: set[UUID], locked: set[UUID]) -> RowsLocked:
    """Returns the error that a store raises when other transactions have locked some rows."""
    return RowsLocked(f"other transactions have locked {len(locked)} tasks", written=written, locked=locked)
