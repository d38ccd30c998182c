"""What a pool holds ready: the age of every waiting task, from one entry for each claim; and the pace."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fang_core.demand import HORIZON, MOST, Demand
from fang_core.stock import MEASURED, PATIENCE, SHORTEST_WAIT, Stock

TICKS_A_SECOND = 1000  # whole ticks: sums of floats would differ in their last digit from what the stock computes


class PoolAroundStock(RuleBasedStateMachine):
    """Hands out, takes and gives back in any order, and knows of each waiting task when it was handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.stock = Stock()
        self.line: list[int] = []
        self.ticks = 5_000

    @property
    def now(self) -> float:
        return self.ticks / TICKS_A_SECOND

    @rule(count=st.integers(0, 30))
    def hand_out(self, count: int) -> None:
        self.stock.hand_out(count, len(self.line), self.now)
        self.line += [self.ticks] * count

    @rule(count=st.integers(1, 40))
    def workers_take(self, count: int) -> None:
        del self.line[:count]

    @rule(ticks=st.integers(1, 400))
    def time_passes(self, ticks: int) -> None:
        self.ticks += ticks

    @rule()
    def measure(self) -> None:
        self.stock.measure(len(self.line), self.now)
        assert self.stock.pace >= 0

    @precondition(lambda self: self.line)
    @rule()
    def give_back(self) -> None:
        del self.line[: self.stock.overdue(len(self.line), self.now)]
        self.stock.went_back(len(self.line), self.now)
        assert self.stock.pace == 0
        assert not [since for since in self.line if self.now - since / TICKS_A_SECOND >= PATIENCE]

    @invariant()
    def every_age_is_known(self) -> None:
        ages = [self.now - since / TICKS_A_SECOND for since in self.line]
        assert self.stock.overdue(len(self.line), self.now) == sum(age >= PATIENCE for age in ages)
        left = PATIENCE - ages[0] if ages else inf
        assert self.stock.patience(len(self.line), self.now) == pytest.approx(max(SHORTEST_WAIT, left))


TestPoolAroundStock = PoolAroundStock.TestCase


def test_one_entry_is_kept_for_each_claim_that_waits() -> None:
    stock = Stock()
    for claim in range(1_000):
        stock.hand_out(500, 250, claim * 0.01)
        stock.overdue(750, claim * 0.01)
    assert len(stock._batches) <= 2


# The pace -------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1_000), st.floats(2 * MEASURED, 10))
def test_while_there_is_enough_the_pace_is_what_workers_take(taken: int, seconds: float) -> None:
    stock = Stock()
    stock.hand_out(1_001, 0, 100)
    stock.measure(1_001 - taken, 100 + seconds)
    assert stock.pace == pytest.approx(taken / seconds, rel=1e-6)


def test_workers_that_had_nothing_to_take_do_not_slow_it_down() -> None:
    stock = Stock()
    stock.hand_out(100, 0, 10)
    stock.measure(50, 10.05)
    assert stock.pace == pytest.approx(1_000)
    stock.measure(0, 20)
    assert stock.pace == pytest.approx(1_000)
    stock.hand_out(200, 0, 20.05)
    stock.measure(0, 20.1)
    assert stock.pace == pytest.approx(4_000)


def test_it_is_not_measured_over_a_moment() -> None:
    stock = Stock()
    stock.hand_out(100, 0, 10)
    stock.measure(1, 10 + MEASURED / 2)
    assert stock.pace == 0


def test_what_was_given_back_was_not_taken() -> None:
    stock = Stock()
    stock.hand_out(100, 0, 10)
    stock.went_back(0, 10.15)
    stock.measure(0, 10.2)
    assert stock.pace == 0


def test_while_all_workers_are_busy_for_long_nothing_is_claimed_ahead() -> None:
    """Their runs of a millisecond have taught the pool to hold hundreds; then each of ten takes a long one."""
    stock, demand = Stock(), Demand(10)
    for _ in range(500):
        demand.observe(0.001)
    stock.hand_out(500, 0, 10)
    stock.measure(250, 10.05)
    assert demand.wanted(free=0, waiting=120, unwritten=0, pace=stock.pace) > 0

    stock.measure(240, 10.1)
    assert demand.ahead(stock.pace) <= 240 * HORIZON / 0.05
    assert demand.wanted(free=0, waiting=240, unwritten=0, pace=stock.pace) == 0
    overdue = stock.overdue(240, 10 + PATIENCE)
    assert overdue == 240
    stock.went_back(0, 10 + PATIENCE)
    for now in (10.2, 10.3, 20):
        stock.measure(0, now)
        assert demand.wanted(free=0, waiting=0, unwritten=0, pace=stock.pace) == 0
    assert demand.wanted(free=1, waiting=0, unwritten=0, pace=stock.pace) == 1


@given(workers=st.integers(1, 200), taken_each_10_ms=st.integers(0, 500), own=st.floats(1e-4, 1e-2))
def test_what_is_claimed_ahead_is_taken_within_the_horizon(workers: int, taken_each_10_ms: int, own: float) -> None:
    """However many of its workers take part: most may be stuck in long runs, or share one thread."""
    stock, demand, waiting, now = Stock(), Demand(workers), 0, 10.0
    for _ in range(500):
        demand.observe(own)
    most = 0
    for turn in range(200):
        wanted = demand.wanted(free=int(waiting == 0), waiting=waiting, unwritten=0, pace=stock.pace)
        stock.hand_out(wanted, waiting, now)
        waiting += wanted
        if turn > 20:
            most = max(most, waiting)
        waiting -= min(waiting, taken_each_10_ms)
        now += 0.01
        stock.measure(waiting, now)
    assert most <= 1 + min(MOST, 100 * taken_each_10_ms * HORIZON * 1.001)
