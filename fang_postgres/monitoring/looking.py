"""Walks through tasks for lists and counts, in statements of bounded size, for as long as there is time. Pure.

Each statement looks at as many tasks as the last one's speed lets expect to fit into the time that is left. A walk over
several lanes, such as the failed tasks of all types, merges them: it looks further where the newest tasks are that it
has not seen yet, and what it has found counts as far as all lanes have been seen.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any, Final
from uuid import UUID

from fang_core.errors import UsageError
from fang_core.monitoring.listing import Key
from fang_core.record import HIGHEST_PRIORITY, PRIORITIES, TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.selecting.walks import LEAST_ID, MOST_ID, Walk, foreign_ids_from, id_before, id_ranges, states_of
from fang_core.words.moments import EARLIEST, LATEST
from fang_postgres.connections.diagnosis import TookTooLong
from fang_postgres.operations import Operations
from fang_postgres.operations.listing import Asked, EndedLane, Looked
from fang_postgres.shapes import MOST_HELD
from fang_postgres.statement import Operation, Script

_MOST_AT_ONCE: Final = 5_000
_MOST_AT_FIRST: Final = 2_000
_LEAST_OF_LANE: Final = 5
_MOST_OF_IDS: Final = 500
_MOST_LANES: Final = 200
_GROWTH: Final = 8


class Effort:
    """Says how many tasks the next statement of a walk looks at, so that the walk ends in time.

    Args:
        seconds: after which no further statement begins.
        most: how many tasks that match are wanted.
    """

    def __init__(self, seconds: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.looked = 0
        self._clock = clock
        self._until = clock() + seconds
        self._began = 0.0
        self._last = 0
        self._hits = 0

    @property
    def is_over(self) -> bool:
        """Returns whether no further statement may begin; one always may."""
        return self._began > 0 and self._clock() >= self._until

    def size(self, found: int) -> int:
        """Returns how many tasks to look at next, given how many were found; notes that this begins."""
        now = self._clock()
        size = min(self.most, _MOST_AT_FIRST)
        if self._last:
            speed = self._last / max(now - self._began, 1e-6)
            missing = self.most - found
            wanted = 1 + missing * self.looked * 5 // (4 * self._hits) if self._hits else _MOST_AT_ONCE
            size = min(wanted, self._last * _GROWTH, int(speed * (self._until - now)), _MOST_AT_ONCE)
        self._began = now
        return max(size, 10)

    def ended(self, looked: int, hits: int) -> None:
        """Notes how many tasks a statement has looked at, and how many of these match."""
        self._last = max(looked, 1)
        self.looked += looked
        self._hits += hits


@dataclass(slots=True)
class Sight:
    """Says what a walk has found.

    Attributes:
        found: the keys of the tasks that match, in the order of the walk, if they were wanted one by one.
        hits: how many match.
        reached: where to go on from; None if the walk has come to its end.
        at: the time of the last task looked at, in the order of the walk.
        stopped: whether the walk has ended before its end, and before it had found enough.
    """

    found: list[Key] = field(default_factory=list)
    hits: int = 0
    reached: Key | None = None
    at: datetime | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Looking:
    """One walk through the tasks of a filter. ``shows`` is whether those that match are wanted one by one, or only
    counted."""

    operations: Operations
    which: TaskFilter
    effort: Effort
    shows: bool

    def walk(self, walk: Walk, behind: Key | None) -> Script[tuple[Walk, Sight]]:
        """Walks on behind this key, or from the start; returns the walk that was taken, and what was found."""
        if walk is Walk.ENDED:
            try:
                lanes = yield from self._ended_lanes()
            except TookTooLong:
                return walk, Sight(reached=self._start(behind), stopped=True)
            if lanes is not None and len(lanes) <= _MOST_LANES:
                return walk, (yield from self._ended(lanes, behind))
            if behind is not None:
                raise UsageError("cursor is too old, since there are many more task types now: leave it out")
            walk = Walk.INSERTED  # there are too many lanes to merge
        match walk:
            case Walk.WAITING | Walk.RETRIED:
                return walk, (yield from self._in_turn(self._waiting(walk, behind)))
            case Walk.HELD:
                return walk, (yield from self._held(behind))
            case Walk.IDS:
                return walk, (yield from self._in_turn(self._ids(behind)))
            case _:
                return walk, (yield from self._in_turn((yield from self._inserted(behind))))

    # One lane after the other -----------------------------------------------------------------------------------------

    def _in_turn(self, lanes: "Iterator[_Lane]") -> Script[Sight]:
        sight, effort = Sight(), self.effort
        for lane in lanes:
            place: Key | None = lane.start
            while place is not None:
                sight.reached = place
                if effort.is_over:
                    sight.stopped = True
                    return sight
                size = effort.size(sight.hits)
                try:
                    seen: Looked = yield lane.look(place, size)
                except TookTooLong:
                    sight.stopped = True
                    return sight
                found = [key for key in seen.found if lane.has(key)]
                if lane.is_descending:
                    found.reverse()
                hits = len(found) if self.shows else seen.hits
                effort.ended(seen.looked, hits)
                sight.found += found
                sight.hits += hits
                sight.at = seen.at or sight.at
                place = None if seen.looked < size or lane.ends_with(seen.last) else seen.last
                if place is not None:
                    sight.reached = place
                if sight.hits >= effort.most:
                    return sight
        sight.reached = None
        return sight

    def _waiting(self, walk: Walk, behind: Key | None) -> "Iterator[_Lane]":
        """Yields one lane for each type (and priority, if the due time is limited); one for all if no type is given."""

        def look(place: Key, most: int, which: TaskFilter = self.which) -> Operation[Looked]:
            return self.operations.list_waiting(which, place, most, retried=walk is Walk.RETRIED, shows=self.shows)

        which = self.which
        if which.task_types is None:
            start = ("", HIGHEST_PRIORITY, EARLIEST, LEAST_ID) if behind is None else behind
            yield _Lane(start, look, lambda _: True)
            return
        # A count would meet the tasks behind a lane of this size again.
        is_limited = self.shows and (which.due_before is not None or which.due_after is not None)
        due_after, due_before = which.due_after or EARLIEST, which.due_before or LATEST
        for task_type, priority in product(sorted(which.task_types), PRIORITIES if is_limited else (None,)):
            has = _of_type(task_type, priority, due_before if is_limited else None)
            place: Key = (task_type, HIGHEST_PRIORITY if priority is None else priority, due_after, LEAST_ID)
            if priority is None:
                place = (task_type, HIGHEST_PRIORITY, EARLIEST, LEAST_ID)
            if behind is not None:
                if behind[0] != task_type or (priority is not None and behind[1] != priority):
                    continue
                place, behind = behind, None
            yield _Lane(place, partial(look, which=replace(which, task_types=(task_type,))), has)

    def _ids(self, behind: Key | None) -> "Iterator[_Lane]":
        ids = sorted(self.which.ids or (), key=lambda each: each.bytes, reverse=True)
        if behind is not None:
            last: Any = behind[0]
            ids = [each for each in ids if each.bytes < last.bytes]
        for start in range(0, len(ids), _MOST_OF_IDS):
            some = ids[start : start + _MOST_OF_IDS]

            def look(_: Key, __: int, some: Sequence[UUID] = some) -> Operation[Looked]:
                return self.operations.list_ids(self.which, some, shows=self.shows)

            yield _Lane((_next(some[0]),), look, lambda _: True, is_descending=True, reads_all=True)

    def _inserted(self, behind: Key | None) -> "Script[Iterator[_Lane]]":
        """Returns the ranges of ids to look at.

        Ids of our inserts begin with their time, which a limit of the time of insertion is translated to. Other ids may
        be anywhere; all of them are looked at if the greatest id shows that there are any.
        """
        foreign_from, has_foreign = foreign_ids_from(datetime.now(UTC)), False
        if self.which.inserted_after is not None or self.which.inserted_before is not None:
            has_foreign = yield self.operations.has_ids_from(foreign_from)
        ranges = id_ranges(self.which, foreign_from, has_foreign=has_foreign)
        return self._ranges(ranges, behind)

    def _ranges(self, ranges: Sequence[tuple[UUID, UUID]], behind: Key | None) -> "Iterator[_Lane]":
        last: Any = None if behind is None else behind[0]
        for most, least in ranges:
            first = most if last is None else min(most, id_before(last))
            if first < least or (last is not None and last.int == 0):
                continue

            def look(place: Key, size: int, least: UUID = least) -> Operation[Looked]:
                begin: Any = place[0]
                begin = begin if begin == MOST_ID else id_before(begin)
                return self.operations.list_inserted(self.which, begin, least, size, shows=self.shows)

            yield _Lane((_next(first),), look, lambda _: True, is_descending=True, end=(least,))

    def _held(self, behind: Key | None) -> Script[Sight]:
        start: Key = (EARLIEST, LEAST_ID) if behind is None else behind
        most = self.effort.most
        self.effort.size(0)
        try:
            seen: Looked = yield self.operations.list_held(self.which, start, most, shows=self.shows)
        except TookTooLong:
            return Sight(reached=start, stopped=True)
        self.effort.ended(seen.looked, seen.hits)
        hits = len(seen.found) if self.shows else seen.hits
        reached = seen.found[-1] if len(seen.found) >= most else None
        return Sight(seen.found, hits, reached, seen.at, stopped=seen.looked >= MOST_HELD)

    # Several lanes at once --------------------------------------------------------------------------------------------

    def _ended_lanes(self) -> Script[list[EndedLane] | None]:
        which, states = self.which, states_of(self.which)
        if states == {TaskState.FAILED} and which.kinds is not None:
            return [EndedLane(TaskState.FAILED, None, kind) for kind in which.kinds]
        if which.task_types is not None:
            return [EndedLane(state, task_type) for state in sorted(states) for task_type in which.task_types]
        lanes: list[EndedLane] | None = yield self.operations.ended_lanes()
        return None if lanes is None else [lane for lane in lanes if lane.state in states]

    def _start(self, behind: Key | None) -> Key:
        if behind is not None:
            return behind
        before = self.which.updated_before
        return (LATEST, MOST_ID) if before is None else (before, LEAST_ID)

    def _ended(self, lanes: Sequence[EndedLane], behind: Key | None) -> Script[Sight]:
        since = self.which.updated_after or EARLIEST
        merge = _Merge(lanes, self._start(behind), self.effort, shows=self.shows)
        while not merge.has_enough:
            if self.effort.is_over:
                return merge.sight(stopped=True)
            asked = merge.next_looks()
            try:
                seen: list[Looked] = yield self.operations.list_ended(self.which, asked, since, shows=self.shows)
            except TookTooLong:
                return merge.sight(stopped=True)
            merge.take_in(asked, seen)
        return merge.sight(stopped=False)


class _Merge:
    """A walk over several lanes at once: how far each lane was seen, and what was found there.

    Args:
        start: where the walk begins in each lane.
        shows: see ``Looking``.
    """

    def __init__(self, lanes: Sequence[EndedLane], start: Key, effort: Effort, *, shows: bool) -> None:
        self._start = start
        self._effort = effort
        self._shows = shows
        self._places: dict[EndedLane, Key] = dict.fromkeys(lanes, start)  # of the lanes that have more tasks
        self._found: list[Key] = []
        self._hits = 0
        self._at: datetime | None = None

    @property
    def has_enough(self) -> bool:
        """Returns whether all lanes have been seen, or enough was found as far as all of them have been seen."""
        if not self._places:
            return True
        horizon = max(self._places.values())
        hits = sum(key >= horizon for key in self._found) if self._shows else self._hits
        return hits >= self._effort.most

    def next_looks(self) -> list[Asked]:
        """Returns the looks of the next statement; notes that it begins.

        The first looks into all lanes, every other one into the half that was seen least far: the newest tasks that
        were not seen are there.
        """
        is_first = not self._effort.looked
        lanes = sorted(self._places, key=self._places.__getitem__, reverse=True)
        if not is_first:
            lanes = lanes[: max(1, len(lanes) // 2)]
        size = self._effort.size(len(self._found) if self._shows else self._hits)
        size = min(2 * size, _MOST_AT_FIRST) if is_first else size
        each = max(_LEAST_OF_LANE, size // len(lanes))
        return [Asked(lane, self._places[lane], each) for lane in lanes]

    def take_in(self, asked: Sequence[Asked], seen: Sequence[Looked]) -> None:
        """Notes what a statement has seen, look by look."""
        self._effort.ended(sum(of.looked for of in seen), sum(of.hits for of in seen))
        for look, of in zip(asked, seen, strict=True):
            self._found += of.found
            self._hits += of.hits
            if of.last is None or of.looked < look.most:
                del self._places[look.lane]
            else:
                self._places[look.lane] = of.last
        ends = [of.at for of in seen if of.at is not None]
        self._at = min([*ends, *([] if self._at is None else [self._at])], default=None)

    def sight(self, *, stopped: bool) -> Sight:
        """Returns what was found as far as all lanes have been seen."""
        reached = max(self._places.values(), default=None)
        found = sorted(self._found, reverse=True)
        at = self._at
        if reached is not None:
            found = [key for key in found if key >= reached]
            moment: Any = reached[0]
            at = None if reached == self._start else moment
        return Sight(found, len(found) if self._shows else self._hits, reached, at, stopped)


@dataclass(frozen=True, slots=True)
class _Lane:
    """A part of a walk: it begins behind ``start``, and has the tasks with keys for which ``has`` is true.

    ``end`` is its last key, if that is known. ``reads_all`` is whether one statement looks at all of it.
    """

    start: Key
    look: Callable[[Key, int], Operation[Looked]]
    has: Callable[[Key], bool]
    is_descending: bool = False
    end: Key | None = None
    reads_all: bool = False

    def ends_with(self, last: Key | None) -> bool:
        """Returns whether nothing of it is left behind the last key looked at."""
        return last is None or self.reads_all or last == self.end or not self.has(last)


def _of_type(task_type: str, priority: int | None, due_before: datetime | None) -> Callable[[Key], bool]:
    def has(key: Any) -> bool:
        return (
            key[0] == task_type
            and (priority is None or key[1] == priority)
            and (due_before is None or key[2] < due_before)
        )

    return has


def _next(task_id: UUID) -> UUID:
    return UUID(int=min(task_id.int + 1, MOST_ID.int))
