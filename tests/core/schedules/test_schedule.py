"""Schedules: what a pattern means is compared with cronsim, and both directions of a search with each other."""

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fang_core import Cron, ScheduleOnce, UsageError
from fang_core.schedules.schedule import Every, as_schedule
from fang_core.schedules.stored import schedule_spec
from tests.core.schedules.walking import MICROSECOND, ticks, ticks_back
from tests.effort import at_most
from tests.examples import as_often

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
LORD_HOWE, CASABLANCA = ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Africa/Casablanca")
ZONES = [UTC, BERLIN, NEW_YORK, LORD_HOWE, CASABLANCA]
# A day that was skipped, midnights that are skipped and repeated, a jump of two hours.
ODD_ZONES = [ZoneInfo(name) for name in ("Pacific/Apia", "America/Havana", "Antarctica/Troll")]

EVER = datetime(1900, 1, 1, tzinfo=UTC)


# What to compare with -------------------------------------------------------------------------------------------------


def cronsim_next(pattern: str, zone: tzinfo, moment: datetime) -> datetime | None:
    # cronsim forgets which passing of a repeated hour it starts in: start before it.
    ticks = CronSim(pattern, (moment - timedelta(hours=3)).astimezone(zone))
    return next((tick.astimezone(UTC) for tick in ticks if tick.astimezone(UTC) > moment), None)


def cronsim_latest(pattern: str, zone: tzinfo, moment: datetime) -> datetime | None:
    ticks = CronSim(pattern, (moment + timedelta(hours=3)).astimezone(zone), reverse=True)
    return next((tick.astimezone(UTC) for tick in ticks if tick.astimezone(UTC) <= moment), None)


@cache
def changes(zone: tzinfo) -> list[datetime]:
    """The first instants with another offset, in some years of interest."""
    hours = (datetime(2023, 1, 1, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(2 * 24 * 365 * 3))
    if zone == ZoneInfo("Pacific/Apia"):
        hours = (datetime(2011, 12, 25, tzinfo=UTC) + timedelta(hours=n) for n in range(24 * 10))
    pairs = pairwise((hour, hour.astimezone(zone).utcoffset()) for hour in hours)
    return [hour for (_, before), (hour, after) in pairs if before != after]


anytime = st.integers(0, 20 * 366 * 86_400).map(
    lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(0, seconds)
)


def moments(zone: tzinfo) -> st.SearchStrategy[datetime]:
    """Anywhere, and often near a change of the clocks, where the difficulties are."""
    if not changes(zone):
        return anytime
    near = st.builds(
        lambda change, minutes, seconds: change + timedelta(minutes=minutes, seconds=seconds),
        st.sampled_from(changes(zone)),
        st.integers(-200, 200),
        st.sampled_from([0, 0, 1, 59, -0.000001, 0.5]),
    )
    return near | near | anytime


def places(zones: list[Any]) -> st.SearchStrategy[tuple[tzinfo, datetime]]:
    return st.sampled_from(zones).flatmap(lambda zone: st.tuples(st.just(zone), moments(zone)))


# Patterns -------------------------------------------------------------------------------------------------------------


def terms(low: int, high: int, *special: str) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    steps = st.integers(1, high + 2)
    ranges = st.tuples(numbers, numbers).map(sorted)
    return st.one_of(
        numbers.map(str),
        st.just("*"),
        steps.map("*/{}".format),
        st.builds("{0[0]}-{0[1]}".format, ranges),
        st.builds("{0[0]}-{0[1]}/{1}".format, ranges, steps),
        st.builds("{}/{}".format, numbers, steps),
        *([st.sampled_from(special)] if special else []),
    )


def field(low: int, high: int, *special: str) -> st.SearchStrategy[str]:
    return st.just("*") | st.lists(terms(low, high, *special), min_size=1, max_size=3).map(",".join)


SECOND = MINUTE = field(0, 59)
HOUR = field(0, 23) | field(0, 4)
DAY = field(1, 31, "L", "LW")
MONTH = field(1, 12, "JAN", "feb", "OCT-DEC")
WEEKDAY = field(0, 7, "SUN", "mon", "MON-FRI", "SUN-SAT/2", "1#1", "7#5", "FRI#3", "5L", "0L", "7L")
YEAR = st.just("*") | st.integers(2020, 2040).map("{}-2060".format)

five = st.tuples(MINUTE, HOUR, DAY, MONTH, WEEKDAY).map(" ".join)
timely = st.tuples(MINUTE, HOUR, st.just("* * *")).map(" ".join)
six = st.tuples(SECOND, five).map(" ".join)
seven = st.tuples(six, YEAR).map(" ".join)


def is_elapsed(pattern: str) -> bool:
    return any(field.startswith("*") for field in pattern.split()[:2])


def made(pattern: str, zone: tzinfo) -> Cron | None:
    try:
        return Cron(pattern, zone)
    except UsageError:
        return None


def cronsim_refuses(pattern: str) -> bool:
    try:
        return next(CronSim(pattern, datetime(2026, 1, 1, tzinfo=UTC)), None) is None
    except CronSimError:
        return True


# As cronsim -----------------------------------------------------------------------------------------------------------


@as_often(4)
@given(five | timely, places(ZONES))
def test_five_fields_mean_what_they_mean_to_cronsim(pattern: str, place: tuple[tzinfo, datetime]) -> None:
    zone, moment = place
    assume(zone is not LORD_HOWE or not is_elapsed(pattern))  # its half hours: cronsim loses ticks; see below
    cron = made(pattern, zone)

    if cron is None:
        assert cronsim_refuses(pattern)
    else:
        assert cron.next_after(moment) == cronsim_next(pattern, zone, moment)
        assert cron.latest(EVER, moment) == cronsim_latest(pattern, zone, moment)


@as_often(2)
@given(six, anytime)
def test_six_fields_mean_what_they_mean_to_cronsim(pattern: str, moment: datetime) -> None:
    cron = made(pattern, UTC)

    if cron is None:
        assert cronsim_refuses(pattern)
    else:
        assert cron.next_after(moment) == next(CronSim(pattern, moment), None)
        ours = cron.latest(EVER, moment)
        assert ours == moment or ours == next(CronSim(pattern, moment, reverse=True), None)


@as_often(0.8)
@given(timely.filter(is_elapsed), st.deferred(lambda: st.sampled_from(changes(LORD_HOWE))))
@example("45 * * * *", datetime(2024, 4, 6, 15, tzinfo=UTC))  # cronsim goes from 1:45 to 2:45, past the second 1:45
@example("* 3 * * *", datetime(2024, 10, 5, 15, 30, tzinfo=UTC))  # cronsim begins at 3:30 if it comes from before 2:00
def test_elapsed_time_where_clocks_move_by_half_an_hour(pattern: str, change: datetime) -> None:
    cron = Cron(pattern, LORD_HOWE)
    start, end = change - timedelta(hours=3), change + timedelta(hours=3)
    minutes = [start + timedelta(minutes=n) for n in range(1, 361)]

    expected = [minute for minute in minutes if names(pattern, minute.astimezone(LORD_HOWE).replace(tzinfo=UTC))]

    assert list(ticks(cron, start, end)) == expected
    assert list(ticks_back(cron, start, end)) == expected[::-1]


def names(pattern: str, wall: datetime) -> bool:
    return bool(next(CronSim(pattern, wall - timedelta(seconds=1))) == wall)


# Both directions ------------------------------------------------------------------------------------------------------


@as_often(5)
@given(five | timely | six | seven, places([*ZONES, *ODD_ZONES]))
def test_both_directions_see_the_same_ticks(pattern: str, place: tuple[tzinfo, datetime]) -> None:
    zone, moment = place
    cron = made(pattern, zone)
    assume(cron is not None)
    assert cron is not None

    following = cron.next_after(moment)
    if following is not None:
        assert following > moment
        assert cron.latest(moment, following) == following
        assert cron.latest(moment, following - MICROSECOND) is None
    latest = cron.latest(EVER, moment)
    if latest is not None:
        assert latest <= moment
        assert cron.next_after(latest) == following
        assert cron.next_after(latest - MICROSECOND) == latest
        assert cron.latest(latest, moment) is None


@pytest.mark.parametrize("zone", [*ZONES, *ODD_ZONES], ids=str)
@pytest.mark.parametrize(
    "pattern", ["*/7 * * * *", "13,47 0-5 * * *", "* 2 * * *", "20 */2 * * *", "0,30 */10 * * * *"]
)
def test_a_walk_across_a_change_is_the_same_both_ways(pattern: str, zone: tzinfo) -> None:
    cron = Cron(pattern, zone)
    for change in changes(zone)[:4] or [datetime(2026, 1, 1, tzinfo=UTC)]:
        start, end = change - timedelta(hours=26), change + timedelta(hours=26)
        forward = list(ticks(cron, start, end))

        assert len(forward) > 5
        assert forward == sorted(set(forward))
        assert list(ticks_back(cron, start, end)) == forward[::-1]


def test_the_latest_tick_is_cheap_however_many_were_missed() -> None:
    cron = Cron("* * * * * *", "Europe/Berlin")
    now = datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=UTC)

    with at_most(cpu_seconds=0.5):
        assert cron.latest(EVER, now) == now.replace(microsecond=0)


# Skipped and repeated times -------------------------------------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


BEFORE_GAP, AFTER_GAP = at("2026-03-29T00:00+01:00"), at("2026-03-29T05:00+02:00")
BEFORE_FOLD, AFTER_FOLD = at("2026-10-25T00:00+02:00"), at("2026-10-25T05:00+01:00")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("30 2 * * *", ["03:00+02:00"]),
        ("0,30 2 * * *", ["03:00+02:00"]),
        ("30 1-3 * * *", ["01:30+01:00", "03:00+02:00", "03:30+02:00"]),
        ("0 2,3 * * *", ["03:00+02:00"]),
        ("15 30 2 * * *", ["03:00+02:00"]),
        ("* 30 2 29 3 * 2026", ["03:00+02:00"]),
        ("*/20 2 * * *", []),
        ("30 */2 * * *", ["00:30+01:00", "04:30+02:00"]),
        ("0 */30 1-3 * * *", ["01:00+01:00", "01:30+01:00", "03:00+02:00", "03:30+02:00"]),
    ],
)
def test_a_skipped_time(pattern: str, expected: list[str]) -> None:
    cron = Cron(pattern, "Europe/Berlin")

    assert list(ticks(cron, BEFORE_GAP, AFTER_GAP)) == [at(f"2026-03-29T{clock}") for clock in expected]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("30 2 * * *", ["02:30+02:00"]),
        ("0 2,3 * * *", ["02:00+02:00", "03:00+01:00"]),
        ("15 30 2 * * *", ["02:30:15+02:00"]),
        ("*/30 2 * * *", ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"]),
        ("30 */2 * * *", ["00:30+02:00", "02:30+02:00", "02:30+01:00", "04:30+01:00"]),
        ("0 */30 2 * * *", ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"]),
    ],
)
def test_a_repeated_time(pattern: str, expected: list[str]) -> None:
    cron = Cron(pattern, "Europe/Berlin")

    assert list(ticks(cron, BEFORE_FOLD, AFTER_FOLD)) == [at(f"2026-10-25T{clock}") for clock in expected]


def test_a_repeated_time_that_ran_does_not_run_again() -> None:
    cron = Cron("30 2 * * *", BERLIN)
    second_passing = at("2026-10-25T02:10+01:00")

    assert cron.next_after(second_passing) == at("2026-10-26T02:30+01:00")
    assert cron.latest(EVER, second_passing) == at("2026-10-25T02:30+02:00")


# Fields ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        ("@hourly", "2026-01-01T01:00"),
        ("@daily", "2026-01-02T00:00"),
        ("@midnight", "2026-01-02T00:00"),
        ("@weekly", "2026-01-04T00:00"),
        ("@monthly", "2026-02-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        (" @Annually ", "2027-01-01T00:00"),
        ("0 12 * * 1", "2026-01-05T12:00"),
        ("0 12 * * 7", "2026-01-04T12:00"),
        ("0 0 12 * * 1", "2026-01-05T12:00"),
        ("5 0 12 * * SUN", "2026-01-04T12:00:05"),
        ("5 0 12 * * 0 2030", "2030-01-06T12:00:05"),
        ("0 0 0 29 2 * *", "2028-02-29T00:00"),
        ("0 0 * 2 MON#5", "2044-02-29T00:00"),
        ("0 0 0 29 2 * 2090-2100", "2092-02-29T00:00"),
        ("0 0 0 1 1 * 2100", "2100-01-01T00:00"),
        ("0 0 0 1 1 * 1971/7", "2027-01-01T00:00"),
        ("0 0 0 1 1 * 2020,2040", "2040-01-01T00:00"),
        ("0 0 13 * FRI", "2026-01-02T00:00"),
        ("0 0 LW * *", "2026-01-30T00:00"),
    ],
)
def test_the_first_tick_of_2026(pattern: str, first: str) -> None:
    assert Cron(pattern).next_after(at("2026-01-01T00:00Z")) == at(first + "+00:00")


def test_years_end() -> None:
    cron = Cron("0 0 0 1 1 * 2026-2027")

    assert list(ticks(cron, at("2020-01-01T00:00Z"), at("2040-01-01T00:00Z"))) == [
        at("2026-01-01T00:00Z"),
        at("2027-01-01T00:00Z"),
    ]
    assert cron.latest(EVER, at("2090-01-01T00:00Z")) == at("2027-01-01T00:00Z")
    assert cron.latest(EVER, at("2025-01-01T00:00Z")) is None


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("", "expected 5 fields .*, not 0"),
        ("* * * *", "not 4"),
        ("* * * * * * * *", "not 8"),
        ("@reboot", "not 1"),
        ("60 * * * *", "minute '60' is not in 0-59"),
        ("* 24 * * *", "hour '24' is not in 0-23"),
        ("* * 0 * *", "day of month '0' is not in 1-31"),
        ("* * * 13 *", "month '13' is not in 1-12"),
        ("* * * MAI *", "month 'MAI' is not in 1-12"),
        ("* * * * 8", "day of week '8' is not in 0-7"),
        ("* * * * MON-8", "day of week '8' is not in 0-7"),
        ("60 * * * * *", "second '60' is not in 0-59"),
        ("0 0 0 1 1 * 1969", "year '1969' is not in 1970-2100"),
        ("*/0 * * * *", r"minute '\*/0' has a step of 0"),
        ("* 5-1 * * *", "hour '5-1' runs backward"),
        ("* * * * FRI-SUN", "day of week 'FRI-SUN' runs backward"),
        ("1,,2 * * * *", "minute '' is not understood"),
        ("-5 * * * *", "minute '-5' is not understood"),
        ("1.5 * * * *", "minute '1.5' is not understood"),
        ("*-5 * * * *", r"minute '\*-5' is not understood"),
        ("1/2/3 * * * *", "minute '1/2/3' is not understood"),
        ("* * ? * *", r"day of month '\?' is not understood"),
        ("* * L/2 * *", "day of month 'L' is not in"),
        ("* * 15W * *", "day of month '15W' is not in"),
        ("* * * * 1#6", "day of week '1#6' is not understood"),
        ("* * * * 1-5#2", "day of week '1-5#2' is not understood"),
        ("* * * * L", "day of week 'L' is not in"),
        ("H * * * *", "minute 'H' is not in"),
        ("R(0-9) * * * *", r"minute 'R\(0-9\)' is not understood"),
        ("\u0661 * * * *", "plain ASCII"),
        ("* * * * \u017fun", "plain ASCII"),
        ("00000 * * * *", "minute '00000' is not in"),
        (f"{'9' * 5000} * * * *", "is not in 0-59"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 0 1 1 * 2025", "never fires"),
        ("0 0 0 29 2 * 2001-2099/4", "never fires"),
    ],
)
def test_a_bad_pattern_is_refused_at_once_with_its_fault(pattern: str, fault: str) -> None:
    with at_most(cpu_seconds=1), pytest.raises(UsageError, match=fault) as caught:
        Cron(pattern)

    assert str(caught.value).startswith("cron ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("pattern", ["*/5 2 * 3 7L", "0 */5 2 31 3 * 2030"])
def test_a_pattern_whose_times_are_all_skipped_never_fires(pattern: str) -> None:
    with at_most(cpu_seconds=0.8), pytest.raises(UsageError, match="never fires"):
        Cron(pattern, BERLIN)

    assert Cron(pattern, UTC)


@given(st.lists(st.text("0123456789*,/-#LWSUNMOJA?@ ", max_size=6), min_size=4, max_size=7).map(" ".join))
def test_what_is_accepted_is_accepted_by_cronsim(pattern: str) -> None:
    cron = made(pattern, UTC)
    if cron is not None and len(pattern.split()) in (5, 6):
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        assert cron.next_after(moment) == next(CronSim(pattern, moment))


@pytest.mark.parametrize("pattern", [None, 5, b"* * * * *", ["* * * * *"]])
def test_a_pattern_is_text(pattern: Any) -> None:
    with pytest.raises(UsageError, match="a cron pattern is text, not "):
        Cron(pattern)


# Zones ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Europe", "Europe/Nowhere", "../etc/passwd", "UTC\0", "x" * 500, 5, None, b"UTC"])
def test_an_unknown_zone_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match=r"^there is no time zone .*; give a name like 'Europe/Berlin'$"):
        Cron("@daily", name)


@pytest.mark.parametrize("name", ["localtime", "local", "posixrules", "Factory"])
def test_a_zone_that_is_another_one_on_each_machine_is_refused(name: str) -> None:
    with (resources.files("tzdata.zoneinfo") / "Europe" / "Berlin").open("rb") as file:
        made = ZoneInfo.from_file(file, key=name)
    for zone in (name, made):
        with pytest.raises(UsageError, match=f"^the time zone '{name}' is another one on each machine"):
            Cron("@daily", zone)
        with pytest.raises(UsageError, match="is another one on each machine"):
            schedule_spec("nightly", cron="@daily", tz=zone)


def test_a_zone_with_leap_seconds_is_refused() -> None:
    with pytest.raises(UsageError, match=r"counts leap seconds, which no clock here does: give 'Europe/Berlin'$"):
        Cron("@daily", "right/Europe/Berlin")


def test_a_zone_of_pytz_is_refused() -> None:
    class OfPytz(tzinfo):
        localize: Callable[..., datetime]

    OfPytz.localize = lambda self, wall: wall  # type: ignore[assignment]

    with pytest.raises(UsageError, match="give the zone's name"):
        Cron("@daily", OfPytz())


def test_zones_by_name_and_by_value() -> None:
    assert Cron("@daily", "Europe/Berlin") == Cron("@daily", BERLIN)
    assert Cron("@daily").tz == ZoneInfo("UTC")
    assert Cron("@daily", timezone(timedelta(hours=2))).next_after(at("2026-01-01T00:00Z")) == at("2026-01-01T22:00Z")


# Values ---------------------------------------------------------------------------------------------------------------


def test_values_are_equal_frozen_and_can_be_copied() -> None:
    for value, other, name in [
        (Cron("@daily", "Europe/Berlin"), Cron("@daily"), "pattern"),
        (ScheduleOnce(at("2026-01-01T00:00Z")), ScheduleOnce(at("2026-01-01T00:01Z")), "at"),
    ]:
        again = pickle.loads(pickle.dumps(value))
        assert value == again == copy.copy(value) != other
        assert len({value, again, other}) == 2
        assert value.next_after(EVER) == again.next_after(EVER)
        with pytest.raises(AttributeError):
            setattr(value, name, None)
    assert repr(Cron("@daily")) == "Cron(pattern='@daily', tz=zoneinfo.ZoneInfo(key='UTC'))"


def test_once() -> None:
    moment = datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=BERLIN)
    once = ScheduleOnce(moment)

    assert once.at == moment
    assert once.at.tzinfo is UTC
    assert once.next_after(moment - MICROSECOND) == moment
    assert once.next_after(moment) is None
    assert once.latest(moment - MICROSECOND, moment) == moment
    assert once.latest(moment, moment + timedelta(days=1)) is None
    assert once.latest(EVER, moment - MICROSECOND) is None


@pytest.mark.parametrize("schedule", [Cron("@daily"), ScheduleOnce(at("2026-01-01T00:00Z"))])
@pytest.mark.parametrize(
    ("moment", "fault"),
    [
        (EVER.replace(tzinfo=None), "the time has no time zone"),
        (date(2026, 1, 1), "the time is a date"),
        ("tomorrow", "the time is a str"),
    ],
)
def test_times_have_a_zone(schedule: Any, moment: Any, fault: str) -> None:
    for call in (
        lambda: ScheduleOnce(moment),
        lambda: schedule.next_after(moment),
        lambda: schedule.latest(moment, EVER),
        lambda: schedule.latest(EVER, moment),
    ):
        with pytest.raises(UsageError, match=fault):
            call()


def test_a_time_that_some_zone_cannot_show_is_refused() -> None:
    """Whoever lists such a schedule in that zone would list no schedule at all."""
    latest, earliest = datetime(9999, 12, 29, tzinfo=UTC), datetime(1, 1, 3, tzinfo=UTC)
    for make in (ScheduleOnce, lambda at: Every(timedelta(days=1), at)):
        for at in (latest, earliest):
            make(at)
        for far in (
            *(datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)),
            *(
                datetime.max.replace(tzinfo=ZoneInfo("America/New_York")),
                datetime.min.replace(tzinfo=ZoneInfo("Asia/Tokyo")),
            ),
            *(latest + timedelta(seconds=1), earliest - timedelta(seconds=1)),
        ):
            with pytest.raises(UsageError, match="the time must lie between 0001-01-03 and 9999-12-29"):
                make(far)


def test_as_schedule() -> None:
    cron, once = Cron("@daily", BERLIN), ScheduleOnce(EVER)

    assert as_schedule("@daily") == Cron("@daily")
    assert as_schedule(cron) is cron
    assert as_schedule(once) is once
    for bad in (5, None, datetime(2026, 1, 1, tzinfo=UTC)):
        with pytest.raises(UsageError, match="a schedule is a pattern, a Cron or a ScheduleOnce, not "):
            as_schedule(bad)  # type: ignore[arg-type]
