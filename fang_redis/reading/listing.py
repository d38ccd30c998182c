"""Lists and counts tasks.

A walk goes through the tasks that may match; which of them do, the filter decides in Python. Where an index alone has
the answer, a count reads none.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from fang_core.backends.listing import as_listed
from fang_core.lifecycle import DUE_STATES
from fang_core.monitoring.listing import Count, Key, Place, TaskPage, cursor_of
from fang_core.record import Task, TaskState
from fang_core.tasks.selecting.filter import ANY_TASK, CONDITIONS, TaskFilter
from fang_core.tasks.selecting.walks import Position, Walk, place_in, position, states_of, walk_of
from fang_redis.connections.sending import Sending
from fang_redis.operations import Verb
from fang_redis.reading.walking import MOST_AT_ONCE, Walking, lines_of_ended, lines_of_waiting, matcher

SECONDS: Final = 1.0
"""After this long a list or a count begins no further script."""

_INDEXED: Final = frozenset({"states", "task_types"})


class Listing:
    """The verbs that list and count."""

    def __init__(self, sending: Sending, walking: Walking, clock: Callable[[], float] = time.monotonic) -> None:
        self._sending = sending
        self._walking = walking
        self._clock = clock

    def list_tasks(self, which: TaskFilter, limit: int, cursor: str | None, /) -> Verb[TaskPage]:
        """See ``Verbs.list_tasks``."""
        place = place_in(which, cursor)
        if place is None:
            return TaskPage(tasks=(), cursor=None, looked_at=0, stopped=False, looked_to=None)
        walk, behind = place
        page = _Page(which, walk, limit)
        until, most = self._clock() + SECONDS, limit + 1
        while True:
            seen = yield from self._walking.look(which, walk, behind, most)
            if page.takes(seen.tasks):
                return page.ended(page.full_at)
            behind, most = seen.behind, MOST_AT_ONCE
            if behind is None:
                return page.ended(None)
            if self._clock() >= until:
                return page.ended(page.full_at or behind, stopped=page.full_at is None)

    def count_tasks(self, which: TaskFilter, up_to: int, /) -> Verb[Count]:
        """See ``Verbs.count_tasks``."""
        walk = walk_of(which)
        if walk is None:
            return Count(0, True)
        if _is_indexed(which):
            return Count((yield from self._cards(which)), True)
        count, until, behind, matches = 0, self._clock() + SECONDS, None, matcher(which)
        while True:
            seen = yield from self._walking.look(which, walk, behind, MOST_AT_ONCE)
            count += sum(map(matches, seen.tasks))
            behind = seen.behind
            if behind is None:
                return Count(count, True)
            if count > up_to or self._clock() >= until:
                return Count(count, False)

    def _cards(self, which: TaskFilter) -> Verb[int]:
        """Counts the tasks of a filter whose conditions all belong to indexes."""
        names = yield from self._walking.names(which)
        states = states_of(which)
        if len(states) == len(TaskState) and which.task_types is None and which.kinds is None:
            zsets = ["ids"]
            states = frozenset()
        else:
            zsets = [*lines_of_ended(which, names), *(key for _, key in lines_of_waiting(which, names))]
        sets, hashes = [], []
        if TaskState.IN_PROGRESS in states:
            if which.task_types is None:
                sets = [f"held:{pool}" for pool in names.holders]
            else:
                hashes = [f"running:{task_type}" for task_type in which.task_types]
        sizes = (len(zsets), len(sets), len(hashes))
        count: int = yield from self._sending.script("cards", *sizes, *zsets, *sets, *hashes)
        return count

    # For tests --------------------------------------------------------------------------------------------------------

    def tasks_of_kinds(self, kinds: Sequence[str], /) -> Verb[list[Task]]:
        """See ``Verbs.tasks_of_kinds``."""
        found: list[Task] = []
        which, behind = TaskFilter(kinds=kinds), None
        while True:
            seen = yield from self._walking.look(which, Walk.INSERTED, behind, MOST_AT_ONCE)
            wanted = [task.id for task in seen.tasks if which.matches(task)]
            if wanted:
                read = yield from self._sending.read(wanted)  # with their errors
                found += read.tasks.values()
            behind = seen.behind
            if behind is None:
                return sorted(found, key=lambda task: (task.created_at, task.id))

    def count_by_kind(self) -> Verb[dict[str, int]]:
        """See ``Verbs.count_by_kind``."""
        counts: Counter[str] = Counter()
        behind = None
        while True:
            seen = yield from self._walking.look(ANY_TASK, Walk.INSERTED, behind, MOST_AT_ONCE)
            counts.update(task.kind for task in seen.tasks)
            behind = seen.behind
            if behind is None:
                return dict(counts)


def _is_indexed(which: TaskFilter) -> bool:
    """Returns whether indexes alone count the tasks of the filter; those of waiting tasks know kinds, too."""
    conditions = {name for name in CONDITIONS if getattr(which, name) is not None}
    known = _INDEXED | {"kinds"} if states_of(which) <= frozenset(DUE_STATES) else _INDEXED
    return conditions <= known


class _Page:
    """One page, while tasks are found for it."""

    def __init__(self, which: TaskFilter, walk: Walk, limit: int) -> None:
        self._which, self._walk, self._limit = which, walk, limit
        self._matches = matcher(which)
        self._found: list[Task] = []
        self._looked = 0
        self._last: Position | None = None

    @property
    def full_at(self) -> Key | None:
        """Returns where the next page begins, if this one is full."""
        return position(self._walk, self._found[-1]).key if len(self._found) == self._limit else None

    def takes(self, tasks: Sequence[Task]) -> bool:
        """Takes the next tasks of the walk; returns whether there is one more that matches than the page has."""
        for task in tasks:
            matches = self._matches(task)
            if matches and len(self._found) == self._limit:
                return True
            self._looked, self._last = self._looked + 1, position(self._walk, task)
            if matches:
                self._found.append(task)
        return False

    def ended(self, behind: Key | None, *, stopped: bool = False) -> TaskPage:
        """Returns the page; there is more behind this place."""
        return TaskPage(
            tasks=tuple(map(as_listed, self._found)),
            cursor=None if behind is None else cursor_of(Place(self._walk, behind), self._which.digest),
            looked_at=self._looked,
            stopped=stopped,
            looked_to=None if self._last is None else self._last.at,
        )
