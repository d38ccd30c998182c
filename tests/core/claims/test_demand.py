"""How many tasks a pool claims, and how long it sleeps."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import SleepParams
from fang_core.claims.idle import Poll
from fang_core.claims.prefetch import HORIZON, MOST, MOST_UNWRITTEN, Demand
from fang_core.retry import Retry

FAST = 1e6  # tasks a second that workers take: more than matters, the mean decides

durations = st.lists(st.floats(0, 3600), max_size=50)


def seen(workers: int, *seconds: float, times: int = 1) -> Demand:
    demand = Demand(workers)
    for _ in range(times):
        for second in seconds:
            demand.observe(second)
    return demand


@given(
    st.integers(1, 10_000),
    durations,
    st.integers(0, 10_000),
    st.integers(0, 5_000),
    st.integers(0, 2 * MOST_UNWRITTEN),
    st.floats(0, 1e6),
    st.integers(1, MOST),
)
def test_wanted_keeps_to_its_bounds(
    workers: int, seconds: list[float], free: int, waiting: int, unwritten: int, pace: float, most: int
) -> None:
    demand = seen(workers, *seconds)
    wanted = demand.wanted(free=free, waiting=waiting, unwritten=unwritten, pace=pace, most=most)

    assert 0 <= wanted <= MOST
    assert not wanted or waiting + wanted <= most
    assert wanted <= max(0, free + demand.ahead(pace) - waiting)
    assert demand.ahead(pace) <= pace * HORIZON
    if unwritten >= MOST_UNWRITTEN:
        assert wanted == 0
    elif free and not waiting:
        assert wanted > 0  # a worker is never left idle where nothing waits for it


@pytest.mark.parametrize("seconds", [HORIZON, 0.2, 60])
@pytest.mark.parametrize("free", [0, 1, 4])
def test_long_tasks_are_not_claimed_ahead(seconds: float, free: int) -> None:
    demand = seen(4, seconds, times=10)

    assert demand.ahead(FAST) == 0
    assert demand.wanted(free=free, waiting=0, unwritten=0, pace=FAST, most=MOST) == free


def test_before_anything_was_seen_nothing_is_claimed_ahead() -> None:
    assert Demand(8).wanted(free=8, waiting=0, unwritten=0, pace=FAST, most=MOST) == 8
    assert Demand(8).wanted(free=0, waiting=0, unwritten=0, pace=FAST, most=MOST) == 0


def test_short_tasks_are_claimed_in_large_batches() -> None:
    demand = seen(4, 0.0001, times=500)

    assert demand.ahead(FAST) == MOST
    assert demand.wanted(free=4, waiting=0, unwritten=0, pace=FAST, most=MOST) == MOST
    assert demand.wanted(free=0, waiting=400, unwritten=0, pace=FAST, most=MOST) == MOST - 400


def test_a_pool_claims_again_when_half_of_its_stock_is_gone() -> None:
    demand = seen(10, 0.005, times=500)  # 100 ahead
    ahead = demand.ahead(FAST)

    assert 90 <= ahead <= 100
    assert demand.wanted(free=0, waiting=ahead // 2 + 1, unwritten=0, pace=FAST, most=MOST) == 0
    assert demand.wanted(free=0, waiting=ahead // 2, unwritten=0, pace=FAST, most=MOST) == ahead - ahead // 2


def test_one_long_run_is_enough_to_stop_claiming_ahead() -> None:
    demand = seen(4, 0.001, times=500)
    assert demand.ahead(FAST) > 100

    demand.observe(1)
    assert demand.ahead(FAST) == 0
    demand.observe(0.001)
    assert demand.ahead(FAST) == 0  # and one short run does not make up for it


def test_nothing_is_claimed_while_too_much_is_unwritten() -> None:
    demand = seen(4, 0.001, times=500)

    assert demand.wanted(free=4, waiting=0, unwritten=MOST_UNWRITTEN - 1, pace=FAST, most=MOST) > 0
    assert demand.wanted(free=4, waiting=0, unwritten=MOST_UNWRITTEN, pace=FAST, most=MOST) == 0


# Poll and Retry -------------------------------------------------------------------------------------------------------

SLEEP = SleepParams(
    min_sleep_period=timedelta(seconds=1), max_sleep_period=timedelta(seconds=4), sleep_step=timedelta(seconds=1.5)
)


def test_poll_lengthens_step_by_step_and_starts_over_when_something_was_found() -> None:
    poll = Poll(SLEEP, chance=lambda: 0.5)

    assert [poll.sleep() for _ in range(5)] == [1, 2.5, 4, 4, 4]
    poll.found()
    assert [poll.sleep() for _ in range(2)] == [1, 2.5]


@pytest.mark.parametrize(("chance", "first"), [(0.0, 0.9), (1.0, 1.1)])
def test_poll_is_spread_by_a_tenth(chance: float, first: float) -> None:
    poll = Poll(SLEEP, chance=lambda: chance)

    assert [poll.sleep() for _ in range(3)] == pytest.approx([first, 2.5 * first, 4 * first])


def test_retry_doubles_up_to_five_seconds_and_starts_over() -> None:
    retry = Retry(chance=lambda: 0.5)

    assert [retry.sleep() for _ in range(8)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    retry.succeeded()
    assert retry.sleep() == pytest.approx(0.1)


@pytest.mark.parametrize(("chance", "first"), [(0.0, 0.05), (1.0, 0.15)])
def test_retry_is_spread_by_half(chance: float, first: float) -> None:
    assert Retry(chance=lambda: chance).sleep() == pytest.approx(first)
