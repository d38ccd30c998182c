"""Pauses and limits task types at run time: what ``queue.limits`` is, and what calls of a queue write."""

import builtins
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from fang_core.errors import UsageError
from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import FlowRule, checked_rules
from fang_core.remarks import Remark, remark
from fang_core.tasks.arguments import checked_moment, checked_span, checked_task_type


class Pause(NamedTuple):
    """Says until when a task type or a schedule is paused: a time, or so long from now, or neither; and who says so."""

    until: datetime | None
    lasts: timedelta | None
    remark: Remark

    def end(self, now: datetime) -> datetime | None:
        """Returns when a pause that begins now ends by itself; None if it does not.

        Raises ``UsageError`` if that time has passed: such a pause would pause nothing.
        """
        if self.until is not None and self.until <= now:
            raise has_passed()
        return self.until if self.lasts is None else now + self.lasts

    def in_ascii(self) -> "Pause":
        """Returns a copy for a database that lacks a character of the remark."""
        return self._replace(remark=self.remark.in_ascii())


def has_passed() -> UsageError:
    """Returns the error of a pause that would have ended before it begins, by the clock of the backend."""
    return UsageError("until has passed already: nothing was changed")


def pause(until: datetime | timedelta | None, reason: str | None, by: str | None) -> Pause:
    """Returns what a pause writes. Raises ``UsageError``."""
    said = remark(reason, by)
    if until is None or isinstance(until, timedelta):
        return Pause(None, None if until is None else checked_span("until", until), said)
    if not isinstance(until, datetime):
        raise UsageError(f"until must be a datetime or a timedelta, not {type(until).__name__}")
    return Pause(checked_moment("until", until), None, said)


class LimitChange(NamedTuple):
    """Says which limits are set: None goes back to those that the code declares."""

    rules: tuple[FlowRule, ...] | None
    remark: Remark

    def in_ascii(self) -> "LimitChange":
        """Returns a copy for a database that lacks a character of the remark."""
        return self._replace(remark=self.remark.in_ascii())


def limited_type(task_type: str) -> str:
    """Returns the task type that is paused or limited. Raises ``UsageError`` if none can have that name."""
    if not checked_task_type(task_type) or len(task_type) > 500:
        raise UsageError("task_type must have 1 to 500 characters")
    return task_type


class _ManagesTypes(Protocol):
    def _list_types(self) -> list[TypeInfo]: ...

    def _set_limits(self, task_type: str, change: LimitChange) -> TypeInfo | None: ...


class Limits:
    """Lists, sets and removes the limits of task types at run time: ``queue.limits``."""

    def __init__(self, queue: _ManagesTypes) -> None:
        self._queue = queue

    def list(self) -> builtins.list[TypeInfo]:
        """Returns all task types that are paused, or have limits, rates or fairness, in the order of their names."""
        return self._queue._list_types()

    def set(
        self, task_type: str, limits: Iterable[FlowRule], /, *, reason: str | None = None, by: str | None = None
    ) -> TypeInfo | None:
        """Sets the limits of a task type, instead of those that its classes declare, until ``remove`` is called.

        It returns when the limits hold: no earlier claim is under way, and all tasks of the type are counted. If only
        numbers change, that is at once; otherwise no task of the type starts meanwhile, for about a second at most.
        Current runs are not stopped: with a lower limit, nothing starts until enough of them have ended.

        Args:
            task_type: the type.
            limits: all of its ``Limit``, ``Rate`` and ``Fair``; an empty list for none, whatever the code declares.
            reason, by: kept with them; ``by`` is host and pid of this process unless given.

        Returns None if the type has neither limits nor a pause then. Raises ``UsageError`` for arguments that cannot be
        used, such as a ``by=`` that is not the key of the type's tasks: their classes make it when they are inserted.
        """
        change = LimitChange(checked_rules(limits), remark(reason, by))
        return self._queue._set_limits(limited_type(task_type), change)

    def remove(self, task_type: str, /, *, by: str | None = None) -> TypeInfo | None:
        """Removes the limits that ``set`` has set, so that those of the classes hold again.

        Returns None if the type then has neither limits nor a pause. Raises ``UsageError``.
        """
        return self._queue._set_limits(limited_type(task_type), LimitChange(None, remark(None, by)))


class _ManagesTypesAsync(Protocol):
    async def _list_types(self) -> list[TypeInfo]: ...

    async def _set_limits(self, task_type: str, change: LimitChange) -> TypeInfo | None: ...


class AsyncLimits:
    """Lists, sets and removes the limits of task types at run time: ``queue.limits``."""

    def __init__(self, queue: _ManagesTypesAsync) -> None:
        self._queue = queue

    async def list(self) -> builtins.list[TypeInfo]:
        """Returns all task types that are paused, or have limits, rates or fairness, in the order of their names."""
        return await self._queue._list_types()

    async def set(
        self, task_type: str, limits: Iterable[FlowRule], /, *, reason: str | None = None, by: str | None = None
    ) -> TypeInfo | None:
        """Sets the limits of a task type, instead of those that its classes declare, until ``remove`` is called.

        It returns when the limits hold: no earlier claim is under way, and all tasks of the type are counted. If only
        numbers change, that is at once; otherwise no task of the type starts meanwhile, for about a second at most.
        Current runs are not stopped: with a lower limit, nothing starts until enough of them have ended.

        Args:
            task_type: the type.
            limits: all of its ``Limit``, ``Rate`` and ``Fair``; an empty list for none, whatever the code declares.
            reason, by: kept with them; ``by`` is host and pid of this process unless given.

        Returns None if the type has neither limits nor a pause then. Raises ``UsageError`` for arguments that cannot be
        used, such as a ``by=`` that is not the key of the type's tasks: their classes make it when they are inserted.
        """
        change = LimitChange(checked_rules(limits), remark(reason, by))
        return await self._queue._set_limits(limited_type(task_type), change)

    async def remove(self, task_type: str, /, *, by: str | None = None) -> TypeInfo | None:
        """Removes the limits that ``set`` has set, so that those of the classes hold again.

        Returns None if the type then has neither limits nor a pause. Raises ``UsageError``.
        """
        return await self._queue._set_limits(limited_type(task_type), LimitChange(None, remark(None, by)))
