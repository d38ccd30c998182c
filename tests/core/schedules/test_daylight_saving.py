"""Daylight saving: what a pattern means in each zone of the world, for ten years, compared with cronsim."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim

from fang_core import Cron
from tests.core.schedules.walking import ticks, ticks_back

START, END = datetime(2017, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
AROUND: Final = timedelta(hours=30)
STEP: Final = timedelta(days=5)
"""No zone moves its clocks twice in so few days."""

AREAS: Final = (
    *("Africa/", "America/", "Antarctica/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/", "Pacific/"),
)
SAMPLE: Final = (
    "Europe/Berlin",
    "America/Havana",  # midnights are skipped and repeated
    "Africa/Casablanca",  # the clocks are moved for Ramadan
    "Antarctica/Troll",  # by two hours
    "Antarctica/Casey",  # by three hours, at one minute past midnight
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Chatham",  # at 2:45 and 3:45
    "Asia/Pyongyang",  # by half an hour, once
)


@dataclass(frozen=True)
class Zone:
    """A zone with what distinguishes it from the others: its first offset, and its changes with the offsets then."""

    zone: ZoneInfo = field(compare=False)
    first: timedelta
    changes: tuple[tuple[datetime, timedelta], ...]


def offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    found = moment.astimezone(zone).utcoffset()
    assert found is not None
    return found


def described(name: str) -> Zone:
    zone = ZoneInfo(name)
    days = range((END - START) // STEP)
    found = [START + day * STEP for day in days]
    changes = [change_after(zone, day) for day in found if offset(zone, day) != offset(zone, day + STEP)]
    return Zone(zone, offset(zone, START), tuple((change, offset(zone, change)) for change in changes))


def change_after(zone: ZoneInfo, low: datetime) -> datetime:
    high, old = low + STEP, offset(zone, low)
    while high - low > MINUTE:
        middle = low + (high - low) // MINUTE // 2 * MINUTE
        low, high = (middle, high) if offset(zone, middle) == old else (low, middle)
    return high


def wall(zone: ZoneInfo, moment: datetime) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


# The patterns at a change ---------------------------------------------------------------------------------------------


def walls_at(zone: ZoneInfo, change: datetime) -> set[datetime]:
    """Wall times of interest: around the change, in the gap that it makes, and in the hour that it repeats."""
    before, after = wall(zone, change - MINUTE), wall(zone, change)
    return {
        *(wall(zone, change + minutes * MINUTE) for minutes in (-15, -1, 0, 15)),
        *(before + minutes * MINUTE for minutes in (1, 16)),
        *(after - minutes * MINUTE for minutes in (1, 15)),
    }


def times_of_day(walls: set[datetime]) -> set[str]:
    hours = sorted({wall.hour for wall in walls} | {(wall.hour + 1) % 24 for wall in walls})
    listed = ",".join(map(str, hours))
    return {
        *(f"{wall.minute} {wall.hour} * * *" for wall in walls),
        f"0,30 {listed} * * *",
        f"15-50/15 {listed} * * *",
    }


def intervals(walls: set[datetime]) -> set[str]:
    return {"*/20 * * * *", "45 * * * *", "15 */2 * * *", *(f"*/15 {wall.hour} * * *" for wall in walls)}


# What to compare with -------------------------------------------------------------------------------------------------


def cronsim_ticks(pattern: str, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    for tick in CronSim(pattern, after.astimezone(zone)):
        if (at := tick.astimezone(UTC)) > until:
            return
        yield at


def named_by_clocks(pattern: str, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """The minutes at which clocks show a time that the pattern names: what an interval means, by looking at each."""
    first = after.astimezone(zone).replace(tzinfo=UTC) - timedelta(days=1)
    named = set()
    for tick in CronSim(pattern, first):
        if tick > first + timedelta(days=2) + (until - after):
            break
        named.add(tick.replace(tzinfo=None))
    minutes = (after + n * MINUTE for n in range(1, (until - after) // MINUTE + 1))
    return [minute for minute in minutes if wall(zone, minute) in named]


def moves_full_hours(zone: ZoneInfo, change: datetime) -> bool:
    return wall(zone, change).minute == 0 and (wall(zone, change - MINUTE) + MINUTE).minute == 0


# Tests ----------------------------------------------------------------------------------------------------------------


def compare_at(zone: ZoneInfo, change: datetime) -> None:
    """Compares all that may go wrong at one change.

    Times of day are always due when cronsim says so. So are intervals, if clocks move from a full hour to a full hour.
    If not, cronsim's intervals are no measure, since it looks for the next hour in whole hours: at the change it passes
    over half an hour of ticks on Lord Howe Island, and finds none for ever on the Chatham Islands. Ours are due, by
    design, at each minute at which clocks show a time that the pattern names.
    """
    walls = walls_at(zone, change)
    start, end = change - AROUND, change + AROUND
    for pattern in (*times_of_day(walls), *intervals(walls)):
        cron = Cron(pattern, zone)
        ours = list(ticks(cron, start, end))
        place = f"{pattern} in {zone} at {change}"
        if pattern in intervals(walls) and not moves_full_hours(zone, change):
            expected = named_by_clocks(pattern, zone, start, end)
        else:
            expected = list(cronsim_ticks(pattern, zone, start, end))
        assert ours == expected, place
        assert list(ticks_back(cron, start, end)) == ours[::-1], place


@pytest.mark.parametrize("name", SAMPLE)
def test_the_last_changes_of_odd_zones(name: str) -> None:
    zone = described(name)
    assert zone.changes
    for change, _ in zone.changes[-2:]:
        compare_at(zone.zone, change)


@cache
def zones() -> list[Zone]:
    """Zones of which no two have the same offsets in these ten years; together they stand for more than 400 names."""
    names = sorted(name for name in available_timezones() if name.startswith(AREAS))
    assert len(names) > 400
    return list({zone: zone for zone in map(described, names)})


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_change_of_every_zone_in_ten_years() -> None:
    assert sum(len(zone.changes) for zone in zones()) > 500
    for zone in zones():
        for change, _ in zone.changes:
            compare_at(zone.zone, change)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_day_of_ten_years_in_every_zone() -> None:
    """A time of day that the zone skips or repeats, if it does, and its neighbours: one tick for each, every day."""
    for zone in zones():
        odd = wall(zone.zone, zone.changes[0][0]) - 15 * MINUTE if zone.changes else START + timedelta(hours=2.5)
        pattern = f"{odd.minute} {odd.hour} * * *"
        ours = list(ticks(Cron(pattern, zone.zone), START, END))
        assert ours == list(cronsim_ticks(pattern, zone.zone, START, END)), (pattern, zone.zone)
        assert len(ours) in range(3651, 3654), (pattern, zone.zone)
