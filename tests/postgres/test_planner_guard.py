"""When statements run guarded: where one took far longer than its kind has taken, and longer if others do as well."""

from collections.abc import Callable
from random import Random
from statistics import median
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_postgres.planner_guard import (
    CONFIRMED,
    GUARDED_FOR,
    HEALTHY,
    REMEMBERED,
    SLOW,
    TIMES_MEDIAN,
    TIMES_SLOW,
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


def on_until(guard: PlanGuard, at: float) -> bool:
    """Whether it is on now and to this moment, and no longer."""
    return guard.is_on(at - 0.01) and not guard.is_on(at + 0.01)


@pytest.mark.parametrize("seconds", [0.06, 1, GUARDED_FOR / TIMES_SLOW, 30])
def test_it_lasts_some_times_as_long_as_what_was_slow_and_a_minute_at_most(seconds: float) -> None:
    guard = seasoned()
    assert not guard.is_on(1_000)
    guard.observe(seconds, 1_000)
    assert on_until(guard, 1_000 + min(GUARDED_FOR, TIMES_SLOW * seconds))


def test_each_trial_that_is_slow_makes_it_last_longer_until_one_is_not() -> None:
    guard, now, lasts = seasoned(), 1_000.0, TIMES_SLOW * 0.1
    assert not guard.observe(0.01, now - 1)
    for _ in range(2_000):
        assert guard.observe(0.1, now)
        assert on_until(guard, now + min(GUARDED_FOR, lasts))
        lasts = min(CONFIRMED * lasts, GUARDED_FOR)
        now += GUARDED_FOR + 1
    assert not guard.observe(0.01, now)
    assert guard.observe(0.1, now)
    assert on_until(guard, now + TIMES_SLOW * 0.1)


def test_what_was_under_way_when_it_turned_on_is_no_trial() -> None:
    """Outcomes are written on several connections, which one stop of the machine delays all."""
    guard = seasoned()
    for _ in range(5):
        assert guard.observe(0.1, 1_000)
    assert on_until(guard, 1_000 + TIMES_SLOW * 0.1)
    assert guard.observe(0.1, 1_010)
    assert not guard.observe(0.049, 1_010.01)
    assert guard.observe(0.1, 1_020)
    assert on_until(guard, 1_020 + CONFIRMED**2 * TIMES_SLOW * 0.1)


class Spent(NamedTuple):
    """What a run in virtual time saw: when the guard first turned on, and the statements of each sort."""

    first_on: float
    guarded: int
    unguarded: int
    slow: int


def run(guard: PlanGuard, unguarded: Callable[[], float], guarded: float, seconds: float) -> Spent:
    """Runs statements one after the other for so long."""
    now, first_on = 0.0, -1.0
    took: dict[bool, list[float]] = {False: [], True: []}
    while now < seconds:
        is_on = guard.is_on(now)
        took[is_on].append(guarded if is_on else unguarded())
        now += took[is_on][-1]
        if is_on:
            guard.compare(guarded)
        elif guard.observe(took[False][-1], now) and first_on < 0:
            first_on = now
    return Spent(first_on, len(took[True]), len(took[False]), sum(each > SLOW for each in took[False]))


@pytest.mark.parametrize(("delayed", "most"), [(0.03, 0.65), (0.003, 0.2)])
def test_a_crowded_machine_that_delays_some_statements_is_soon_left_alone(delayed: float, most: float) -> None:
    """Guarded are 0.58 and 0.12 of them, where a guard that always lasts a minute is on for 0.99 and 0.9."""
    random = Random(1)
    spent = run(seasoned(), lambda: random.uniform(0.1, 0.3) if random.random() < delayed else 0.01, 0.02, 600)
    assert spent.slow > 100
    assert spent.guarded < most * (spent.guarded + spent.unguarded)


@pytest.mark.parametrize("slow", [0.06, 0.3, 2.3, 20])
def test_a_wrong_plan_is_caught_at_once_and_soon_tried_once_a_minute_only(slow: float) -> None:
    spent = run(seasoned(), lambda: slow, 0.007, 300)
    assert spent.first_on == slow
    assert spent.slow <= 9  # a guard that always lasts a minute has 5 of them


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
