"""Walks through the tasks of a filter in the order of its list: along an index, from a place on.

The rows come one by one, also those that do not match, so that who walks can stop at any time, and go on from there
with another call. A walk through ended tasks merges those of all types, each of which an index has in its order.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from fang_core.errors import UsageError
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.monitoring.listing import Key
from fang_core.record import HIGHEST_PRIORITY, PRIORITIES, TaskState
from fang_core.tasks.selecting.filter import TaskFilter, contains
from fang_core.tasks.selecting.walks import LEAST_ID, MOST_ID, Walk, foreign_ids_from, id_before, id_ranges, states_of
from fang_core.words.moments import EARLIEST, LATEST
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.reading.filters import where
from fang_sqlite.records import from_json, micros, moment
from fang_sqlite.schema import DUE, ENDED

MOST_MERGED: Final = 200
"""Ended tasks of so many types are merged; if there are more, they are found in the order of their ids."""

_MOST_IDS: Final = 500
_LEAST, _MOST = micros(EARLIEST), micros(LATEST)

Place: TypeAlias = tuple[Any, ...]
"""Where a row stands in a walk, as the tables have it."""


class Seen(NamedTuple):
    """A row that a walk has come to.

    Attributes:
        place: where it stands; the last part is the bytes of its id.
        at: the time that the order has for it, in microseconds.
        matches: whether the filter holds for it.
    """

    place: Place
    at: int
    matches: bool


def key_of(place: Place) -> Key:
    """Returns the key that a cursor has for a place; the part before the id, if there is one, is a time."""
    *parts, id_ = place
    if parts:
        parts[-1] = moment(parts[-1])
    return (*parts, UUID(bytes=id_))


def place_of(key: Key) -> Place:
    """Returns the place of a cursor's key."""
    return tuple(
        each.bytes if isinstance(each, UUID) else micros(each) if isinstance(each, datetime) else each for each in key
    )


@dataclass(slots=True)
class Walking:
    """One walk through the tasks of a filter.

    Attributes:
        walk: the walk that is taken: in the order of ids, if there are too many types of ended tasks.
    """

    tx: Transaction
    which: TaskFilter
    walk: Walk

    def rows(self, behind: Place | None) -> Iterator[Seen]:
        """Yields the rows behind this place, or all. Raises ``UsageError`` if there cannot be such a place any more."""
        if self.walk is Walk.ENDED:
            lanes = self._ended_lanes()
            if len(lanes) <= MOST_MERGED:
                return self._ended(lanes, behind)
            if behind is not None and len(behind) > 1:
                raise UsageError("cursor is too old, since there are many more task types now: leave it out")
            self.walk = Walk.INSERTED
        match self.walk:
            case Walk.WAITING | Walk.RETRIED:
                return self._waiting(behind)
            case Walk.HELD:
                return self._held(behind)
            case Walk.IDS:
                return self._ids(behind)
            case _:
                return self._inserted(behind)

    def _select(self, key: str, at: str, rest: str, values: Iterable[Any]) -> Iterator[Seen]:
        """Yields the rows that the rest of a statement finds."""
        condition = where(self.which)
        matches: Callable[[Any], bool] = bool
        found = f"({condition.sql})"
        if not condition.is_exact:
            found, matches = f"CASE WHEN {found} THEN metadata END", self._has_payload
        sql = f"SELECT {found}, {at}, {key} FROM fang_tasks {rest}"
        for match, time, *place in self.tx.connection.execute(sql, (*condition.values, *values)):
            yield Seen(tuple(place), time, matches(match))

    def _has_payload(self, metadata: str | None) -> bool:
        try:
            return metadata is not None and contains(from_json(metadata), self.which.payload)
        except ValueError:  # the row was edited by hand
            return False

    # Tasks that wait --------------------------------------------------------------------------------------------------

    def _waiting(self, behind: Place | None) -> Iterator[Seen]:
        """Goes from lane to lane: each has the tasks of a type and a priority, in the order in which they are due."""
        which = self.which
        state, index = (DUE, "due") if self.walk is Walk.WAITING else ("state = 'retried'", "retried")
        source = f"INDEXED BY fang_tasks_{index} WHERE {state}"
        least = _LEAST if which.due_after is None else micros(which.due_after)
        most = _MOST if which.due_before is None else micros(which.due_before) - 1
        start: Place = ("", HIGHEST_PRIORITY) if behind is None else behind[:2]
        for lane in self._lanes(source, start):
            place = (least, b"") if behind is None or lane != behind[:2] else behind[2:]
            yield from self._select(
                "task_type, priority, scheduled_at, id",
                "scheduled_at",
                f"""{source} AND task_type = ? AND priority = ? AND (scheduled_at, id) > (?, ?) AND scheduled_at <= ?
  ORDER BY scheduled_at, id""",
                (*lane, *place, most),
            )

    def _lanes(self, source: str, start: Place) -> Iterator[Place]:
        """Yields the lanes that the filter's types have, or all, from this one on."""
        if self.which.task_types is not None:
            lanes = ((task_type, priority) for task_type in sorted(self.which.task_types) for priority in PRIORITIES)
            yield from (lane for lane in lanes if lane >= start)
            return
        sql = f"""SELECT task_type, priority FROM fang_tasks {source} AND (task_type, priority) %s (?, ?)
  ORDER BY task_type, priority LIMIT 1"""
        lane = self.tx.row(sql % ">=", start)
        while lane is not None:
            yield lane
            lane = self.tx.row(sql % ">", lane)

    # Tasks in progress ------------------------------------------------------------------------------------------------

    def _held(self, behind: Place | None) -> Iterator[Seen]:
        since = "coalesce(claimed_at, updated_at)"
        rest = f"""INDEXED BY fang_tasks_held WHERE pool_id IS NOT NULL AND state = 'in_progress'
  AND ({since}, id) > (?, ?) ORDER BY {since}, id"""
        return self._select(f"{since}, id", since, rest, (_LEAST, b"") if behind is None else behind)

    # Tasks that have ended --------------------------------------------------------------------------------------------

    def _ended_lanes(self) -> list[Place]:
        """Returns the states and types, or kinds, of the filter's tasks: what an index has in the order of time."""
        which, states = self.which, sorted(states_of(self.which).intersection(TERMINAL_STATES))
        if states == [TaskState.FAILED] and which.kinds is not None:
            return [("kind", each) for each in which.kinds]
        if which.task_types is not None:
            return [(state.value, each) for state in states for each in which.task_types]
        sql = f"""SELECT state, task_type FROM fang_tasks INDEXED BY fang_tasks_ended
  WHERE {ENDED} AND state = ? AND task_type > ? ORDER BY task_type LIMIT 1"""

        def of_state(state: TaskState) -> Iterator[Place]:
            lane = self.tx.row(sql, (state.value, ""))
            while lane is not None:
                yield lane
                lane = self.tx.row(sql, lane)

        return list(islice((lane for state in states for lane in of_state(state)), MOST_MERGED + 1))

    def _ended(self, lanes: Iterable[Place], behind: Place | None) -> Iterator[Seen]:
        which = self.which
        most: Place = (_MOST, MOST_ID.bytes)
        if which.updated_before is not None:
            most = (micros(which.updated_before), LEAST_ID.bytes)
        most = most if behind is None else min(most, behind)
        least = _LEAST if which.updated_after is None else micros(which.updated_after)

        def of_lane(state: str, name: str) -> Iterator[Seen]:
            source = f"fang_tasks_ended WHERE {ENDED} AND state = '{state}' AND task_type = ?"
            if state == "kind":
                source = "fang_tasks_failed_kinds WHERE state = 'failed' AND kind = ?"
            rest = f"""INDEXED BY {source} AND (updated_at, id) < (?, ?) AND updated_at >= ?
  ORDER BY updated_at DESC, id DESC"""
            return self._select("updated_at, id", "updated_at", rest, (name, *most, least))

        return merge(*(of_lane(*lane) for lane in lanes), key=_place, reverse=True)

    # Tasks by their ids -----------------------------------------------------------------------------------------------

    def _inserted(self, behind: Place | None) -> Iterator[Seen]:
        for most, least in ranges_of(self.tx, self.which):
            first = most if behind is None else min(most, id_before(UUID(bytes=behind[-1])).bytes)
            if first >= least and not (behind is not None and behind[-1] == LEAST_ID.bytes):
                rest = "WHERE id <= ? AND id >= ? ORDER BY id DESC"
                yield from self._select("id", "created_at", rest, (first, least))

    def _ids(self, behind: Place | None) -> Iterator[Seen]:
        ids = sorted((each.bytes for each in self.which.ids or ()), reverse=True)
        left = iter([each for each in ids if behind is None or each < behind[-1]])
        while some := list(islice(left, _MOST_IDS)):
            rest = f"WHERE id IN ({', '.join('?' * len(some))}) ORDER BY id DESC"
            yield from self._select("id", "created_at", rest, some)


def ranges_of(tx: Transaction, which: TaskFilter) -> list[tuple[bytes, bytes]]:
    """Returns the ranges of ids to look at, from the greatest id of each to the least."""
    foreign_from, has_foreign = foreign_ids_from(tx.now), False
    if which.inserted_after is not None or which.inserted_before is not None:
        has_foreign = tx.row("SELECT 1 FROM fang_tasks WHERE id >= ?", (foreign_from.bytes,)) is not None
    return [(most.bytes, least.bytes) for most, least in id_ranges(which, foreign_from, has_foreign=has_foreign)]


def _place(seen: Seen) -> Place:
    return seen.place
