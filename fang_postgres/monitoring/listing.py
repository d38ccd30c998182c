"""Writes the scripts that list and count tasks. Pure."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

from fang_core.monitoring.listing import Count, Key, Place, TaskPage, checked_limit, checked_up_to, cursor_of
from fang_core.record import Task
from fang_core.tasks.selecting.filter import TaskFilter, any_filter
from fang_core.tasks.selecting.walks import Walk, place_in, walk_of
from fang_postgres.connections.diagnosis import TookTooLong
from fang_postgres.monitoring.looking import Effort, Looking
from fang_postgres.operations import Operations
from fang_postgres.statement import Script

PAGE_SECONDS: Final = 0.03
"""The time after which a page begins no further statement; the last one may take as long as the rest of 50 ms."""

COUNT_SECONDS: Final = 0.25
"""The time after which a count of up to 10,000 tasks begins no further statement; a larger bound has more."""


def lists(
    operations: Operations,
    which: TaskFilter,
    limit: int,
    cursor: str | None,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[], Script[TaskPage]]:
    """Returns what begins the script that reads a page. Raises ``UsageError`` for arguments that cannot be used."""
    checked_limit(limit)
    place = place_in(any_filter(which), cursor)
    return partial(_list, operations, which, limit, place, clock)


def counts(
    operations: Operations, which: TaskFilter, up_to: int, clock: Callable[[], float] = time.monotonic
) -> Callable[[], Script[Count]]:
    """Returns what begins the script that counts tasks. Raises ``UsageError`` for arguments that cannot be used."""
    return partial(_count, operations, any_filter(which), checked_up_to(up_to), clock)


def _list(
    operations: Operations,
    which: TaskFilter,
    limit: int,
    place: tuple[Walk, Key | None] | None,
    clock: Callable[[], float],
) -> Script[TaskPage]:
    if place is None:
        return TaskPage(tasks=(), cursor=None, looked_at=0, stopped=False, looked_to=None)
    effort = Effort(PAGE_SECONDS, limit + 1, clock)
    walk, sight = yield from Looking(operations, which, effort, shows=True).walk(*place)
    found, reached, stopped = sight.found, sight.reached, sight.stopped
    if len(found) > limit:
        found = found[:limit]
        reached, stopped = found[-1], False
    ids: list[Any] = [key[-1] for key in found]
    tasks: dict[UUID, Task] = (yield operations.show(which, ids)) if ids else {}
    return TaskPage(
        tasks=tuple(tasks[task_id] for task_id in ids if task_id in tasks),
        cursor=None if reached is None else cursor_of(Place(walk, reached), which.digest),
        looked_at=effort.looked,
        stopped=stopped,
        looked_to=sight.at,
    )


def _count(operations: Operations, which: TaskFilter, up_to: int, clock: Callable[[], float]) -> Script[Count]:
    walk = walk_of(which)
    if walk is None:
        return Count(0, True)
    effort = Effort(COUNT_SECONDS * max(1.0, up_to / 10_000), up_to + 1, clock)
    _, sight = yield from Looking(operations, which, effort, shows=False).walk(walk, None)
    if sight.hits <= up_to and not sight.stopped:
        return Count(sight.hits, True)
    if which.error is not None or which.headers is not None or which.payload is not None or which.ids is not None:
        return Count(sight.hits, False)  # the statistics say nothing of these
    try:
        estimate: int = yield operations.estimate(which)
    except TookTooLong:
        return Count(sight.hits, False)
    # It multiplies the parts of a kind and of a state as if they had nothing to do with each other.
    return Count(sight.hits, False, estimate if estimate > sight.hits else None)
