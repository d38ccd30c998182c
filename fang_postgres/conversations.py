"""What takes more than one statement: unique inserts, moves by hand, schedules, rescue. Pure, for both modes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from fang_core.errors import BackendError, IdInUse, RowsLocked, StaleTask, TwinExists
from fang_core.insertion import Bulk, NewTask, Overrides, Rules, in_chunks
from fang_core.lifecycle import Change, Outcome
from fang_core.liveness import Pulse
from fang_core.record import Task
from fang_core.removal import Removal
from fang_core.runnable import BaseRunnable
from fang_core.store import Rescued
from fang_core.ticking import next_tick
from fang_postgres.connecting import SETTINGS
from fang_postgres.operations import Operations, Removing
from fang_postgres.statement import Conversation, Operation, Pipeline

_TRIES: Final = 20  # of an insert whose twin is there when it inserts, and gone when it looks

AHEAD: Final = 1_000
"""Rows of a statement that is in flight while the next is made: much larger ones leave less to do at once, and do not
fit into a socket's buffer."""


def insert(operations: Operations, row: NewTask, overrides: Overrides, *, notify: bool) -> Conversation[Task]:
    """One new row, or the one that has its id or its unique hash. Raises ``IdInUse``.

    The index decides: the loser writes nothing and locks nobody's row, it reads the winner's with a second statement,
    and tries again if that is gone.
    """
    for _ in range(_TRIES):
        inserted: Task | None = yield operations.insert(row, overrides, notify=notify)
        if inserted is not None:
            return inserted
        found = _who_is_there(row, (yield operations.existing(row)))
        if found is not None:
            return found
    raise _came_and_went(row.kind)


def insert_many(operations: Operations, bulk: Bulk, overrides: Overrides, *, notify: bool) -> Conversation[list[Task]]:
    """Many rows, in statements of bounded size; to be held in one transaction. Results in the order given."""
    if bulk.is_unique:
        return (yield from _insert_unique(operations, list(bulk), overrides, notify))
    tasks: list[Task] = []
    for operation in insert_chunks(operations, bulk, overrides, notify=notify):
        tasks += yield operation
    return tasks


def insert_chunks(
    operations: Operations, bulk: Bulk, overrides: Overrides, *, notify: bool
) -> list[Operation[list[Task]]]:
    """Many rows, none of them unique, all made before anything is sent."""
    return [operations.insert_many(chunk, overrides, notify=notify) for chunk in in_chunks(bulk)]


def insert_ahead(operations: Operations, bulk: Bulk, overrides: Overrides, *, notify: bool) -> Pipeline[list[Task]]:
    """Many rows, none of them unique: the next ones are made while the last are on their way; see ``insert_many``."""
    tasks: list[Task] = []
    for chunk in in_chunks(bulk, most_rows=AHEAD):
        tasks += (yield operations.insert_many(chunk, overrides, notify=notify)) or ()
    tasks += (yield None) or ()
    return tasks


def _insert_unique(
    operations: Operations, rows: list[NewTask], overrides: Overrides, notify: bool
) -> Conversation[list[Task]]:
    tasks: dict[UUID, Task] = {}
    due = overrides
    # In the order of their hashes two bulks wait for each other in one direction only: no deadlock.
    missing = sorted(rows, key=lambda row: row.uniq_hash or "")
    for _ in range(_TRIES):
        for chunk in in_chunks(missing):
            inserted: dict[UUID, Task] = yield operations.insert_unique(chunk, due, notify=notify)
            tasks |= inserted
            for task in inserted.values():  # one time for all, so that they run in the order of their ids
                due = replace(due, scheduled_at=task.scheduled_at, delay=None)
                break
        missing = [row for row in missing if row.id not in tasks]
        if not missing:
            return [tasks[row.id] for row in rows]
        twins: dict[str | None, Task] = yield operations.twins([row.uniq_hash for row in missing if row.uniq_hash])
        tasks |= {row.id: twins[row.uniq_hash]._replace(conflict=True) for row in missing if row.uniq_hash in twins}
        missing = [row for row in missing if row.id not in tasks]
    raise _came_and_went(rows[0].kind)


def schedule(operations: Operations, task: BaseRunnable, rules: Rules, *, notify: bool) -> Conversation[Task]:
    """The task of its schedule's next tick, inserted, or as it was inserted before. Raises ``UsageError``."""
    for _ in range(_TRIES):
        tick = next_tick(task, (yield operations.clock()), rules)
        inserted: Task | None
        _, inserted = yield operations.tick(tick, notify=notify, by_hand=True)
        if inserted is not None:
            return inserted
        found: list[tuple[Task, bool]] = yield operations.existing(tick.row)
        if found:
            return found[0][0]._replace(conflict=True)
    raise _came_and_went(tick.name)


def _who_is_there(row: NewTask, found: Sequence[tuple[Task, bool]]) -> Task | None:
    for task, is_same in found:
        if task.id == row.id and not is_same:
            raise IdInUse(f"another task has the id {row.id}")
    return found[0][0]._replace(conflict=True) if found else None


def _came_and_went(kind: str) -> BackendError:
    return BackendError(f"{kind}: an equal unique task came and went {_TRIES} times; insert it again")


def change(operations: Operations, change: Change, *, notify: bool) -> Conversation[Task]:
    """A move by hand. Raises ``StaleTask`` or ``TwinExists``."""
    changed: Task | None = yield operations.change(change, notify=notify)
    if changed is not None:
        return changed
    read = change.task
    now: Task | None = yield operations.find(read.id)
    if now is not None and (now.state, now.attempt, now.updated_at) == (read.state, read.attempt, read.updated_at):
        raise twin_exists(read.id)
    raise StaleTask(f"task {read.id} is not as it was read any more: read it again")


def twin_exists(task_id: UUID) -> TwinExists:
    """Why a unique task cannot be revived."""
    return TwinExists(f"task {task_id} cannot be revived: an equal unique task is waiting or running")


def remove(operations: Operations, batch: Removing, removal: Removal, *, notify: bool = True) -> Conversation[int]:
    """Removes many tasks, in batches of about a second; how many. Each may be committed by itself.

    They go in the order of their ids, up to the greatest that there is at the beginning.
    """
    last: UUID | None = yield operations.last_id()
    first = UUID(int=0)
    while last is not None and first <= last:
        removal.begin()
        removed, reached = yield batch(first, last, removal.limit)
        removal.ended(removed)
        if reached is None or reached == last:
            break
        first = UUID(int=reached.int + 1)
    return removal.removed


def rescue(operations: Operations, dead: Sequence[Pulse]) -> Conversation[list[Rescued]]:
    """Takes back what dead pools held; to be held in one transaction.

    First their records are locked, if their counters still stand; they go last of all, so that until then everybody can
    read that a pool was stopping, and how many crashes its tasks are allowed. A record whose tasks are not all taken
    back, since some were locked, stays for the next rescue.
    """
    confirmed: list[tuple[UUID, bool, int]] = yield operations.still_dead(dead)
    rescued: list[Rescued] = []
    for pool_id, was_stopping, max_crashes in confirmed:
        held, back = yield operations.rescue(pool_id, charged=not was_stopping, max_crashes=max_crashes)
        yield operations.declare_dead(pool_id) if held > len(back) else operations.unregister(pool_id)
        rescued += back
    return rescued


def rescue_orphans(operations: Operations, max_crashes: int) -> Conversation[list[Rescued]]:
    """Takes back what is held by pools without a record. Their ids are never used again, so nobody alive is meant."""
    missing: list[UUID] = yield operations.orphaned()
    rescued: list[Rescued] = []
    for pool_id in missing:
        _, back = yield operations.rescue(pool_id, charged=True, max_crashes=max_crashes)
        rescued += back
    return rescued


def complete_unlocked(
    operations: Operations, pool_id: UUID, outcomes: Sequence[Outcome]
) -> Conversation[tuple[set[UUID], set[UUID]]]:
    """Writes outcomes whose rows nobody has locked; the ids of those written, and of those still held but locked.

    To be held in one transaction. What a run has completed in a transaction of its own, which may still be open, is
    never among the locked: there is nothing left to write but where that was rolled back.
    """
    free: set[UUID] = yield operations.unlocked(pool_id, outcomes)
    written: set[UUID] = set()
    # No row is waited for any more; what else a statement may wait for is not as quickly over.
    lock_wait = SETTINGS["lock_timeout"]
    unlocked = [outcome for outcome in outcomes if outcome.id in free]
    for operation in operations.complete(pool_id, unlocked, lock_wait=lock_wait):
        written |= yield operation
    others = [outcome for outcome in outcomes if outcome.id not in free and not outcome.completed_by_run]
    if not others:
        return written, set()
    return written, (yield operations.held(pool_id, others))


def some_locked(written: set[UUID], locked: set[UUID]) -> RowsLocked:
    """What a store says of it."""
    return RowsLocked(f"others have locked tasks: {len(locked)}", written=written, locked=locked)
