"""Looks ahead: the next ticks of a schedule as clocks in its zone show them, with a mark where clocks are moved."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final, NamedTuple

from fang_core.schedules.schedule import Cron, Every, ScheduleOnce
from fang_core.schedules.walltime import wall_at

_MICROSECOND: Final = timedelta(microseconds=1)
_TWO_DAYS: Final = timedelta(days=2)
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Shift(StrEnum):
    """Says what daylight saving does to a tick.

    Attributes:
        MOVED: clocks skip the time that the pattern names; the task is due right after the gap.
        ONCE: clocks show the time twice; the task is due the first time only.
        TWICE: clocks show the time twice, and an interval is due both times.
        SKIPPED: clocks have skipped a time before this tick; an interval has no tick for it.
    """

    MOVED = "moved"
    ONCE = "once"
    TWICE = "twice"
    SKIPPED = "skipped"


class Upcoming(NamedTuple):
    """Describes a tick to come.

    Attributes:
        at: its time, in the zone of its schedule.
        shift: what daylight saving does to it; None if it does nothing.
        named: with MOVED and SKIPPED, the first time of the pattern that clocks skip, without a zone; otherwise None.
    """

    at: datetime
    shift: Shift | None = None
    named: datetime | None = None

    def __str__(self) -> str:
        """Returns the tick for people, in one line."""
        text = f"{self.at:%a} {self.at.date()} {_clock(self.at)}{self.at:%z}"
        match self.shift:
            case Shift.MOVED:
                return f"{text} (moved: clocks skip {self._skipped})"
            case Shift.SKIPPED:
                return f"{text} (no tick before it: clocks skip {self._skipped})"
            case Shift.ONCE:
                return f"{text} (clocks show it twice: the first time only)"
            case Shift.TWICE:
                return f"{text} (clocks show it twice: {'second' if self.at.fold else 'first'} time)"
        return text

    @property
    def _skipped(self) -> str:
        if self.named is None:
            return ""
        if self.named.date() == self.at.date():
            return _clock(self.named)
        return f"{self.named.date()} {_clock(self.named)}"


def upcoming(schedule: Cron | Every | ScheduleOnce, zone: tzinfo, ticks: Iterable[datetime]) -> list[Upcoming]:
    """Returns these ticks of the schedule as clocks in the zone show them. Only a ``Cron`` goes by what clocks show."""
    if not isinstance(schedule, Cron):
        return [Upcoming(tick.astimezone(zone)) for tick in ticks]
    return [_marked(schedule, tick) for tick in ticks]


def _marked(cron: Cron, tick: datetime) -> Upcoming:
    at = tick.astimezone(cron.tz)
    named = _skipped_before(cron, tick)
    if named is not None:
        return Upcoming(at, Shift.SKIPPED if cron.is_interval else Shift.MOVED, named)
    if _is_shown_twice(at):
        return Upcoming(at, Shift.TWICE if cron.is_interval else Shift.ONCE)
    return Upcoming(at)


def _skipped_before(cron: Cron, tick: datetime) -> datetime | None:
    """Returns the first time that the pattern names after the last tick, and that clocks skip before this tick."""
    last = cron.latest(_LONG_AGO, tick - _MICROSECOND) or tick - _TWO_DAYS
    named = cron.named_after(wall_at(last, cron.tz))
    return named if named is not None and named < wall_at(tick, cron.tz) else None


def _is_shown_twice(at: datetime) -> bool:
    return at.replace(fold=0).astimezone(UTC) != at.replace(fold=1).astimezone(UTC)


def _clock(moment: datetime) -> str:
    return moment.time().isoformat("seconds" if moment.second else "minutes")
