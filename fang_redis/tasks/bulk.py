"""Cancels, retries and removes tasks: one, or all that match a filter, a batch at a time.

A batch reads tasks, decides in Python what becomes of each, and writes those that still are as they were read. Those
that have changed meanwhile are read again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from fang_core.backends.rows import after_cancel, after_change, can_be_cancelled
from fang_core.backends.verbs import Batch
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES, change_by_hand
from fang_core.monitoring.listing import Key
from fang_core.record import Task, TaskState
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.selecting.walks import position, states_of, walk_of
from fang_redis.connections.sending import TRIES, Sending, later
from fang_redis.layout import MOST_ROWS, TOLD
from fang_redis.operations import Argument, Operation, Verb
from fang_redis.reading.walking import MOST_AT_ONCE, Walking, matcher
from fang_redis.records import fields_of, microseconds

Decision: TypeAlias = Callable[[Task, datetime], Task | None]
"""Returns what becomes of a task by this time: its next row; the same if nothing does; None if it is removed."""

_WAITING, _RETRIED = frozenset(DUE_STATES), frozenset({TaskState.RETRIED})
_HELD, _ENDED = frozenset({TaskState.IN_PROGRESS}), frozenset(TERMINAL_STATES)


_CHANGED_AT_ONCE: Final = 100
"""How many tasks one script changes, since the server answers no other client meanwhile: some milliseconds."""

_LEAST: Final = 20
"""How many tasks a batch looks at first, at least."""


class _Place(NamedTuple):
    """Says where a call for many tasks goes on.

    Attributes:
        began: when the call began: it leaves alone what was inserted later.
        walk: the number of the walk.
        behind: where that goes on.
    """

    began: datetime
    walk: int = 0
    behind: Key | None = None


class Bulk:
    """The verbs that cancel, retry and remove."""

    def __init__(self, sending: Sending, walking: Walking) -> None:
        self._sending = sending
        self._walking = walking

    def cancel(self, task_id: UUID, wanted: Cancellation, /) -> Verb[Task | None]:
        """See ``Verbs.cancel``."""
        read = yield from self._sending.read([task_id])
        if task_id in read.tasks:
            yield from self._changed([read.tasks[task_id]], read.now, _cancels(wanted), lambda _: True)
            read = yield from self._sending.read([task_id])
        task = read.tasks.get(task_id)
        if task is not None and task.state is TaskState.IN_PROGRESS:  # again if it was asked before, and not heard
            yield from self._sending.say(f"{TOLD}{task.pool_id}")
        return task

    def cancel_batch(self, which: TaskFilter, wanted: Cancellation, limit: int, place: Any, /) -> Verb[Batch]:
        """See ``Verbs.cancel_batch``."""
        return (yield from self._batch(which, (_WAITING, _HELD), _cancels(wanted), limit, place))

    def retry_batch(self, which: TaskFilter, limit: int, place: Any, /) -> Verb[Batch]:
        """See ``Verbs.retry_batch``."""
        return (yield from self._batch(which, (_ENDED, _RETRIED), _retries, limit, place))

    def remove_batch(self, which: TaskFilter, limit: int, place: Any, /) -> Verb[Batch]:
        """See ``Verbs.remove_batch``."""
        if which == TaskFilter(all_tasks=True):
            return (yield from self._remove_all(min(limit, MOST_ROWS), place))
        return (yield from self._batch(which, (_WAITING, _HELD, _ENDED), _removes, limit, place))

    def _remove_all(self, limit: int, place: Any) -> Verb[Batch]:
        """Removes whatever is there, without reading payloads."""
        at: _Place = place or _Place((yield from self._sending.read(())).now)
        before, count = "" if at.behind is None else str(at.behind[-1]), 0
        while count < limit:
            most = min(limit - count, MOST_AT_ONCE)
            removed, before = yield from self._sending.script("remove_all", most, before, microseconds(at.began))
            count += removed
            if not before:
                return Batch(count, None)
        return Batch(count, at._replace(behind=(UUID(before),)))

    def remove_scheduled_batch(self, limit: int, place: Any, /) -> Verb[Batch]:
        """See ``Verbs.remove_scheduled_batch``."""
        began = place.began if place else (yield from self._sending.read(())).now
        which = TaskFilter(states=TaskState.NEW, due_after=began)
        return (yield from self._batch(which, (_WAITING,), _removes_scheduled, limit, place))

    def _batch(
        self, which: TaskFilter, states: Sequence[frozenset[TaskState]], decide: Decision, limit: int, place: Any
    ) -> Verb[Batch]:
        """Goes on with the walks through the tasks of some states, until this many tasks have changed."""
        walks = list(_walks(which, states))
        at: _Place = place or _Place((yield from self._sending.read(())).now)
        left = min(limit, MOST_ROWS)
        count, most = 0, max(left, _LEAST)
        while at.walk < len(walks) and left > 0:
            wanted = walks[at.walk]
            walk, matches = walk_of(wanted), matcher(wanted)
            assert walk is not None
            seen = yield from self._walking.look(wanted, walk, at.behind, most)
            there = (task for task in seen.tasks if task.created_at <= at.began and matches(task))
            tasks = [task for task in there if decide(task, seen.now) is not task]
            behind = seen.behind
            if len(tasks) > left:
                behind = position(walk, tasks[left - 1]).key
            count += yield from self._changed(tasks[:left], seen.now, decide, matches)
            left -= len(tasks)
            most = MOST_AT_ONCE  # few of those that were looked at match
            at = _Place(at.began, at.walk + 1) if behind is None else at._replace(behind=behind)
        return Batch(count, at if at.walk < len(walks) else None)

    def _changed(
        self, tasks: Iterable[Task], now: datetime, decide: Decision, matches: Callable[[Task], bool]
    ) -> Verb[int]:
        """Changes these tasks, those that have changed meanwhile if they still match; returns how many were changed."""
        count = 0
        for _ in range(TRIES):
            changes = [(task, after) for task in tasks if (after := decide(task, later(now, task))) is not task]
            if not changes:
                return count
            stale: list[str] = []
            for start in range(0, len(changes), _CHANGED_AT_ONCE):
                some = changes[start : start + _CHANGED_AT_ONCE]
                passed_by, twins = yield from self._change(some)
                count += len(some) - len(passed_by) - len(twins)
                stale += passed_by
            if not stale:
                return count
            read = yield from self._sending.read([UUID(each) for each in stale])
            tasks, now = [task for task in read.tasks.values() if matches(task)], read.now
        return count

    def _change(self, changes: Sequence[tuple[Task, Task | None]]) -> Operation[Any]:
        args: list[Argument] = []
        for task, after in changes:
            args += (str(task.id), task.state.value, str(task.attempt), microseconds(task.updated_at))
            if after is None:
                args += (-1, 0)
                continue
            before, fields = _pairs(task), _pairs(after)
            written = [text for name, value in fields.items() if before.get(name) != value for text in (name, value)]
            deleted = [name for name in before if name not in fields]
            args += (len(written) // 2, len(deleted), *written, *deleted)
        return self._sending.script("change", *args)


def _walks(which: TaskFilter, states: Sequence[frozenset[TaskState]]) -> Iterable[TaskFilter]:
    """Yields the filter, narrowed to some states after others, as far as it may match any task then."""
    for each in states:
        narrowed = replace(which, states=tuple(states_of(which) & each), all_tasks=False)
        if walk_of(narrowed) is not None:
            yield narrowed


def _pairs(task: Task) -> dict[str, str]:
    fields = fields_of(task)
    return dict(zip(fields[::2], fields[1::2], strict=True))


# What becomes of a task -----------------------------------------------------------------------------------------------


def _cancels(wanted: Cancellation) -> Decision:
    return lambda task, now: after_cancel(task, wanted, now) if can_be_cancelled(task) else task


def _retries(task: Task, now: datetime) -> Task:
    if task.state in TERMINAL_STATES:
        return after_change(task, change_by_hand(task, TaskState.NEW), now)
    if task.state is TaskState.RETRIED and task.scheduled_at > now:
        return task._replace(scheduled_at=now, updated_at=now)
    return task


def _removes(_: Task, __: datetime) -> None:
    return None


def _removes_scheduled(task: Task, now: datetime) -> Task | None:
    return None if task.attempt == 0 and task.scheduled_at > now else task
