"""Defines when tasks are due by themselves: ``Cron``, ``Every`` and ``ScheduleOnce``.

They are pure values: the clock is an argument. ``next_after`` and ``latest`` search the same sequence of ticks, forward
and backward, so that a scheduler that was away finds the last tick that it missed without counting through all ticks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fang_core.errors import UsageError
from fang_core.schedules import cronsearch
from fang_core.schedules.cronfields import CronFields
from fang_core.schedules.walltime import gap_around, instant, reached
from fang_core.words.moments import check_range
from fang_core.words.naming import names_arguments

# Making a schedule reads no clock. Times before this library was written are surely past, and a pattern whose years end
# later does not keep a program from starting.
_WRITTEN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_GAPS: Final = 100  # two a year for fifty years: a pattern that names only skipped times never fires


@names_arguments
@dataclass(frozen=True, slots=True, init=False)
class Cron:
    """A schedule that is due at the times that a pattern names, in a time zone.

    Five fields, ``minute hour day-of-month month day-of-week``, as in Debian's cron: ``*``, ``5``, ``1-5``, ``*/15``,
    ``1-30/2``, lists with commas, names (``JAN``, ``MON``), 0 and 7 for Sunday; as day of month ``L`` and ``LW`` (the
    last day, the last one from Monday to Friday); as day of week ``5L`` and ``MON#2`` (the last Friday, the second
    Monday). If both day fields are given, one of them suffices, unless one starts with ``*``: then both must match.
    ``@hourly``, ``@daily``, ``@midnight``, ``@weekly``, ``@monthly``, ``@yearly`` and ``@annually`` are accepted too.

    Six fields have seconds first, seven also have years last (1970-2100), as in Rust's Fang. But weekdays count as in
    cron: 1 is Monday here, and Sunday in Rust's Fang. Write names if a pattern is to serve both.

    If the zone skips a time, it is due once, right after the gap; if the zone repeats a time, it is due once, the first
    time. A pattern whose minute or hour starts with ``*`` means "every so often": it follows elapsed time, so that it
    has no tick for a skipped time and two for a repeated one.

    Attributes:
        pattern: the pattern as given.
        tz: its time zone; UTC unless given.

    Raises:
        UsageError: the pattern cannot be read or never fires (from 2026 on), or the zone is unknown.
    """

    pattern: str
    tz: tzinfo
    _fields: CronFields = field(repr=False, compare=False)

    def __init__(self, pattern: str, tz: str | tzinfo = "UTC") -> None:
        if not isinstance(pattern, str):
            raise UsageError(f"a cron pattern is text, not {type(pattern).__name__}")
        try:
            fields = CronFields.parse(pattern)
        except UsageError as error:
            raise UsageError(f"cron {pattern!r:.100}: {error}") from None
        for name, value in (("pattern", pattern), ("tz", zone_of(tz)), ("_fields", fields)):
            object.__setattr__(self, name, value)
        if self.next_after(_WRITTEN) is None:
            raise UsageError(f"cron {pattern!r:.100} never fires: no such date will come")

    def next_after(self, moment: datetime) -> datetime | None:
        """Returns the first tick after ``moment``, in UTC; None if none comes in fifty years or the pattern's years."""
        return min(self._nearest_ticks(_utc(moment), forward=True), default=None)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Returns the last tick in ``after < tick <= until``, in UTC; None if there is none."""
        after = _utc(after)
        tick = max(self._nearest_ticks(_utc(until), forward=False), default=after)
        return tick if tick > after else None

    @property
    def is_interval(self) -> bool:
        """Returns whether it means "every so often", and follows elapsed time: its minute or hour starts with ``*``."""
        return self._fields.elapsed

    def named_after(self, wall: datetime) -> datetime | None:
        """Returns the first time after ``wall`` that the pattern names, both without a zone; None if none comes.

        It is for showing what a zone does to a schedule: clocks may skip that time, or show it twice.
        """
        return cronsearch.after(self._fields, wall)

    def _nearest_ticks(self, moment: datetime, *, forward: bool) -> Iterator[datetime]:
        """Yields the nearest tick for each ``fold``: elapsed time counts both, a time of day only the first."""
        for fold in (0, 1) if self._fields.elapsed else (0,):
            tick = self._nearest_tick(moment, fold, forward)
            if tick is not None:
                yield tick

    def _nearest_tick(self, moment: datetime, fold: int, forward: bool) -> datetime | None:
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
    """A schedule that is due once, at ``at``: a datetime with a zone, kept in UTC. Raises ``UsageError``."""

    at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", _kept(self.at))

    def next_after(self, moment: datetime) -> datetime | None:
        """Returns ``at`` if it comes after ``moment``, otherwise None."""
        return self.at if self.at > _utc(moment) else None

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Returns ``at`` if ``after < at <= until``, otherwise None."""
        return self.at if _utc(after) < self.at <= _utc(until) else None


SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(days=36_600)
"""The shortest and the longest interval of ``Every``."""


@names_arguments
@dataclass(frozen=True, slots=True)
class Every:
    """A schedule that is due again and again after the same time, whatever the clocks on the wall do.

    It is for schedules that are put into the database.

    Attributes:
        interval: the time from one tick to the next: between a second and a hundred years.
        anchor: a time at which it is due, from which all other ticks are counted, before it and after it: a datetime
            with a zone, kept in UTC. The time at which the schedule is put, in whole seconds, unless given.

    Raises:
        UsageError: the interval is too short or too long, or the anchor has no zone, or no zone can show it.
    """

    interval: timedelta
    anchor: datetime | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.interval, timedelta):
            raise UsageError(f"an interval is a timedelta, not {type(self.interval).__name__}")
        if not SHORTEST <= self.interval <= LONGEST:
            raise UsageError("an interval must be between a second and a hundred years")
        if self.anchor is not None:
            object.__setattr__(self, "anchor", _kept(self.anchor))

    def next_after(self, moment: datetime) -> datetime | None:
        """Returns the first tick after ``moment``, in UTC; None if it comes too late for a datetime.

        Raises ``UsageError`` without an anchor.
        """
        anchor = self._anchored()
        try:
            return anchor + ((_utc(moment) - anchor) // self.interval + 1) * self.interval
        except OverflowError:
            return None

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Returns the last tick in ``after < tick <= until``, in UTC; None if there is none.

        Raises ``UsageError`` without an anchor.
        """
        anchor = self._anchored()
        try:
            tick = anchor + (_utc(until) - anchor) // self.interval * self.interval
        except OverflowError:  # the first tick that a datetime can hold comes later
            return None
        return tick if tick > _utc(after) else None

    def _anchored(self) -> datetime:
        if self.anchor is None:
            raise UsageError("Every needs an anchor to know its ticks: a schedule in the database has one")
        return self.anchor


Schedule = Cron | ScheduleOnce
"""What a task class can have as its schedule."""


def as_schedule(value: str | Schedule) -> Schedule:
    """Reads a bare pattern as a ``Cron`` in UTC. Raises ``UsageError``."""
    if isinstance(value, Cron | ScheduleOnce):
        return value
    if isinstance(value, str):
        return Cron(value)
    raise UsageError(f"a schedule is a pattern, a Cron or a ScheduleOnce, not {type(value).__name__}")


_OF_THE_MACHINE: Final = frozenset({"localtime", "local", "posixrules", "Factory"})
"""Names in a zone database that mean another zone on each machine, or none."""


def zone_of(tz: str | tzinfo) -> tzinfo:
    """Returns the zone of this name.

    Raises ``UsageError`` if there is none, it is one of pytz, or it is another zone on each machine: the pools of two
    machines would make the ticks at different times.
    """
    if hasattr(tz, "localize"):
        raise UsageError("zones of pytz do not know skipped and repeated times; give the zone's name")
    name = tz if isinstance(tz, str) else getattr(tz, "key", None)
    if name in _OF_THE_MACHINE:
        raise UsageError(f"the time zone {name!r} is another one on each machine; give a name like 'Europe/Berlin'")
    if isinstance(name, str) and name.startswith("right/"):
        raise UsageError(f"the time zone {name!r} counts leap seconds, which no clock here does: give {name[6:]!r}")
    if isinstance(tz, tzinfo):
        return tz
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError, AttributeError, OSError):
        raise UsageError(f"there is no time zone {tz!r:.60}; give a name like 'Europe/Berlin'") from None


def _kept(moment: datetime) -> datetime:
    """Returns a time of the schedule's own in UTC: one that clocks in each zone can show."""
    _check_zone(moment)
    check_range("the time", moment)
    return moment.astimezone(UTC)


def _utc(moment: datetime) -> datetime:
    _check_zone(moment)
    return moment.astimezone(UTC)


def _check_zone(moment: datetime) -> None:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        given = "has no time zone" if isinstance(moment, datetime) else f"is a {type(moment).__name__}"
        raise UsageError(f"the time {given}; give a datetime with one, like datetime.now(UTC)")
