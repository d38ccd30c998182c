"""Puts, pauses, lists and removes schedules: what ``queue.schedules`` is, in both modes.

A method checks its arguments and makes a ``ScheduleCall``; the queue has its backend carry it out.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, Unpack
from uuid import UUID

from uuid_utils import uuid7

from fang_core.errors import UsageError, WrongArguments
from fang_core.record import Task
from fang_core.remarks import Remark, remark
from fang_core.schedules.schedule import Cron, Every, ScheduleOnce
from fang_core.schedules.stored import (
    Missed,
    Overlap,
    ScheduleInfo,
    Schedules,
    ScheduleSpec,
    checked_backfill,
    checked_name,
    refuse_cancelling,
    schedule_spec,
)
from fang_core.tasks.arguments import checked_id
from fang_core.tasks.insertion import NewTask, Overrides, Rules
from fang_core.tasks.managing import pause
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.stored import stored_row
from fang_core.words.naming import no_option

T = TypeVar("T")

OverlapName: TypeAlias = Overlap | Literal["allow", "skip", "queue_one", "cancel_running"]
MissedName: TypeAlias = Missed | Literal["skip", "latest", "all"]

Verb: TypeAlias = Literal["put", "pause", "resume", "remove", "list_all", "run_now", "backfill"]


class ScheduleCall(NamedTuple, Generic[T]):
    """Names a verb on schedules, with its checked arguments."""

    verb: Verb
    args: tuple[Any, ...] = ()

    @property
    def rows(self) -> list[NewTask]:
        """The tasks that the call stores."""
        return [arg for arg in self.args if isinstance(arg, NewTask)]


# The calls ------------------------------------------------------------------------------------------------------------

LIST: Final = ScheduleCall[Schedules]("list_all")


_NOT_FOR_SCHEDULES: Final = ("scheduled_at", "delay")
_OF_PUT: Final = {
    *inspect.getfullargspec(schedule_spec).kwonlyargs,
    *("reason", "by", "connection"),
    *InsertOptions.__annotations__.keys() - set(_NOT_FOR_SCHEDULES),
}
"""The keywords of ``put``."""


def put_call(spec: ScheduleSpec, row: NewTask, said: Remark) -> ScheduleCall[ScheduleInfo]:
    """Returns the call of ``put``. Raises ``UsageError``."""
    if row.uniq_hash is not None:
        refuse_cancelling(spec.overlap)
    return ScheduleCall("put", (spec, row, said))


def task_of_schedule(task: BaseRunnable | ScheduleInfo, options: InsertOptions, rules: Rules) -> NewTask:
    """Returns what a schedule stores of its task. Raises ``UsageError`` or ``PayloadError``."""
    for option in options:
        if option not in InsertOptions.__annotations__:
            raise WrongArguments(f"put: {no_option(option, _OF_PUT)}")
    if isinstance(task, ScheduleInfo):
        if options:
            raise UsageError(
                f"{', '.join(options)}: a schedule keeps the options that it has; give a task with new ones"
            )
        return stored_row(task, UUID(int=0))
    for option in _NOT_FOR_SCHEDULES:
        if options.get(option) is not None:
            raise UsageError(f"{option}= is not for a schedule, which says itself when its tasks are due")
    if isinstance(options.get("expires"), datetime):
        raise UsageError("the tasks of a schedule expire so long after they are due: give expires= as a timedelta")
    return Overrides(**options).new_task(task, rules)


def pause_call(
    name: str, until: datetime | timedelta | None, by: str | None, reason: str | None
) -> ScheduleCall[ScheduleInfo]:
    """Returns the call of ``pause``. Raises ``UsageError``."""
    return ScheduleCall("pause", (checked_name(name), pause(until, reason, by)))


def resume_call(name: str, by: str | None, reason: str | None) -> ScheduleCall[ScheduleInfo]:
    """Returns the call of ``resume``. Raises ``UsageError``."""
    return ScheduleCall("resume", (checked_name(name), remark(reason, by)))


def run_now_call(name: str, id: UUID | None, rules: Rules) -> ScheduleCall[Task]:
    """Returns the call of ``run_now``. Raises ``UsageError``."""
    task_id = UUID(int=uuid7().int) if id is None else checked_id(id, "id")
    return ScheduleCall("run_now", (checked_name(name), task_id, rules))


def remove_call(name: str) -> ScheduleCall[bool]:
    """Returns the call of ``remove``. Raises ``UsageError``."""
    return ScheduleCall("remove", (checked_name(name),))


def backfill_call(name: str, start: datetime, end: datetime, overlap: str, rules: Rules) -> ScheduleCall[int]:
    """Returns the call of ``backfill``. Raises ``UsageError``."""
    args = (checked_name(name), checked_backfill(start, end, overlap), rules)
    return ScheduleCall("backfill", args)


SHOWN: Final = 5
"""How many of the next ticks ``list`` shows by default."""
_MOST_SHOWN: Final = 100

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


def checked_ticks(ticks: int) -> int:
    """Returns how many ticks to show of each schedule. Raises ``UsageError``."""
    if isinstance(ticks, bool) or not isinstance(ticks, int) or not 0 <= ticks <= _MOST_SHOWN:
        raise UsageError(f"ticks must be a number between 0 and {_MOST_SHOWN}")
    return ticks


def in_order(found: Schedules, ticks: int) -> list[ScheduleInfo]:
    """Returns the schedules with their next ticks, in the order of these; those that have none come last."""
    infos = [info.with_upcoming(found.now, ticks) for info in found.infos]
    return sorted(infos, key=lambda info: (info.upcoming[0].at if info.upcoming else _NEVER, info.name))


# What a queue has -----------------------------------------------------------------------------------------------------


class DoesCalls(Protocol):
    """Makes the backend of a queue carry out a call, in the caller's transaction if a connection is given."""

    def __call__(self, call: ScheduleCall[T], connection: Any, /) -> T: ...


class DoesCallsAsync(Protocol):
    """Does the same in asyncio code."""

    def __call__(self, call: ScheduleCall[T], connection: Any, /) -> Awaitable[T]: ...


class QueueSchedules:
    """Puts, pauses, lists and removes the schedules in the database: ``queue.schedules``."""

    def __init__(self, do: DoesCalls, rules: Rules) -> None:
        self._do = do
        self._rules = rules

    def put(
        self,
        name: str,
        task: BaseRunnable | ScheduleInfo,
        /,
        *,
        cron: str | Cron | None = None,
        every: timedelta | Every | None = None,
        at: datetime | ScheduleOnce | None = None,
        tz: str | tzinfo | None = None,
        overlap: OverlapName = Overlap.ALLOW,
        missed: MissedName = Missed.LATEST,
        missed_within: timedelta | None = None,
        jitter: timedelta | None = None,
        until: datetime | None = None,
        pause_on_failure: bool = False,
        reason: str | None = None,
        by: str | None = None,
        connection: Any = None,
        **options: Unpack[InsertOptions],
    ) -> ScheduleInfo:
        """Stores a schedule, or changes the one of this name; it takes effect at once.

        Returns it as it is stored. Its ``upcoming`` is empty: ``list`` finds the next ticks.

        Every tick inserts ``task`` as it is now; pools of its task type make the ticks, whether or not they know its
        class. If a class has a schedule of this name (its kind, or the oldest of its former kinds), this one takes its
        place until it is removed. A schedule that is new, or gets other times, begins now: no earlier tick is made up
        for. Putting an equal schedule changes nothing. A pause stays.

        Args:
            name: the name by which it is known, 1 to 500 characters.
            task: the task that each tick inserts; or a schedule of ``list``, whose task and options are taken.
            cron, every, at: when it is due: a pattern, an interval of elapsed time, or a single time. Give one.
            tz: the name of the zone in which a pattern is meant, and ticks are shown; UTC unless given.
            overlap: what a tick does if the task of the last tick waits or runs; see ``Overlap``.
            missed: what happens with ticks that no pool made in time; see ``Missed``.
            missed_within: how late a tick may be. 60 seconds with ``"skip"``, a day with ``"all"``, and without a limit
                with ``"latest"``, unless given.
            jitter: each task is due later than its tick by up to this, always the same for the same tick.
            until: no tick comes after this time, which has a zone.
            pause_on_failure: whether a tick that finds the last tick's task failed pauses the schedule instead.
            reason, by: kept with it; ``by`` is host and pid of this process unless given.
            connection: a connection of the caller's; the schedule is then committed or rolled back with its writes.
            **options: as for an insert, without ``scheduled_at`` and ``delay``; ``expires`` is a ``timedelta``.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was written.
            UsageError: an argument cannot be used; nothing was written.
        """
        spec = schedule_spec(
            name,
            cron=cron,
            every=every,
            at=at,
            tz=tz,
            overlap=overlap,
            missed=missed,
            missed_within=missed_within,
            jitter=jitter,
            until=until,
            pause_on_failure=pause_on_failure,
        )
        row = task_of_schedule(task, options, self._rules)
        return self._do(put_call(spec, row, remark(reason, by)), connection)

    def pause(
        self,
        name: str,
        /,
        *,
        until: datetime | timedelta | None = None,
        reason: str | None = None,
        by: str | None = None,
        connection: Any = None,
    ) -> ScheduleInfo:
        """Stops the ticks of a schedule until ``resume`` is called, or ``until``. Tasks that were already inserted run.

        Ticks that fall into the pause are not made up for. A pause of a schedule that is paused replaces that one.

        Args:
            name: the name of a schedule that was put, or of one of a class.
            until: when the pause ends by itself: a time with a zone, or a ``timedelta`` from now.
            reason, by: kept with it; ``by`` is host and pid of this process unless given.
            connection: a connection of the caller's; the pause begins when its transaction is committed.

        Raises ``UnknownSchedule``, which suggests the nearest names, and ``UsageError``.
        """
        return self._do(pause_call(name, until, by, reason), connection)

    def resume(
        self, name: str, /, *, reason: str | None = None, by: str | None = None, connection: Any = None
    ) -> ScheduleInfo:
        """Ends the pause of a schedule. It does nothing if there is none. Raises like ``pause``."""
        return self._do(resume_call(name, by, reason), connection)

    def run_now(self, name: str, /, *, id: UUID | None = None, connection: Any = None) -> Task:
        """Inserts a task of a schedule that is due now, and returns its row. The ticks are not affected.

        It does so even if the schedule is paused, or its last task has not ended. If the task is unique and an equal
        one waits or runs, that one is returned with ``conflict`` true.

        Args:
            name: the name of a schedule.
            id: the id of the new row, as for an insert: a call that is repeated with it, such as for a second click,
                returns the row that is there, with ``conflict`` true, and inserts nothing.
            connection: a connection of the caller's; the task is then committed or rolled back with its writes.

        Raises like ``pause``; ``UsageError`` also if the schedule is of a class that this process does not know, and
        ``IdInUse`` if the row with this id has another payload.
        """
        return self._do(run_now_call(name, id, self._rules), connection)

    def remove(self, name: str, /, *, connection: Any = None) -> bool:
        """Removes a schedule; returns whether there was one. Its tasks stay.

        If a class has a schedule of this name, that one ticks again, and is not paused.
        """
        return self._do(remove_call(name), connection)

    def list(self, *, ticks: int = SHOWN, connection: Any = None) -> builtins.list[ScheduleInfo]:
        """Returns all schedules in the order of their next ticks, those that have none at the end.

        ``ScheduleInfo.upcoming`` holds the next ``ticks`` of each, 0 to 100. To find them takes most of the time:
        thousands of schedules are listed at once with 0, by their names. Schedules of classes are among them once a
        pool that serves them has started.

        Raises ``UsageError``.
        """
        checked_ticks(ticks)
        return in_order(self._do(LIST, connection), ticks)

    def backfill(
        self,
        name: str,
        start: datetime,
        end: datetime,
        /,
        *,
        overlap: OverlapName = Overlap.ALLOW,
        connection: Any = None,
    ) -> int:
        """Inserts the tasks of the ticks from ``start`` to ``end``, both included; returns how many.

        Ticks whose task exists are left out, so that a second call inserts nothing twice unless a task was removed. So
        are ticks in the future.

        Args:
            name: the name of a schedule.
            start, end: times with a zone.
            overlap: with ``"allow"`` there is a task for each tick, 10,000 at most. With any other value only the
                latest is inserted, and judged as for a tick.
            connection: a connection of the caller's; the tasks are then committed or rolled back with its writes.

        Raises like ``run_now``; ``UsageError`` also if there are too many ticks.
        """
        return self._do(backfill_call(name, start, end, overlap, self._rules), connection)


class AsyncQueueSchedules:
    """Puts, pauses, lists and removes the schedules in the database: ``queue.schedules``."""

    def __init__(self, do: DoesCallsAsync, rules: Rules) -> None:
        self._do = do
        self._rules = rules

    async def put(
        self,
        name: str,
        task: BaseRunnable | ScheduleInfo,
        /,
        *,
        cron: str | Cron | None = None,
        every: timedelta | Every | None = None,
        at: datetime | ScheduleOnce | None = None,
        tz: str | tzinfo | None = None,
        overlap: OverlapName = Overlap.ALLOW,
        missed: MissedName = Missed.LATEST,
        missed_within: timedelta | None = None,
        jitter: timedelta | None = None,
        until: datetime | None = None,
        pause_on_failure: bool = False,
        reason: str | None = None,
        by: str | None = None,
        connection: Any = None,
        **options: Unpack[InsertOptions],
    ) -> ScheduleInfo:
        """Stores a schedule, or changes the one of this name; it takes effect at once.

        Returns it as it is stored. Its ``upcoming`` is empty: ``list`` finds the next ticks.

        Every tick inserts ``task`` as it is now; pools of its task type make the ticks, whether or not they know its
        class. If a class has a schedule of this name (its kind, or the oldest of its former kinds), this one takes its
        place until it is removed. A schedule that is new, or gets other times, begins now: no earlier tick is made up
        for. Putting an equal schedule changes nothing. A pause stays.

        Args:
            name: the name by which it is known, 1 to 500 characters.
            task: the task that each tick inserts; or a schedule of ``list``, whose task and options are taken.
            cron, every, at: when it is due: a pattern, an interval of elapsed time, or a single time. Give one.
            tz: the name of the zone in which a pattern is meant, and ticks are shown; UTC unless given.
            overlap: what a tick does if the task of the last tick waits or runs; see ``Overlap``.
            missed: what happens with ticks that no pool made in time; see ``Missed``.
            missed_within: how late a tick may be. 60 seconds with ``"skip"``, a day with ``"all"``, and without a limit
                with ``"latest"``, unless given.
            jitter: each task is due later than its tick by up to this, always the same for the same tick.
            until: no tick comes after this time, which has a zone.
            pause_on_failure: whether a tick that finds the last tick's task failed pauses the schedule instead.
            reason, by: kept with it; ``by`` is host and pid of this process unless given.
            connection: a connection of the caller's; the schedule is then committed or rolled back with its writes.
            **options: as for an insert, without ``scheduled_at`` and ``delay``; ``expires`` is a ``timedelta``.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was written.
            UsageError: an argument cannot be used; nothing was written.
        """
        spec = schedule_spec(
            name,
            cron=cron,
            every=every,
            at=at,
            tz=tz,
            overlap=overlap,
            missed=missed,
            missed_within=missed_within,
            jitter=jitter,
            until=until,
            pause_on_failure=pause_on_failure,
        )
        row = task_of_schedule(task, options, self._rules)
        return await self._do(put_call(spec, row, remark(reason, by)), connection)

    async def pause(
        self,
        name: str,
        /,
        *,
        until: datetime | timedelta | None = None,
        reason: str | None = None,
        by: str | None = None,
        connection: Any = None,
    ) -> ScheduleInfo:
        """Stops the ticks of a schedule until ``resume`` is called, or ``until``. Tasks that were already inserted run.

        Ticks that fall into the pause are not made up for. A pause of a schedule that is paused replaces that one.

        Args:
            name: the name of a schedule that was put, or of one of a class.
            until: when the pause ends by itself: a time with a zone, or a ``timedelta`` from now.
            reason, by: kept with it; ``by`` is host and pid of this process unless given.
            connection: a connection of the caller's; the pause begins when its transaction is committed.

        Raises ``UnknownSchedule``, which suggests the nearest names, and ``UsageError``.
        """
        return await self._do(pause_call(name, until, by, reason), connection)

    async def resume(
        self, name: str, /, *, reason: str | None = None, by: str | None = None, connection: Any = None
    ) -> ScheduleInfo:
        """Ends the pause of a schedule. It does nothing if there is none. Raises like ``pause``."""
        return await self._do(resume_call(name, by, reason), connection)

    async def run_now(self, name: str, /, *, id: UUID | None = None, connection: Any = None) -> Task:
        """Inserts a task of a schedule that is due now, and returns its row. The ticks are not affected.

        It does so even if the schedule is paused, or its last task has not ended. If the task is unique and an equal
        one waits or runs, that one is returned with ``conflict`` true.

        Args:
            name: the name of a schedule.
            id: the id of the new row, as for an insert: a call that is repeated with it, such as for a second click,
                returns the row that is there, with ``conflict`` true, and inserts nothing.
            connection: a connection of the caller's; the task is then committed or rolled back with its writes.

        Raises like ``pause``; ``UsageError`` also if the schedule is of a class that this process does not know, and
        ``IdInUse`` if the row with this id has another payload.
        """
        return await self._do(run_now_call(name, id, self._rules), connection)

    async def remove(self, name: str, /, *, connection: Any = None) -> bool:
        """Removes a schedule; returns whether there was one. Its tasks stay.

        If a class has a schedule of this name, that one ticks again, and is not paused.
        """
        return await self._do(remove_call(name), connection)

    async def list(self, *, ticks: int = SHOWN, connection: Any = None) -> builtins.list[ScheduleInfo]:
        """Returns all schedules in the order of their next ticks, those that have none at the end.

        ``ScheduleInfo.upcoming`` holds the next ``ticks`` of each, 0 to 100. To find them takes most of the time:
        thousands of schedules are listed at once with 0, by their names. Schedules of classes are among them once a
        pool that serves them has started.

        Raises ``UsageError``.
        """
        checked_ticks(ticks)
        return in_order(await self._do(LIST, connection), ticks)

    async def backfill(
        self,
        name: str,
        start: datetime,
        end: datetime,
        /,
        *,
        overlap: OverlapName = Overlap.ALLOW,
        connection: Any = None,
    ) -> int:
        """Inserts the tasks of the ticks from ``start`` to ``end``, both included; returns how many.

        Ticks whose task exists are left out, so that a second call inserts nothing twice unless a task was removed. So
        are ticks in the future.

        Args:
            name: the name of a schedule.
            start, end: times with a zone.
            overlap: with ``"allow"`` there is a task for each tick, 10,000 at most. With any other value only the
                latest is inserted, and judged as for a tick.
            connection: a connection of the caller's; the tasks are then committed or rolled back with its writes.

        Raises like ``run_now``; ``UsageError`` also if there are too many ticks.
        """
        return await self._do(backfill_call(name, start, end, overlap, self._rules), connection)
