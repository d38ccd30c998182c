"""Limits, rates and fairness as values."""

import copy
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from fang_core import Fair, FlowSettings, Limit, Rate, UsageError, WrongArguments
from fang_core.flow.limits import (
    Gcra,
    by_of,
    checked_rules,
    rules_as_json,
    rules_from_json,
    settings_of,
)

MINUTE = timedelta(minutes=1)


def key_of(task: object) -> str:
    return "a key"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Limit(-1), r"^Limit: n must be a whole number from 0 to 1_000_000_000, not -1$"),
        (lambda: Limit(True), r"not True$"),
        (lambda: Limit(2.0), r"not 2\.0$"),
        (lambda: Limit(0, by="a"), r"^Limit: n must be a whole number from 1 to"),
        (lambda: Rate(0), r"^Rate: n must be a whole number from 1 to"),
        (lambda: Rate(5, burst=0), r"^Rate: burst must be a whole number from 1 to"),
        (lambda: Rate(5, per=1), r"^Rate: per must be a timedelta, not int$"),
        (
            lambda: Rate(5, per=timedelta(0)),
            r"^Rate: starts must be between a microsecond and a year apart: change",
        ),
        (lambda: Rate(1_000_001), r"a microsecond and a year apart"),
        (lambda: Rate(1, per=timedelta(days=366, microseconds=1)), r"a microsecond and a year apart"),
        (lambda: Rate(10**9, per=timedelta(seconds=1)), r"a microsecond and a year apart"),
        (lambda: Limit(5, by=""), r"^by must be the name of a field, several names, or a function that is called with"),
        (lambda: Limit(5, by=5), r"^by must be the name of a field"),
        (lambda: Limit(5, by=()), r"^by must be the name of a field"),
        (lambda: Limit(5, by=("a", 5)), r"^by must be the name of a field"),
        (lambda: Fair(None), r"^by must be the name of a field"),
        (lambda: Fair(("a", "a")), r"^by names a field twice: remove one$"),
        (lambda: Fair("a", weights=["b"]), r"^Fair: weights must be a dict of keys and whole numbers$"),
        (lambda: Fair("a", weights={"b": 0}), r"^Fair: a weight must be a whole number from 1 to 1_000, not 0$"),
        (lambda: Fair("a", weights={"b\0": 1}), r"^its key must not have NUL characters"),
    ],
)
def test_values_that_cannot_be_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_as_many_starts_as_one_can_write() -> None:
    assert Rate(10**9, per=timedelta(hours=1)).gcra == Gcra(timedelta(microseconds=4), 12_501)
    assert Rate(10**9, per=timedelta.max).gcra.interval == timedelta(seconds=86_400)
    assert Rate(2, per=timedelta(days=2 * 366)).gcra.interval == timedelta(days=366)


def test_async_functions_make_no_keys() -> None:
    async def key(task: object) -> str:
        return "a"

    with pytest.raises(UsageError, match=r"^by takes no async function, since both modes call it$"):
        Limit(5, by=key)


def test_wrong_arguments_name_the_right_ones() -> None:
    with pytest.raises(WrongArguments, match=r"^Rate: .*; its arguments are n, per, burst, by$"):
        Rate(10, "second")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rule", "written", "told"),
    [
        (Limit(5), {"limit": 5}, "5 at once"),
        (Limit(2, by="tenant"), {"limit": 2, "by": "tenant"}, "2 at once for each tenant"),
        (
            Limit(2, by=("tenant", "region")),
            {"limit": 2, "by": ["tenant", "region"]},
            "2 at once for each tenant and region",
        ),
        (Rate(10), {"rate": 10, "per": 1.0}, "10/s"),
        (Rate(1, per=timedelta(seconds=30)), {"rate": 1, "per": 30.0}, "1/30s"),
        (
            Rate(10, per=MINUTE, burst=3, by="tenant"),
            {"rate": 10, "per": 60.0, "burst": 3, "by": "tenant"},
            "10/min for each tenant, 3 at first",
        ),
        (Fair("tenant"), {"fair": True, "by": "tenant"}, "fair for each tenant"),
        (
            Fair("tenant", weights={"acme": 3, 7: 2}),
            {"fair": True, "weights": {"acme": 3, "7": 2}, "by": "tenant"},
            "fair for each tenant (weights: acme 3, 7 2)",
        ),
    ],
)
def test_rules_are_written_read_and_told(rule: Any, written: dict[str, Any], told: str) -> None:
    assert rules_as_json([rule]) == [written]
    assert rules_from_json(json.loads(json.dumps([written]))) == (rule,)
    assert str(rule) == told
    assert hash(rule) == hash(copy.copy(rule))
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert eval(repr(rule), {"Limit": Limit, "Rate": Rate, "Fair": Fair, "datetime": __import__("datetime")}) == rule


def test_a_function_is_written_as_its_name() -> None:
    written = rules_as_json([Limit(2, by=key_of), Fair(partial(key_of))])
    assert [each["by"] for each in written] == [f"{__name__}.key_of()", "functools.partial()"]
    (read, _) = rules_from_json(written)
    assert checked_rules([read, Rate(5, by=key_of)])  # one key: it has one name


def test_rules_of_a_later_release_are_left_out() -> None:
    later = [{"lottery": 5}, {"limit": "many"}, {"rate": 5, "per": "day"}, {"fair": True}, {"limit": 5, "until": 3}]
    assert rules_from_json(later) == (Limit(5),)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (Limit(5), r"^limits must be a list, such as \[Limit\(5\), Limit\(2, by='tenant'\)\]$"),
        ("tenant", r"^limits must be a list"),
        (None, r"^limits must be a list"),
        ([5], r"^limits takes Limit\(\.\.\.\), Rate\(\.\.\.\) and Fair\(\.\.\.\), not int$"),
        ([Limit(5, by="a"), Limit(6, by="a")], r"^there are two of Limit for each key: remove one$"),
        ([Rate(5), Rate(100, per=MINUTE)], r"^there are two of Rate for the whole type: remove one$"),
        (
            [Limit(5, by="a"), Fair("b")],
            r"^a task has one key: write the same by= in all limits and rates",
        ),
    ],
)
def test_rules_that_cannot_hold_together_are_refused(rules: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked_rules(rules)


def test_what_rules_come_to() -> None:
    rules = [Limit(5), Limit(2, by="a"), Rate(10), Rate(3, per=MINUTE, burst=2, by="a"), Fair("a", weights={"b": 3})]
    second = timedelta(seconds=1)
    assert settings_of(checked_rules(rules)) == FlowSettings(
        5, 2, Gcra(second / 10, 2), Gcra(20 * second, 2), fair=True, weights={"b": 3}
    )
    assert by_of(rules) == "a"
    assert settings_of([]) == FlowSettings()
    assert not FlowSettings().is_limited
    assert FlowSettings(max_running=0).is_limited
    assert FlowSettings(fair=True).is_limited


def test_an_interval_is_rounded_so_that_the_rate_is_not_exceeded() -> None:
    for n in range(1, 2_000, 7):
        interval, burst = Rate(n).gcra
        assert n * interval >= timedelta(seconds=1)
        assert n * (interval - timedelta(microseconds=1)) < timedelta(seconds=1)
        if n > 4:
            assert (burst - 2) * interval < timedelta(milliseconds=50) <= (burst - 1) * interval


@pytest.mark.parametrize(
    ("rate", "burst"),
    [
        (Rate(1), 1),
        (Rate(4), 1),
        (Rate(5), 2),
        (Rate(20), 2),
        (Rate(100), 6),
        (Rate(500), 26),
        (Rate(100, per=MINUTE), 1),
        (Rate(100, burst=1), 1),
    ],
)
def test_the_burst_unless_it_is_given(rate: Rate, burst: int) -> None:
    assert rate.gcra.burst == burst


# Rates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [1, 2, 5])
@pytest.mark.parametrize("us", [-5, 0, 1, 9, 10, 11, 19, 20, 21, 39, 40, 41, 49, 50, 51, 500])
def test_a_rate_counts_what_lies_ahead(burst: int, us: int) -> None:
    now, interval = datetime(2030, 1, 1, tzinfo=UTC), timedelta(microseconds=10)
    rate, tat = Gcra(interval, burst), now + timedelta(microseconds=us)
    was_set_back = tat > now + burst * interval
    clamped = now + (burst - 1) * interval if was_set_back else max(tat, now)
    assert rate.clamped(tat, now) == clamped
    assert rate.next_start(tat, now) == max(now, clamped - (burst - 1) * interval)


@pytest.mark.parametrize("interval", [timedelta(hours=1), timedelta(days=10_000)])
def test_the_end_of_a_burst_may_lie_beyond_every_date(interval: timedelta) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    rate = Gcra(interval, 10**9)
    assert rate.clamped(now + interval, now) == now + interval
    assert rate.next_start(now + interval, now) == now


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (Rate(6), "6/s"),  # its interval is rounded to microseconds
        (Rate(90, per=MINUTE), "90/min"),
        (Rate(100, per=MINUTE), "100/min"),
        (Rate(5, per=timedelta(seconds=30)), "10/min"),
        (Rate(1, per=timedelta(hours=1)), "1/h"),
        (Rate(1, per=timedelta(seconds=7)), "1/7s"),
        (Rate(1, per=timedelta(days=2)), "1/2d"),
        (Rate(10, per=timedelta(seconds=7)), "1.42857/s"),
    ],
)
def test_the_speed_of_a_rate_is_told_in_a_unit_that_makes_it_a_whole_number(rate: Rate, told: str) -> None:
    assert str(rate.gcra) == told
