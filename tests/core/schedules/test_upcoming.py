"""The next ticks as people see them, with marks where daylight saving moves, drops or doubles one."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import Cron, Every, ScheduleOnce
from fang_core.schedules.stored import ticks_between
from fang_core.schedules.upcoming import Shift, Upcoming, upcoming
from fang_core.schedules.walltime import instant

BERLIN = ZoneInfo("Europe/Berlin")


def ahead(schedule: Cron | Every | ScheduleOnce, after: str, count: int = 3) -> list[Upcoming]:
    ticks = islice(ticks_between(schedule, datetime.fromisoformat(after)), count)
    return upcoming(schedule, BERLIN, ticks)


def shown(pattern: str, after: str, count: int = 3) -> list[str]:
    return [str(tick) for tick in ahead(Cron(pattern, "Europe/Berlin"), after, count)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            "30 2 * * *",
            [
                "Sat 2026-03-28 02:30+0100",
                "Sun 2026-03-29 03:00+0200 (moved: clocks skip 02:30)",
                "Mon 2026-03-30 02:30+0200",
            ],
        ),
        (
            "0 2,3 29 * *",
            [
                "Sun 2026-03-29 03:00+0200 (moved: clocks skip 02:00)",
                "Wed 2026-04-29 02:00+0200",
                "Wed 2026-04-29 03:00+0200",
            ],
        ),
        (
            "30 2,3 29 * *",
            [
                "Sun 2026-03-29 03:00+0200 (moved: clocks skip 02:30)",
                "Sun 2026-03-29 03:30+0200",
                "Wed 2026-04-29 02:30+0200",
            ],
        ),
        ("15 30 2 29 3 * 2026", ["Sun 2026-03-29 03:00+0200 (moved: clocks skip 02:30:15)"]),
        (
            "*/30 2 * * SUN",
            [
                "Sun 2026-04-05 02:00+0200 (no tick before it: clocks skip 2026-03-29 02:00)",
                "Sun 2026-04-05 02:30+0200",
                "Sun 2026-04-12 02:00+0200",
            ],
        ),
        (
            "30 */2 29 3 *",
            [
                "Sun 2026-03-29 00:30+0100",
                "Sun 2026-03-29 04:30+0200 (no tick before it: clocks skip 02:30)",
                "Sun 2026-03-29 06:30+0200",
            ],
        ),
    ],
)
def test_a_time_that_clocks_skip(pattern: str, expected: list[str]) -> None:
    assert shown(pattern, "2026-03-28T00:00+01:00") == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            "30 2 * * *",
            ["Sun 2026-10-25 02:30+0200 (clocks show it twice: the first time only)", "Mon 2026-10-26 02:30+0100"],
        ),
        (
            "*/30 2 * * *",
            [
                "Sun 2026-10-25 02:00+0200 (clocks show it twice: first time)",
                "Sun 2026-10-25 02:30+0200 (clocks show it twice: first time)",
                "Sun 2026-10-25 02:00+0100 (clocks show it twice: second time)",
                "Sun 2026-10-25 02:30+0100 (clocks show it twice: second time)",
                "Mon 2026-10-26 02:00+0100",
            ],
        ),
        ("0 3 * * *", ["Sun 2026-10-25 03:00+0100", "Mon 2026-10-26 03:00+0100"]),
    ],
)
def test_a_time_that_clocks_show_twice(pattern: str, expected: list[str]) -> None:
    assert shown(pattern, "2026-10-25T00:00+02:00", len(expected)) == expected


def test_what_programs_read() -> None:
    moved = ahead(Cron("30 2 * * *", BERLIN), "2026-03-28T12:00+01:00")[0]

    assert moved == (datetime(2026, 3, 29, 3, tzinfo=BERLIN), Shift.MOVED, datetime(2026, 3, 29, 2, 30))  # noqa: DTZ001
    assert moved.at.tzinfo is BERLIN


def test_elapsed_time_and_a_single_time_are_shown_in_the_zone_without_marks() -> None:
    every = Every(timedelta(hours=24), datetime(2026, 3, 28, 1, 30, tzinfo=UTC))

    assert [str(tick) for tick in ahead(every, "2026-03-28T00:00+00:00")] == [
        "Sat 2026-03-28 02:30+0100",
        "Sun 2026-03-29 03:30+0200",
        "Mon 2026-03-30 03:30+0200",
    ]
    once = ScheduleOnce(datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    assert [str(tick) for tick in ahead(once, "2026-01-01T00:00+00:00")] == ["Sun 2026-10-25 02:30+0100"]


@given(
    st.sampled_from(["30 2 * * *", "0,30 1-3 * * *", "*/20 * * * *", "15 */2 * * *", "*/15 2 * * *", "45 1 * * *"]),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "Antarctica/Troll", "America/Havana", "Pacific/Chatham"]),
    st.integers(0, 365 * 48).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + n * timedelta(minutes=30)),
)
def test_only_moved_ticks_come_at_a_time_that_the_pattern_does_not_name(
    pattern: str, zone: str, after: datetime
) -> None:
    cron = Cron(pattern, zone)
    second = timedelta(seconds=1)
    for tick in upcoming(cron, cron.tz, islice(ticks_between(cron, after), 20)):
        wall = tick.at.replace(tzinfo=None, fold=0)
        if tick.shift is not Shift.MOVED:
            assert cron.named_after(wall - second) == wall
        if tick.named is not None:
            assert cron.named_after(tick.named - second) == tick.named
            assert instant(tick.named, cron.tz, 0) is None
