"""Walks through tasks in the order of a list, a bounded number at a time.

``fang_core.tasks.selecting.walks`` decides which walk finds the tasks of a filter. The indexes that claims and upkeep
go by already have each of these orders: those of one priority, or all of ended tasks, merge while they are read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.lifecycle import TERMINAL_STATES
from fang_core.monitoring.listing import Key
from fang_core.record import HIGHEST_PRIORITY, Task, TaskState
from fang_core.tasks.selecting.filter import ANY_TASK, TaskFilter
from fang_core.tasks.selecting.walks import Walk, states_of
from fang_core.words.moments import EARLIEST
from fang_redis.connections.sending import Sending
from fang_redis.layout import LEVEL
from fang_redis.operations import Argument, Operation, Verb
from fang_redis.records import id_in, microseconds, moment_in, task_of, time_of

MOST_AT_ONCE: Final = 250
"""How many tasks one script of a walk reads at most: that takes a millisecond or two."""

MOST_INDEXES: Final = 1_000
"""How many indexes one script of a walk looks at, unless those of one priority alone are more."""


class Seen(NamedTuple):
    """The next tasks of a walk, without their errors.

    Attributes:
        now: the server's clock.
        behind: where to go on; None if the walk has come to its end.
    """

    now: datetime
    tasks: list[Task]
    behind: Key | None


class Names(NamedTuple):
    """Lists the existing indexes: the levels of each type, the types with ended tasks, the pools that hold some."""

    now: datetime
    levels: Mapping[str, list[str]]
    ended: list[str]
    holders: list[str]


class Group(NamedTuple):
    """Indexes that merge; ``place`` is the type and the priority of their tasks, if the walk goes by these."""

    place: tuple[str, int] | None
    keys: list[str]


def matcher(which: TaskFilter) -> Callable[[Task], bool]:
    """Returns what decides whether a task of the filter's walk matches.

    A walk through ids has no other tasks: to look up each of thousands among thousands would take seconds.
    """
    return (which if which.ids is None else replace(which, ids=None)).matches


class Walking:
    """Reads tasks in the order of a walk."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def look(self, which: TaskFilter, walk: Walk, behind: Key | None, most: int) -> Verb[Seen]:
        """Reads up to ``most`` tasks behind a place, or from the start. Not all of them need to match the filter: its
        types, kinds and states are heeded where an index tells them, and the times by which it is ordered."""
        most = min(most, MOST_AT_ONCE)
        match walk:
            case Walk.IDS:
                return (yield from self._ids(which, behind, most))
            case Walk.INSERTED:
                return (yield from self._latest(behind, most))
            case Walk.HELD:
                return (yield from self._held(which, behind, most))
        names = yield from self.names(which)
        if walk is Walk.ENDED:
            groups = [Group(None, list(lines_of_ended(which, names)))]
            return (yield from self._merged(walk, groups, (which.updated_before, which.updated_after), behind, most))
        groups = _groups_of_waiting(which, names, behind)
        return (yield from self._merged(walk, groups, (which.due_after, which.due_before), behind, most))

    def names(self, which: TaskFilter) -> Operation[Names]:
        """Reads which indexes there are of the filter's task types."""
        return self._sending.script("names", *(which.task_types or ()), parse=_names_of)

    def _ids(self, which: TaskFilter, behind: Key | None, most: int) -> Verb[Seen]:
        wanted = sorted((each for each in which.ids or () if behind is None or each < _id(behind)), reverse=True)
        read = yield from self._sending.read(wanted[:most])
        last = wanted[most - 1] if len(wanted) > most else None
        return Seen(read.now, list(read.tasks.values()), None if last is None else (last,))

    def _latest(self, behind: Key | None, most: int) -> Verb[Seen]:
        now, *rest = yield from self._sending.script("latest", most, "" if behind is None else str(_id(behind)))
        return _seen(
            Walk.INSERTED, now, [(None, "0", *each) for each in zip(rest[::2], rest[1::2], strict=True)], most, behind
        )

    def _held(self, which: TaskFilter, behind: Key | None, most: int) -> Verb[Seen]:
        pools = [str(each) for each in which.pool_ids or ()]
        if which.pool_ids is None:
            pools = (yield from self.names(ANY_TASK)).holders
        place = _place(behind)
        now, *rest = yield from self._sending.script("held", most, *place, *pools)
        return _seen(
            Walk.HELD,
            now,
            [(None, time, id_, row) for id_, time, row in zip(rest[::3], rest[1::3], rest[2::3], strict=True)],
            most,
            behind,
        )

    def _merged(
        self,
        walk: Walk,
        groups: Sequence[Group],
        bounds: tuple[datetime | None, datetime | None],
        behind: Key | None,
        most: int,
    ) -> Verb[Seen]:
        """Goes through groups of indexes, those of one after those of another, each from one time to another."""
        args: list[Argument] = ["-" if walk is Walk.ENDED else "+", most, *_place(behind)]
        args += ["" if each is None else microseconds(each) for each in bounds]
        looked, indexes = 0, 0
        for group in groups:
            if indexes and indexes + len(group.keys) > MOST_INDEXES:
                break
            args += (len(group.keys), *group.keys)
            looked, indexes = looked + 1, indexes + len(group.keys)
        now, *rest = yield from self._sending.script("walk", *args)
        rows = zip(rest[::4], rest[2::4], rest[1::4], rest[3::4], strict=True)
        placed = [(groups[number].place, *each) for number, *each in rows]
        seen = _seen(walk, now, placed, most, behind)
        if seen.behind is None and looked < len(groups):
            place = groups[looked].place
            assert place is not None
            return seen._replace(behind=(*place, EARLIEST, UUID(int=0)))
        return seen


def _seen(walk: Walk, now: str, rows: Sequence[Any], most: int, before: Key | None) -> Seen:
    """Returns what was read: of each task the type and the priority of its index, if the walk goes by these, its score
    there, its id and its fields. There may be more if that is as much as was asked for.

    Tasks whose hashes were removed by hand are skipped. The walk goes on behind the place in the index, whatever
    another client has written into the hash.
    """
    known = [row for row in rows if id_in(row[2]) is not None]
    tasks = [_placed(walk, task_of(task_id, fields), place, score) for place, score, task_id, fields in known if fields]
    behind = _key(walk, *known[-1][:3]) if known and len(rows) == most else None
    return Seen(time_of(now), tasks, None if behind == before else behind)


def _placed(walk: Walk, task: Task, place: tuple[str, int] | None, score: str) -> Task:
    """Returns a task as its index has it, so that a list goes on behind it."""
    match walk:
        case Walk.HELD:
            return task._replace(claimed_at=moment_in(score))
        case Walk.ENDED:
            return task._replace(updated_at=moment_in(score))
        case Walk.WAITING | Walk.RETRIED if place is not None:
            task_type, priority = place
            return task._replace(task_type=task_type, priority=priority, scheduled_at=moment_in(score))
    return task


def _key(walk: Walk, place: tuple[str, int] | None, score: str, task_id: str) -> Key:
    """Returns where an entry of an index stands in a walk: as ``position`` does for a task."""
    if walk is Walk.INSERTED:
        return (UUID(task_id),)
    return (*(place or ()), moment_in(score), UUID(task_id))


def _id(key: Key) -> UUID:
    value = key[-1]
    assert isinstance(value, UUID)
    return value


def _place(behind: Key | None) -> tuple[Argument, Argument]:
    """Returns the time and the id of a place."""
    if behind is None:
        return "", ""
    time = behind[-2]
    assert isinstance(time, datetime)
    return microseconds(time), str(_id(behind))


def lines_of_ended(which: TaskFilter, names: Names) -> Iterator[str]:
    """Yields the indexes of the ended tasks that may match."""
    states = states_of(which)
    for state in TERMINAL_STATES:
        if state in states:
            for task_type in names.ended:
                yield f"done:{state}:{task_type}"


def lines_of_waiting(which: TaskFilter, names: Names) -> Iterator[tuple[tuple[str, int], str]]:
    """Yields the type and the priority, and the index, of the waiting tasks that may match."""
    states = states_of(which)
    for task_type, levels in names.levels.items():
        size = len(task_type.encode())
        for level in levels:
            parts = LEVEL.fullmatch(level)
            if parts is None:  # another client has written it
                continue
            digit, mark, kind = parts.groups()
            state = TaskState.NEW if mark == "-" else TaskState.RETRIED
            if state in states and (which.kinds is None or kind in which.kinds):
                yield (task_type, int(digit) + HIGHEST_PRIORITY), f"line:{size}:{task_type}:{level}"


def _groups_of_waiting(which: TaskFilter, names: Names, behind: Key | None) -> list[Group]:
    """Returns the lines of each type and priority, from those of the place on."""
    found = sorted(lines_of_waiting(which, names))
    groups = [Group(place, [key for _, key in each]) for place, each in groupby(found, key=itemgetter(0))]
    if behind is None:
        return groups
    at: Any = behind[:2]
    left = [group for group in groups if group.place is not None and group.place >= at]
    if not left or left[0].place != at:
        left.insert(0, Group(at, []))  # the place is that of a line that is gone
    return left


def _names_of(reply: Sequence[Any]) -> Names:
    now, levels, ended, holders = reply
    return Names(time_of(now), {task_type: each for task_type, *each in levels}, ended, holders)
