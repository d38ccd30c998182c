"""Moves everything but tasks from one queue to another: schedules, pauses, and limits that were set by hand.

It calls what applications call, on both queues, and never changes what the target has already: that is named, and
stays. Pauses and limits are copied, since they must hold in both queues. A schedule must not tick in both, so that one
which is stored in the source takes these steps:

1. it is put into the target so that it never ticks, and paused there if it is paused;
2. it is paused in the source, for good, by ``MOVER``;
3. the ticks that are due by now are made in the source;
4. it is put into the target as it is;
5. it is removed from the source. If its class would tick there then, it stays paused instead.

A kill leaves a schedule that ticks in one of the queues, or in none: both show how far it came, and the next run goes
on from there.
"""

from collections.abc import Callable, Container, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fang_core.aside import ASIDE
from fang_core.backends.moving import MovableQueue
from fang_core.errors import StatementRefused, UsageError
from fang_core.flow.info import TypeInfo
from fang_core.schedules.schedule import Cron, Every
from fang_core.schedules.stored import MICROSECOND, Missed, Overlap, ScheduleInfo
from fang_core.words.moments import LATEST

MOVER: Final = "fang move"
"""Who pauses a schedule in the source."""

_NEVER_TICKS: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The end of a schedule that is in the target, and must not tick there yet."""


class Kept(NamedTuple):
    """A setting that is in the source alone, and why: ``what`` is like ``schedule nightly``."""

    what: str
    why: str


class MovedSettings(NamedTuple):
    """Says what a move has done with settings.

    Attributes:
        schedules: the names of those that were put into the target, or paused there.
        task_types: those that were paused or limited in the target, as they are in the source.
        kept: what was left.
    """

    schedules: list[str]
    task_types: list[str]
    kept: list[Kept]


class SettingsMover:
    """Moves the settings of some task types, or of all. See the module.

    Args:
        target_name: names the target for people.
        task_types: the types; None for all.
    """

    def __init__(
        self, source: MovableQueue, target: MovableQueue, target_name: str, task_types: Container[str] | None = None
    ) -> None:
        self._source, self._target = source, target
        self._is_moving, self._was_moved = f"it is being moved to {target_name}", f"it was moved to {target_name}"
        self._task_types = task_types
        self._done = MovedSettings([], [], [])

    def schedules(self) -> Iterator[ScheduleInfo]:
        """Yields the schedules of the source that a move deals with: stored ones, and paused ones of classes."""
        for info in self._source.schedules.list(ticks=0):
            task_type = info.task_type if info.is_stored else (info.declared or {}).get("task_type")
            has_moved = info.paused_by == MOVER and info.pause_reason == self._was_moved
            if (info.is_stored or info.paused) and self._deals_with(task_type) and not has_moved:
                yield info

    def types(self) -> Iterator[TypeInfo]:
        """Yields the task types of the source that are paused, or were limited by hand."""
        for info in self._source.limits.list():
            is_set = info.is_paused or info.changed is not None
            if is_set and info.task_type != ASIDE and self._deals_with(info.task_type):
                yield info

    def _deals_with(self, task_type: str | None) -> bool:
        return self._task_types is None or task_type in self._task_types

    def move(self) -> MovedSettings:
        """Moves them. It may be called again after any failure. Raises ``BackendError``."""
        types = {info.task_type: info for info in self._target.limits.list()}
        for managed in list(self.types()):
            self._copy_type(managed, types.get(managed.task_type))
        schedules = {info.name: info for info in self._target.schedules.list(ticks=0)}
        for info in list(self.schedules()):
            step = self._move_schedule if info.is_stored else self._pause_class
            if self._try(f"schedule {info.name}", step, info, schedules.get(info.name)):
                self._done.schedules.append(info.name)
        return self._done

    def _try(self, what: str, step: Callable[..., str | None], info: Any, there: Any) -> bool:
        """Takes a step, and returns whether that has moved a setting.

        The step returns None if it has copied the setting, otherwise why not, or an empty text if the target has it.
        """
        try:
            why = step(info, there)
        except (UsageError, StatementRefused) as error:
            why = str(error)
        if why:
            self._done.kept.append(Kept(what, why))
        return why is None

    # Task types -------------------------------------------------------------------------------------------------------

    def _copy_type(self, info: TypeInfo, there: TypeInfo | None) -> None:
        task_type, was_copied = info.task_type, False
        if info.is_paused:
            was_copied = self._try(f"the pause of {task_type}", self._pause_type, info, there)
        if info.changed is not None:
            was_copied |= self._try(f"the limits of {task_type}", self._limit, info, there)
        if was_copied:
            self._done.task_types.append(task_type)

    def _pause_type(self, info: TypeInfo, there: TypeInfo | None) -> str | None:
        if there is not None and there.is_paused:
            return "" if there.paused_until == info.paused_until else "the target has another pause of it"
        self._target.pause(info.task_type, until=info.paused_until, reason=info.pause_reason, by=info.paused_by)
        return None

    def _limit(self, info: TypeInfo, there: TypeInfo | None) -> str | None:
        assert info.changed is not None
        if there is not None and there.changed is not None:
            return "" if _texts(there) == _texts(info) else "others were set in the target"
        self._target.limits.set(info.task_type, info.changed, reason=info.change_reason, by=info.changed_by)
        return None

    # Schedules --------------------------------------------------------------------------------------------------------

    def _move_schedule(self, info: ScheduleInfo, there: ScheduleInfo | None) -> str | None:
        is_stopped = info.paused_by == MOVER
        if is_stopped and info.pause_reason != self._is_moving:
            return f"{info.pause_reason}: run that move again first, or resume it"
        is_whole = False
        if there is not None and there.is_stored:
            if not _is_same(info, there):
                return "the target has another one of this name"
            is_whole = there.until == info.until
        if is_whole and not is_stopped and info.paused and not _is_paused_alike(info, there):
            return "it is paused, and the target has it without that pause"
        if not is_whole:
            if not is_stopped or there is None:
                there = self._begin(info)
                info = self._stop(info, self._is_moving)
            if not there.paused:
                self._make_due_ticks(info)
            self._put(info, until=info.until, changed=there)
        if info.declared is None:
            self._source.schedules.remove(info.name)
        else:
            self._stop(info, self._was_moved)
        return None

    def _begin(self, info: ScheduleInfo) -> ScheduleInfo:
        """Puts a schedule into the target so that it never ticks, and paused as it is; returns it as it is there."""
        put = self._put(info, until=_NEVER_TICKS, changed=info)
        if info.paused and info.paused_by != MOVER:
            return self._pause(info)
        # It may be paused by an earlier move, and have been resumed in the source since.
        return self._target.schedules.resume(info.name) if put.paused else put

    def _pause(self, info: ScheduleInfo) -> ScheduleInfo:
        until, reason, by = info.paused_until, info.pause_reason, info.paused_by
        return self._target.schedules.pause(info.name, until=until, reason=reason, by=by)

    def _stop(self, info: ScheduleInfo, reason: str) -> ScheduleInfo:
        return self._source.schedules.pause(info.name, reason=reason, by=MOVER)

    def _make_due_ticks(self, info: ScheduleInfo) -> None:
        """Makes the ticks that pools of the source would make now, were it not stopped: their tasks are moved then."""
        start = info.last_tick + MICROSECOND
        if info.missed_within is not None and info.paused_at is not None:
            start = max(start, info.paused_at - info.missed_within)
        overlap = Overlap.ALLOW if info.missed == Missed.ALL else Overlap.SKIP
        self._source.schedules.backfill(info.name, start, LATEST, overlap=overlap)

    def _put(self, info: ScheduleInfo, *, until: datetime | None, changed: ScheduleInfo) -> ScheduleInfo:
        """Puts a schedule into the target, with this end, and with the remark of that one."""
        schedule = info.schedule
        return self._target.schedules.put(
            info.name,
            info,
            cron=schedule if isinstance(schedule, Cron) else None,
            every=schedule if isinstance(schedule, Every) else None,
            at=None if isinstance(schedule, Cron | Every) else schedule,
            tz=None if isinstance(schedule, Cron) else info.tz,
            overlap=Overlap(info.overlap),
            missed=Missed(info.missed),
            missed_within=info.missed_within,
            jitter=info.jitter,
            until=until,
            pause_on_failure=info.pause_on_failure,
            reason=changed.change_reason,
            by=changed.changed_by,
        )

    def _pause_class(self, info: ScheduleInfo, there: ScheduleInfo | None) -> str | None:
        """Pauses the schedule of a class in the target, too."""
        if there is None:
            return "it is paused, and no worker on the target has had its class: start one, and run the move again"
        if there.is_stored:
            return "it is paused, and the target has another one of this name"
        if there.paused:
            return "" if _is_paused_alike(info, there) else "the target has another pause of it"
        self._pause(info)
        return None


_COMPARED: Final = (
    *("kind", "options", "cron", "every", "at", "tz", "overlap", "missed", "missed_within", "jitter"),
    "pause_on_failure",
)
"""What two schedules that tick alike have in common, besides their payload and their end."""


def _is_same(info: ScheduleInfo, there: ScheduleInfo) -> bool:
    # Payloads as values, since databases write JSON in different ways.
    alike = info.payload == there.payload and all(getattr(info, name) == getattr(there, name) for name in _COMPARED)
    return alike and there.until in (info.until, _NEVER_TICKS)


def _is_paused_alike(info: ScheduleInfo, there: ScheduleInfo | None) -> bool:
    return there is not None and (info.paused, info.paused_until) == (there.paused, there.paused_until)


def _texts(info: TypeInfo) -> set[str]:
    return {str(rule) for rule in info.changed or ()}
