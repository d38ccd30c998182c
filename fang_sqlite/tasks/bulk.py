"""Cancels, retries and removes all tasks of a filter, in batches: each is a transaction of some milliseconds.

A batch walks on where the last one has ended, along the indexes that lists use, and takes the tasks on its way that
match and were there when the call began.
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from fang_core.backends.rows import after_cancel, after_change, can_be_cancelled
from fang_core.backends.verbs import Batch
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES, change_by_hand
from fang_core.record import Task, TaskState
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.selecting.walks import Walk, states_of, walk_of
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.reading.walking import Place, Seen, Walking
from fang_sqlite.records import MICROSECOND
from fang_sqlite.tasks import flow, inserting, uniques

MOST: Final = 100
"""The most tasks of a batch, during which no other connection can write: removing them takes 6 ms, retrying them 11."""

LOOK_SECONDS: Final = 0.005
"""The time after which a batch looks no further for tasks that match."""

_LOOKS: Final = 64


class _Reached(NamedTuple):
    """Says how far a call has come.

    Attributes:
        as_of: when it began.
        walks: the walks that are left; the first one is under way.
        behind: the place of that which was reached; None at its start.
    """

    as_of: datetime
    walks: tuple[Walk, ...]
    behind: Place | None = None


class _Call(NamedTuple):
    """Describes one call for many tasks.

    Attributes:
        walks: the walks that find its tasks, in the order of a task's life, so that one that moves on meanwhile is met;
            or with the last ones first.
        act: does it with tasks; returns how many it has changed.
        was_there: whether a task was there, as it is, when the call began.
    """

    which: TaskFilter
    walks: tuple[Walk, ...]
    act: Callable[[Transaction, list[Task]], int]
    was_there: Callable[[Task, datetime], bool] = lambda task, as_of: task.created_at <= as_of


# The verbs ------------------------------------------------------------------------------------------------------------


def cancel_batch(tx: Transaction, which: TaskFilter, wanted: Cancellation, limit: int, place: _Reached | None) -> Batch:
    """Cancels up to ``limit`` tasks that match, or asks their pools; counts those that this has changed."""

    def cancel(tx: Transaction, tasks: list[Task]) -> int:
        cancelled = [after_cancel(task, wanted, rows.later(tx, task)) for task in tasks if can_be_cancelled(task)]
        rows.write(tx, cancelled)
        tx.tell(task.pool_id for task in cancelled if task.pool_id is not None)
        return len(cancelled)

    return _batch(tx, _Call(which, (Walk.WAITING, Walk.HELD), cancel), limit, place)


def retry_batch(tx: Transaction, which: TaskFilter, limit: int, place: _Reached | None) -> Batch:
    """Revives up to ``limit`` ended tasks that match, the last ones first, unless they have twins; and has those due
    that wait for a retry."""
    call = _Call(which, (Walk.ENDED, Walk.RETRIED), _retry, lambda task, as_of: task.updated_at <= as_of)
    return _batch(tx, call, limit, place)


def remove_batch(tx: Transaction, which: TaskFilter, limit: int, place: _Reached | None) -> Batch:
    """Removes up to ``limit`` tasks that match."""
    return _batch(tx, _Call(which, (Walk.WAITING, Walk.HELD, Walk.ENDED), _remove), limit, place)


def remove_scheduled_batch(tx: Transaction, limit: int, place: _Reached | None) -> Batch:
    """Removes up to ``limit`` new tasks that never ran, and are not due."""
    reached = place or _Reached(tx.now, (Walk.WAITING,))
    which = TaskFilter(states=TaskState.NEW, due_after=reached.as_of + MICROSECOND)
    call = _Call(which, (Walk.WAITING,), _remove, lambda task, as_of: task.attempt == 0 and task.created_at <= as_of)
    return _batch(tx, call, limit, reached)


def _retry(tx: Transaction, tasks: list[Task]) -> int:
    changed = 0
    for task in sorted(tasks, key=lambda each: each.updated_at, reverse=True):
        after = _retried(tx, task)
        if after is not None:
            rows.write(tx, flow.in_lanes(tx, [after]))  # at once: it may be the twin of the next one
            inserting.wake(tx, [after])
            changed += 1
    return changed


def _remove(tx: Transaction, tasks: list[Task]) -> int:
    removed = [task.id for task in tasks]
    uniques.forget(tx, removed)
    tx.tell_types(task.task_type for task in tasks if task.state is TaskState.IN_PROGRESS and task.lane is not None)
    return rows.delete(tx, removed)


def _retried(tx: Transaction, task: Task) -> Task | None:
    """Returns the row of a task that runs again; None if it cannot, or is due already."""
    if task.state in TERMINAL_STATES and not uniques.has_twin(tx, task):
        return after_change(task, change_by_hand(task, TaskState.NEW), rows.later(tx, task))
    if task.state is TaskState.RETRIED and task.scheduled_at > tx.now:
        return task._replace(scheduled_at=tx.now, updated_at=rows.later(tx, task))
    return None


# A batch --------------------------------------------------------------------------------------------------------------

_STATES: Final = {
    Walk.WAITING: frozenset(DUE_STATES),
    Walk.RETRIED: frozenset({TaskState.RETRIED}),
    Walk.HELD: frozenset({TaskState.IN_PROGRESS}),
    Walk.ENDED: frozenset(TERMINAL_STATES),
}


def _walks_of(call: _Call) -> tuple[Walk, ...]:
    """Returns the walks that find the filter's tasks in the states that the call is about."""
    which = call.which
    if walk_of(which) in (None, Walk.IDS):
        return () if walk_of(which) is None else (Walk.IDS,)
    return tuple(walk for walk in call.walks if not _STATES[walk].isdisjoint(states_of(which)))


def _batch(tx: Transaction, call: _Call, limit: int, place: _Reached | None) -> Batch:
    reached = place or _Reached(tx.now, _walks_of(call))
    if not reached.walks:
        return Batch(0)
    found, reached = _look(tx, call.which, reached, min(limit, MOST))
    tasks = rows.among(tx, [seen.place[-1] for seen in found])
    changed = call.act(tx, [task for task in tasks if call.was_there(task, reached.as_of)])
    return Batch(changed, reached if reached.walks else None)


def _look(tx: Transaction, which: TaskFilter, reached: _Reached, most: int) -> tuple[list[Seen], _Reached]:
    """Walks on from a place; returns the matching tasks, up to a number, and how far it has come."""
    over_at = time.monotonic() + LOOK_SECONDS
    found: list[Seen] = []
    for walk in reached.walks:
        walking = Walking(tx, which, walk)
        for number, seen in enumerate(walking.rows(reached.behind), 1):
            if seen.matches:
                found.append(seen)
            if len(found) == most or (number % _LOOKS == 0 and time.monotonic() >= over_at):
                walks = (walking.walk, *reached.walks[1:])
                return found, reached._replace(walks=walks, behind=seen.place)
        reached = _Reached(reached.as_of, reached.walks[1:])
    return found, reached
