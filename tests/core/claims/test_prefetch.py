"""What a pool holds ready: the age of every waiting task, from one entry for each claim; and the pace."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fang_core.claims.prefetch import (
    FIRST,
    HORIZON,
    LOOK_AGAIN,
    MEASURED,
    MOST,
    PATIENCE,
    SHORTEST_WAIT,
    Demand,
    PrefetchBuffer,
)

TICKS_A_SECOND = 1000  # whole ticks: sums of floats would differ in their last digit from what the buffer computes


class PoolAroundStock(RuleBasedStateMachine):
    """Hands out, takes and gives back in any order, and knows of each waiting task when it was handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = PrefetchBuffer()
        self.line: list[int] = []
        self.ticks = 5_000

    @property
    def now(self) -> float:
        return self.ticks / TICKS_A_SECOND

    @rule(count=st.integers(0, 30))
    def hand_out(self, count: int) -> None:
        self.buffer.hand_out(count, len(self.line), self.now)
        self.line += [self.ticks] * count

    @rule(count=st.integers(1, 40))
    def workers_take(self, count: int) -> None:
        del self.line[:count]

    @rule(ticks=st.integers(1, 400))
    def time_passes(self, ticks: int) -> None:
        self.ticks += ticks

    @rule()
    def measure(self) -> None:
        self.buffer.measure(len(self.line), self.now)
        assert self.buffer.pace >= 0
        assert 1 <= self.buffer.most <= MOST

    @precondition(lambda self: self.line)
    @rule()
    def give_back(self) -> None:
        overdue = self.buffer.overdue(len(self.line), self.now)
        del self.line[:overdue]
        self.buffer.went_back(overdue, len(self.line), self.now)
        assert self.buffer.pace == 0
        assert not [since for since in self.line if self.now - since / TICKS_A_SECOND >= PATIENCE]

    @invariant()
    def every_age_is_known(self) -> None:
        ages = [self.now - since / TICKS_A_SECOND for since in self.line]
        assert self.buffer.overdue(len(self.line), self.now) == sum(age >= PATIENCE for age in ages)
        left = PATIENCE - ages[0] if ages else inf
        assert self.buffer.patience(len(self.line), self.now) == pytest.approx(max(SHORTEST_WAIT, left))


TestPoolAroundStock = PoolAroundStock.TestCase


def test_one_entry_is_kept_for_each_claim_that_waits() -> None:
    buffer = PrefetchBuffer()
    for claim in range(1_000):
        buffer.hand_out(500, 250, claim * 0.01)
        buffer.overdue(750, claim * 0.01)
    assert len(buffer._batches) <= 2


# The pace -------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1_000), st.floats(2 * MEASURED, 10))
def test_while_there_is_enough_the_pace_is_what_workers_take(taken: int, seconds: float) -> None:
    buffer = PrefetchBuffer()
    buffer.hand_out(1_001, 0, 100)
    buffer.measure(1_001 - taken, 100 + seconds)
    assert buffer.pace == pytest.approx(taken / seconds, rel=1e-6)


def test_workers_that_had_nothing_to_take_do_not_slow_it_down() -> None:
    buffer = PrefetchBuffer()
    buffer.hand_out(100, 0, 10)
    buffer.measure(50, 10.05)
    assert buffer.pace == pytest.approx(1_000)
    buffer.measure(0, 20)
    assert buffer.pace == pytest.approx(1_000)
    buffer.hand_out(200, 0, 20.05)
    buffer.measure(0, 20.1)
    assert buffer.pace == pytest.approx(4_000)


def test_it_is_not_measured_over_a_moment() -> None:
    buffer = PrefetchBuffer()
    buffer.hand_out(100, 0, 10)
    buffer.measure(1, 10 + MEASURED / 2)
    assert buffer.pace == 0


def test_what_was_given_back_was_not_taken() -> None:
    buffer = PrefetchBuffer()
    buffer.hand_out(100, 0, 10)
    buffer.went_back(100, 0, 10.15)
    buffer.measure(0, 10.2)
    assert buffer.pace == 0


def test_while_all_workers_are_busy_for_long_nothing_is_claimed_ahead() -> None:
    """Their runs of a millisecond have taught the pool to hold hundreds; then each of ten takes a long one."""
    buffer, demand = PrefetchBuffer(), Demand(10)
    for _ in range(500):
        demand.observe(0.001)
    buffer.hand_out(500, 0, 10)
    buffer.measure(250, 10.05)
    assert demand.wanted(free=0, waiting=120, unwritten=0, pace=buffer.pace, most=MOST) > 0

    buffer.measure(240, 10.1)
    assert demand.ahead(buffer.pace) <= 240 * HORIZON / 0.05
    assert demand.wanted(free=0, waiting=240, unwritten=0, pace=buffer.pace, most=MOST) == 0
    overdue = buffer.overdue(240, 10 + PATIENCE)
    assert overdue == 240
    buffer.went_back(240, 0, 10 + PATIENCE)
    for now in (10.2, 10.3, 20):
        buffer.measure(0, now)
        assert demand.wanted(free=0, waiting=0, unwritten=0, pace=buffer.pace, most=MOST) == 0
    assert demand.wanted(free=1, waiting=0, unwritten=0, pace=buffer.pace, most=MOST) == 1


@given(workers=st.integers(1, 200), taken_each_10_ms=st.integers(0, 500), own=st.floats(1e-4, 1e-2))
def test_what_is_claimed_ahead_is_taken_within_the_horizon(workers: int, taken_each_10_ms: int, own: float) -> None:
    """However many of its workers take part: most may be stuck in long runs, or share one thread."""
    buffer, demand, waiting, now = PrefetchBuffer(), Demand(workers), 0, 10.0
    for _ in range(500):
        demand.observe(own)
    most = 0
    for turn in range(200):
        wanted = demand.wanted(free=int(waiting == 0), waiting=waiting, unwritten=0, pace=buffer.pace, most=MOST)
        buffer.hand_out(wanted, waiting, now)
        waiting += wanted
        if turn > 20:
            most = max(most, waiting)
        waiting -= min(waiting, taken_each_10_ms)
        now += 0.01
        buffer.measure(waiting, now)
    assert most <= 1 + min(MOST, 100 * taken_each_10_ms * HORIZON * 1.001)


# How many may wait ----------------------------------------------------------------------------------------------------


def supplied(buffer: PrefetchBuffer, *, seconds_each: float, claims: int, now: float = 10.0) -> float:
    """Has workers of one event loop, all of them free, take a task each so many seconds; the time when they end."""
    for _ in range(claims):
        waiting, brought = buffer.most, now
        buffer.hand_out(waiting, 0, now)
        while waiting > (buffer.most - 1) // 2 or now < brought + 0.001:
            now += seconds_each
            waiting -= 1
            buffer.measure(waiting, now)
            if not waiting:
                break
        while waiting:  # what is left goes as fast
            now += seconds_each
            waiting -= 1
        buffer.measure(0, now)
    return now


@pytest.mark.parametrize(("milliseconds", "enough"), [(30, 2), (5, 10), (1, 50), (0.1, 500)])
def test_no_more_wait_than_what_workers_take_in_the_horizon(milliseconds: float, enough: int) -> None:
    buffer = PrefetchBuffer()
    supplied(buffer, seconds_each=milliseconds / 1000, claims=30)
    assert enough / 2 <= buffer.most <= 2 * enough


def test_a_pool_that_was_slow_claims_much_again_as_soon_as_it_is_not() -> None:
    buffer = PrefetchBuffer()
    now = supplied(buffer, seconds_each=0.2, claims=3)
    assert buffer.most == 1
    supplied(buffer, seconds_each=0.00001, claims=10, now=now)
    assert buffer.most == MOST


def test_workers_that_have_nothing_to_take_are_not_slow() -> None:
    buffer = PrefetchBuffer()
    buffer.hand_out(FIRST, 0, 10)
    buffer.measure(0, 10.001)
    before = buffer.most
    for second in range(11, 100):
        buffer.measure(0, second)
    assert buffer.most == before > FIRST


# Whom to ask ----------------------------------------------------------------------------------------------------------


def test_it_asks_once_in_a_while_and_only_while_a_task_waits_too_long() -> None:
    buffer, overdue_at = PrefetchBuffer(), 10 + PATIENCE
    buffer.hand_out(5, 0, 10)
    assert not buffer.asks(5, 10 + PATIENCE / 2)
    assert buffer.asks(5, overdue_at)
    assert not buffer.asks(5, overdue_at + LOOK_AGAIN / 3)
    assert buffer.patience(5, overdue_at + LOOK_AGAIN / 3) == pytest.approx(LOOK_AGAIN * 2 / 3)
    assert buffer.asks(5, overdue_at + 1.1 * LOOK_AGAIN)
    assert not buffer.asks(0, overdue_at + 3 * LOOK_AGAIN)


def looks(buffer: PrefetchBuffer, waiting: int, now: float) -> bool:
    """Looks whether workers are stuck, at a time when it asks."""
    assert buffer.asks(waiting, now)
    return buffer.is_stuck


def test_workers_are_stuck_once_two_looks_found_that_they_took_nothing_of_what_waits() -> None:
    buffer = PrefetchBuffer()
    buffer.hand_out(5, 0, 10)
    assert not looks(buffer, 5, 10.5)
    assert looks(buffer, 5, 10.5 + 1.1 * LOOK_AGAIN)
    assert not looks(buffer, 4, 11)
    assert looks(buffer, 4, 11.5)
    buffer.hand_out(5, 0, 20)  # they had nothing to take
    assert not looks(buffer, 5, 20.5)


def test_a_process_that_stood_still_has_proven_nothing_about_its_workers() -> None:
    """Its first look comes late, before they could take anything."""
    buffer = PrefetchBuffer()
    buffer.hand_out(5, 0, 10)
    buffer.hand_out(5, 5, 60)
    assert not looks(buffer, 10, 60)
    assert not looks(buffer, 9, 60.5)


def test_tasks_that_went_back_do_not_make_the_next_ones_look_stuck() -> None:
    buffer = PrefetchBuffer()
    buffer.hand_out(5, 0, 10)
    assert not looks(buffer, 5, 10.5)
    buffer.went_back(5, 0, 10.5)
    buffer.hand_out(5, 0, 11)
    assert not looks(buffer, 5, 11.5)
