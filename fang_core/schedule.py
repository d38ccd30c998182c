"""When a class is due by itself: ``Cron`` and ``ScheduleOnce``.

Pure values: the clock is an argument. ``next_after`` and ``latest`` search one and the same sequence of ticks, forward
and backward, so that a scheduler that was away finds the tick that it missed without counting through the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fang_core import cronsearch
from fang_core.cronfields import CronFields
from fang_core.errors import UsageError
from fang_core.naming import names_arguments
from fang_core.walltime import gap_around, instant, reached

# Making a value asks no clock: what lies before this library was written is surely past, and a year that passes later
# does not keep a program from starting.
_WRITTEN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_GAPS: Final = 100  # two a year for fifty years: a pattern that meets nothing but gaps never fires


@names_arguments
@dataclass(frozen=True, slots=True, init=False)
class Cron:
    """Due at the times that a pattern names, in a zone.

    Five fields, ``minute hour day-of-month month day-of-week``, as in Debian's cron: ``*``, ``5``, ``1-5``, ``*/15``,
    ``1-30/2``, lists with commas, names (``JAN``, ``MON``), 0 and 7 for Sunday; as day of month ``L`` and ``LW`` (the
    last day, the last one from Monday to Friday); as day of week ``5L`` and ``MON#2`` (the last Friday, the second
    Monday). Where both day fields are given, one of them suffices, unless one starts with ``*``: then both must match.
    ``@hourly``, ``@daily``, ``@midnight``, ``@weekly``, ``@monthly``, ``@yearly`` and ``@annually`` are good too.

    Six fields have seconds first, seven years last (1970-2100), as in Rust's Fang. But weekdays count as everywhere:
    Fang's 1 is Sunday, here 1 is Monday. Write names where a pattern is to serve both.

    A time that the zone skips runs once, right after the gap; one that it repeats runs once, the first time. A pattern
    whose minute or hour starts with ``*`` means "every so often": it follows elapsed time, so that it skips what is
    skipped and repeats what is repeated.

    Attributes:
        pattern: the pattern as given.
        tz: its zone; UTC unless told otherwise.

    Raises:
        UsageError: a pattern that cannot be read or never fires (from 2026 on), or an unknown zone.
    """

    pattern: str
    tz: tzinfo
    _fields: CronFields = field(repr=False, compare=False)

    def __init__(self, pattern: str, tz: str | tzinfo = "UTC") -> None:
        if not isinstance(pattern, str):
            raise UsageError(f"a cron pattern is text, not a {type(pattern).__name__}")
        try:
            fields = CronFields.parse(pattern)
        except UsageError as error:
            raise UsageError(f"cron {pattern!r:.100}: {error}") from None
        for name, value in (("pattern", pattern), ("tz", _zone(tz)), ("_fields", fields)):
            object.__setattr__(self, name, value)
        if self.next_after(_WRITTEN) is None:
            raise UsageError(f"cron {pattern!r:.100} never fires: no such date will come")

    def next_after(self, moment: datetime) -> datetime | None:
        """The first tick after ``moment``, in UTC; None where none comes (fifty years, or those of the pattern)."""
        return min(self._ticks_beside(_utc(moment), forward=True), default=None)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last tick in ``after < tick <= until``, in UTC; None where there is none."""
        after = _utc(after)
        tick = max(self._ticks_beside(_utc(until), forward=False), default=after)
        return tick if tick > after else None

    def _ticks_beside(self, moment: datetime, *, forward: bool) -> Iterator[datetime]:
        """The nearest tick of each passing of the clocks: elapsed time counts both, a time of day the first alone."""
        for fold in (0, 1) if self._fields.elapsed else (0,):
            tick = self._tick_beside(moment, fold, forward)
            if tick is not None:
                yield tick

    def _tick_beside(self, moment: datetime, fold: int, forward: bool) -> datetime | None:
        search = cronsearch.after if forward else cronsearch.until
        wall = search(self._fields, reached(moment, self.tz, fold))
        for _ in range(_MOST_GAPS):
            if wall is None:
                return None
            tick = instant(wall, self.tz, fold)
            if tick is not None:
                return tick
            gap = gap_around(wall, self.tz)
            if not self._fields.elapsed:
                return gap.at
            wall = search(self._fields, gap.after if forward else gap.before)
        return None


@names_arguments
@dataclass(frozen=True, slots=True)
class ScheduleOnce:
    """Due once, at ``at``: a datetime with a zone, kept in UTC. Raises ``UsageError`` where the zone is missing."""

    at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", _utc(self.at))

    def next_after(self, moment: datetime) -> datetime | None:
        """Its one tick, if it comes after ``moment``."""
        return self.at if self.at > _utc(moment) else None

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Its one tick, if ``after < tick <= until``."""
        return self.at if _utc(after) < self.at <= _utc(until) else None


Schedule = Cron | ScheduleOnce


def as_schedule(value: str | Schedule) -> Schedule:
    """Reads a bare pattern as a ``Cron`` in UTC. Raises ``UsageError``."""
    if isinstance(value, Cron | ScheduleOnce):
        return value
    if isinstance(value, str):
        return Cron(value)
    raise UsageError(f"a schedule is a pattern, a Cron or a ScheduleOnce, not a {type(value).__name__}")


def _zone(tz: str | tzinfo) -> tzinfo:
    if hasattr(tz, "localize"):
        raise UsageError("zones of pytz do not know skipped and repeated times; give the zone's name")
    if isinstance(tz, tzinfo):
        return tz
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError, AttributeError, OSError):
        raise UsageError(f"there is no time zone {tz!r:.60}; give a name like 'Europe/Berlin'") from None


def _utc(moment: datetime) -> datetime:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        given = "has no time zone" if isinstance(moment, datetime) else f"is a {type(moment).__name__}"
        raise UsageError(f"the time {given}; give a datetime with one, like datetime.now(UTC)")
    return moment.astimezone(UTC)
