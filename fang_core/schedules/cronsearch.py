"""Finds the wall time of a cron pattern that is next to a given one, in either direction; it knows no time zones.

Fields are turned like the wheels of an odometer, so that the cost does not depend on how far away the next time is.
"""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Final

from fang_core.schedules.cronfields import LAST, LAST_DAY, LAST_WEEKDAY, CronFields

_YEARS: Final = 50  # 29 February on a certain weekday can be 40 years away
_SECOND: Final = timedelta(seconds=1)


def after(fields: CronFields, wall: datetime) -> datetime | None:
    """Returns the first time after ``wall``; None if none comes within fifty years, or in the years of the pattern."""
    return _next_to(fields, wall.replace(microsecond=0), forward=True)


def until(fields: CronFields, wall: datetime) -> datetime | None:
    """Returns the last time not after ``wall``; None if none was within fifty years, or in the years of the pattern."""
    return _next_to(fields, wall.replace(microsecond=0) + _SECOND, forward=False)


def _next_to(fields: CronFields, wall: datetime, *, forward: bool) -> datetime | None:
    wheels = (fields.hours, fields.minutes, fields.seconds)
    if _names(fields, wall.date()):
        turned = _turned(wheels, (wall.hour, wall.minute, wall.second), forward)
        if turned is not None:
            return datetime.combine(wall.date(), _time(turned))
    day = _day_next_to(fields, wall.date(), forward)
    return None if day is None else datetime.combine(day, _time(_first(wheel, forward) for wheel in wheels))


def _time(numbers: Iterable[int]) -> time:
    hour, minute, second = numbers
    return time(hour, minute, second)


# Days -----------------------------------------------------------------------------------------------------------------


def _names(fields: CronFields, day: date) -> bool:
    good_year = fields.years is None or day.year in fields.years
    good_month = good_year and day.month in fields.months
    return good_month and _names_day(fields, day.day, *monthrange(day.year, day.month))


def _day_next_to(fields: CronFields, day: date, forward: bool) -> date | None:
    for year, month in _months_from(fields, day, forward):
        start = day.day if (year, month) == (day.year, day.month) else 0 if forward else 32
        found = _neighbour(_days_of(fields, year, month), start, forward)
        if found is not None:
            return date(year, month, found)
    return None


def _months_from(fields: CronFields, day: date, forward: bool) -> Iterator[tuple[int, int]]:
    """Yields the months of the pattern, from that of ``day`` on, as (year, month)."""
    years = fields.years or range(max(day.year - _YEARS, 1), min(day.year + _YEARS, 9999) + 1)
    if day.year in years and day.month in fields.months:
        yield day.year, day.month
    turned = _turned((years, fields.months), (day.year, day.month), forward)
    while turned is not None:
        year, month = turned
        yield year, month
        turned = _turned((years, fields.months), turned, forward)


def _days_of(fields: CronFields, year: int, month: int) -> list[int]:
    first, length = monthrange(year, month)
    return [day for day in range(1, length + 1) if _names_day(fields, day, first, length)]


def _names_day(fields: CronFields, day: int, first: int, length: int) -> bool:
    """Returns whether the day fields name this day of a month whose first weekday is ``first``: 0 is Monday."""
    in_month = (
        day in fields.days
        or (day == length and LAST_DAY in fields.days)
        or (LAST_WEEKDAY in fields.days and day == length - max((first + length - 1) % 7 - 4, 0))
    )
    in_week = _is_on_weekday(fields, (first + day) % 7, day, length)
    return in_month or in_week if fields.either else in_month and in_week


def _is_on_weekday(fields: CronFields, weekday: int, day: int, length: int) -> bool:
    return (
        weekday in fields.weekdays
        or (weekday, (day + 6) // 7) in fields.nth
        or (day + 7 > length and (weekday, LAST) in fields.nth)
    )


# Wheels: sorted numbers -----------------------------------------------------------------------------------------------


def _turned(wheels: Sequence[Sequence[int]], at: tuple[int, ...], forward: bool) -> tuple[int, ...] | None:
    """Returns the least combination of the wheels' numbers above ``at``; backward, the greatest one below it."""
    for place in reversed(range(len(wheels))):
        if all(number in wheel for number, wheel in zip(at[:place], wheels, strict=False)):
            moved = _neighbour(wheels[place], at[place], forward)
            if moved is not None:
                return (*at[:place], moved, *(_first(wheel, forward) for wheel in wheels[place + 1 :]))
    return None


def _neighbour(wheel: Sequence[int], number: int, forward: bool) -> int | None:
    if forward:
        index = bisect_right(wheel, number)
        return wheel[index] if index < len(wheel) else None
    index = bisect_left(wheel, number)
    return wheel[index - 1] if index else None


def _first(wheel: Sequence[int], forward: bool) -> int:
    return wheel[0 if forward else -1]
