"""Decides by which walk the tasks of a filter are found, and so in which order they are listed. Pure.

The states of the filter decide: each walk goes through the tasks of some states in an order of its own, which a
database has an index for. All other conditions are tests on the way.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.errors import UsageError
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.monitoring.listing import NO_CURSOR, Key, place_of
from fang_core.record import Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.words.moments import EARLIEST, LATEST


class Walk(StrEnum):
    """The walks, by the names that cursors know them by."""

    WAITING = "waiting"
    """Through tasks that wait: by type, priority and due time, the way they are claimed."""

    RETRIED = "retried"
    """The same through those that have failed before."""

    HELD = "held"
    """Through tasks in progress, those first that a pool has held for longest."""

    ENDED = "ended"
    """Through tasks that have ended, the last ones first."""

    INSERTED = "inserted"
    """Through all tasks, those first that were inserted last: by their ids."""

    IDS = "ids"
    """Through the tasks that the filter names, in the same order."""


class Position(NamedTuple):
    """Says where a task stands in a walk, and the time that the order has for it."""

    key: Key
    at: datetime


def walk_of(which: TaskFilter) -> Walk | None:
    """Returns the walk that finds the filter's tasks; None if it can match none."""
    if any(getattr(which, name) == () for name in ("kinds", "task_types", "ids")) or not states_of(which):
        return None
    if which.ids is not None:
        return Walk.IDS
    states = states_of(which)
    for walk, of in _WALKS:
        if states <= of:
            return walk
    return Walk.INSERTED


def states_of(which: TaskFilter) -> frozenset[TaskState]:
    """Returns the states in which a task of the filter can be."""
    states: frozenset[TaskState] = frozenset(TaskState if which.states is None else map(TaskState, which.states))
    if which.pool_ids is not None:
        states &= {TaskState.IN_PROGRESS} if which.pool_ids else frozenset()
    return states


_WALKS: Final = (
    (Walk.RETRIED, frozenset({TaskState.RETRIED})),
    (Walk.WAITING, frozenset(DUE_STATES)),
    (Walk.HELD, frozenset({TaskState.IN_PROGRESS})),
    (Walk.ENDED, frozenset(TERMINAL_STATES)),
)

DESCENDING: Final = frozenset({Walk.ENDED, Walk.INSERTED, Walk.IDS})
"""The walks that begin with the greatest key."""


def position(walk: Walk, task: Task) -> Position:
    """Returns where the task stands in the walk."""
    match walk:
        case Walk.WAITING | Walk.RETRIED:
            return Position((task.task_type, task.priority, task.scheduled_at, task.id), task.scheduled_at)
        case Walk.HELD:
            since = task.claimed_at or task.updated_at
            return Position((since, task.id), since)
        case Walk.ENDED:
            return Position((task.updated_at, task.id), task.updated_at)
        case Walk.INSERTED | Walk.IDS:
            return Position((task.id,), task.created_at)


_TYPES: Final[dict[Walk, tuple[type, ...]]] = {
    Walk.WAITING: (str, int, datetime, UUID),
    Walk.RETRIED: (str, int, datetime, UUID),
    Walk.HELD: (datetime, UUID),
    Walk.ENDED: (datetime, UUID),
    Walk.INSERTED: (UUID,),
    Walk.IDS: (UUID,),
}


def place_in(which: TaskFilter, cursor: str | None) -> tuple[Walk, Key | None] | None:
    """Returns the walk of the filter's list, and the key behind which it goes on; None if the filter can match none.

    Raises ``UsageError`` if the cursor is not one of this filter's.
    """
    walk = walk_of(which)
    if cursor is None:
        return None if walk is None else (walk, None)
    name, key = place_of(cursor, which.digest)
    if walk is None:
        return None
    # Where there are too many types to merge, ended tasks are listed in the order of their ids.
    taken = Walk.INSERTED if walk is Walk.ENDED and name == Walk.INSERTED else walk
    if name != taken or not _fits(key, _TYPES[taken]):
        raise UsageError(NO_CURSOR)
    return taken, key


def _fits(key: Key, types: tuple[type, ...]) -> bool:
    if tuple(map(type, key)) != types:
        return False
    for value in key:
        match value:
            case datetime():
                is_good = EARLIEST <= value <= LATEST
            case int():
                is_good = abs(value) < 2**15
            case str():
                is_good = "\0" not in value
            case _:
                is_good = True
        if not is_good:
            return False
    return True


# Ids that begin with their time ---------------------------------------------------------------------------------------

LEAST_ID: Final = UUID(int=0)
MOST_ID: Final = UUID(int=2**128 - 1)

_CLOCK_SKEW: Final = timedelta(hours=1)


def foreign_ids_from(now: datetime) -> UUID:
    """Returns an id so great that no insert of ours has made it, or a greater one, by this time.

    If there are such ids, more of their kind may be anywhere: their beginning is no time.
    """
    return _id_at(now + 24 * _CLOCK_SKEW)


def id_ranges(which: TaskFilter, foreign_from: UUID, *, has_foreign: bool) -> list[tuple[UUID, UUID]]:
    """Returns the ranges of ids in which the filter's times of insertion leave something to look at, the greatest ids
    first: from the first of each pair down to the second."""
    after, before = which.inserted_after, which.inserted_before
    if after is None and before is None:
        return [(MOST_ID, LEAST_ID)]
    least = LEAST_ID if after is None else _id_at(after - _CLOCK_SKEW)
    most = MOST_ID if before is None else _id_at(before + _CLOCK_SKEW)
    ranges = [(min(most, id_before(foreign_from)), least)]
    if has_foreign:
        ranges = [(MOST_ID, foreign_from), *ranges]
        if after is not None:
            ranges.append((id_before(min(least, foreign_from)), LEAST_ID))
    return ranges


def id_before(task_id: UUID) -> UUID:
    """Returns the id that comes before this one in the order of ids."""
    return UUID(int=max(task_id.int - 1, 0))


def _id_at(moment: datetime) -> UUID:
    """Returns the least id that an insert at this time makes."""
    milliseconds = int(moment.timestamp() * 1_000)
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)
