"""When statements run guarded: where one took far longer than its kind has taken, and for a minute."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_postgres.planner_guard import (
    GUARDED_FOR,
    HEALTHY,
    REMEMBERED,
    SLOW,
    TIMES_MEDIAN,
    AlwaysOn,
    PlanGuard,
    Unjudged,
)

times = st.floats(0, 100)


def seasoned() -> PlanGuard:
    """One that has seen its first statement."""
    guard = PlanGuard()
    guard.observe(0, 0)
    return guard


@given(st.lists(times, max_size=300), st.floats(0, 1e6))
def test_it_turns_on_for_what_is_slow_and_far_above_the_median(past: list[float], now: float) -> None:
    guard = seasoned()
    remembered = [HEALTHY] * 5
    for seconds in past:
        is_slow = seconds > SLOW and seconds > TIMES_MEDIAN * median(remembered)
        assert guard.observe(seconds, now) == is_slow
        if not is_slow:
            remembered = [*remembered, seconds][-REMEMBERED:]
        else:
            assert guard.is_on(now)
            now += GUARDED_FOR
        assert not guard.is_on(now)


@given(st.lists(st.floats(0, SLOW)))
def test_what_is_not_slow_never_turns_it_on(past: list[float]) -> None:
    guard = PlanGuard()
    assert not any(guard.observe(seconds, 0) for seconds in past)


def test_a_disk_that_slows_down_is_no_wrong_plan() -> None:
    guard = seasoned()
    for usual in (0.01, 0.05, 0.2, 0.8):
        for _ in range(REMEMBERED):
            assert not guard.observe(usual, 0)
    assert guard.observe(8.1, 0)


def test_a_pool_that_starts_in_trouble_is_guarded_after_its_second_statement() -> None:
    guard = PlanGuard()
    assert not guard.observe(0.3, 0)  # as slow as this may be a first one that is well
    assert guard.observe(0.3, 0)


@pytest.mark.parametrize(("after", "is_on"), [(0, True), (GUARDED_FOR - 0.01, True), (GUARDED_FOR, False)])
def test_it_holds_for_a_minute(after: float, is_on: bool) -> None:
    guard = seasoned()
    assert not guard.is_on(1_000)
    guard.observe(2, 1_000)
    assert guard.is_on(1_000 + after) is is_on


def test_pruning_is_always_guarded() -> None:
    assert AlwaysOn().is_on(0)


def test_what_is_not_judged_is_guarded_with_the_others() -> None:
    guard = seasoned()
    unjudged = Unjudged(guard)
    assert not unjudged.observe(10.0, 0.0)
    assert not guard.is_on(0.0)
    assert guard.observe(10.0, 0.0)
    assert unjudged.is_on(0.0)


@pytest.mark.parametrize(("guarded", "is_on"), [([0.41, 0.4, 2], False), ([0.4, 0.4, 0.01], True)])
def test_what_a_guard_does_not_make_faster_was_not_slow_by_its_plan(guarded: list[float], is_on: bool) -> None:
    """A long way makes all statements slow: to guard them costs three times as long again."""
    guard = seasoned()
    assert guard.observe(0.42, 0.0)
    for seconds in guarded:
        assert guard.is_on(0.0)
        guard.compare(seconds)
    assert guard.is_on(0.0) is is_on
    assert guard.observe(0.45, GUARDED_FOR + 1) is is_on
    assert guard.observe(6, GUARDED_FOR + 2), "what is far slower than that tells"


def test_a_guard_that_was_never_turned_on_compares_nothing() -> None:
    guard = AlwaysOn()
    for _ in range(20):
        guard.compare(1)
    assert guard.is_on(0)
