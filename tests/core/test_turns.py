"""The rule by which calls wait for a database that is away."""

from datetime import timedelta
from typing import Any

import pytest

from fang_core.errors import (
    AccessRefused,
    BackendError,
    BackendUnavailable,
    NotConnected,
    OutcomeUnknown,
    ReadOnlyServer,
    UsageError,
)
from fang_core.turns import Turns, waits_for


def test_only_what_was_certainly_not_written_waits() -> None:
    assert all(waits_for(error("")) for error in (NotConnected, ReadOnlyServer))
    assert not any(waits_for(error("")) for error in (BackendError, BackendUnavailable, OutcomeUnknown, AccessRefused))


def test_the_pauses_grow_to_half_a_second() -> None:
    turns, now, pauses = Turns(timedelta(seconds=9), chance=lambda: 0.5), 0.0, []
    for _ in range(6):
        turns.failed(now)
        pauses.append(turns.wait(now))
        now += pauses[-1]
        assert turns.wait(now) == 0.0
        now += 1.0  # the try itself
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5])


def test_the_pauses_are_spread_by_half() -> None:
    least, most = [Turns(timedelta(seconds=9), chance=lambda spread=spread: spread) for spread in (0.0, 1.0)]
    for turns in (least, most):
        turns.failed(0.0)
    assert (least.wait(0.0), most.wait(0.0)) == pytest.approx((0.025, 0.075))


def test_one_call_tries_for_all_that_wait_and_its_success_lets_them_follow() -> None:
    turns = Turns(timedelta(seconds=9), chance=lambda: 0.5)
    for _ in range(1_000):
        turns.failed(0.0)
    now = turns.wait(0.0)
    assert now == pytest.approx(0.05)
    assert turns.wait(now) == 0.0
    assert all(turns.wait(now) > 0 for _ in range(999))
    turns.ended()
    assert [turns.wait(now) for _ in range(999)] == [0.0] * 999


@pytest.mark.parametrize("within", [timedelta(seconds=-1), 5, None, timedelta(days=100_000)])
def test_what_is_no_period_is_refused(within: Any) -> None:
    with pytest.raises(UsageError, match="wait_for_database must be"):
        Turns(within)
