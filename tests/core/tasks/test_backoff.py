"""How long a failed task waits."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import Constant, Exponential, Linear
from fang_core.tasks.backoff import DEFAULT_BACKOFF, Backoff, delay_after
from tests.examples import as_often

YEAR = timedelta(days=366)
SECOND = timedelta(seconds=1)

delays = st.timedeltas(timedelta(0), YEAR)
jitters = st.floats(0, 1)
chances = st.floats(0, 1, exclude_max=True)
failures = st.integers(1, 50) | st.integers(1, 10**9)


def fixed(value: float) -> Callable[[], float]:
    return lambda: value


@pytest.mark.parametrize(
    ("backoff", "seconds"),
    [
        (Exponential(jitter=0), [1, 2, 4, 8, 16]),
        (Exponential(initial=3 * SECOND, factor=3, maximum=30 * SECOND, jitter=0), [3, 9, 27, 30, 30]),
        (Exponential(factor=1, jitter=0), [1, 1, 1, 1, 1]),
        (Exponential(initial=timedelta(0), jitter=0), [0, 0, 0, 0, 0]),
        (Linear(jitter=0), [10, 20, 30, 40, 50]),
        (Linear(step=7 * SECOND, maximum=20 * SECOND, jitter=0), [7, 14, 20, 20, 20]),
        (Constant(jitter=0), [10, 10, 10, 10, 10]),
    ],
)
def test_the_first_delays(backoff: Backoff, seconds: list[int]) -> None:
    assert [backoff(failures).total_seconds() for failures in range(1, 6)] == seconds


@as_often(2)
@given(delays, st.floats(1, 1000) | st.integers(1, 1000), delays, jitters, chances, failures)
def test_exponential_stays_within_its_bounds(
    initial: timedelta, factor: float, maximum: timedelta, jitter: float, chance: float, count: int
) -> None:
    backoff = Exponential(initial=initial, factor=factor, maximum=maximum, jitter=jitter, chance=fixed(chance))

    assert timedelta(0) <= backoff(count) <= min(maximum * (1 + jitter) + timedelta(microseconds=1), YEAR)
    assert delay_after(backoff, count, kind="x") == backoff(count)  # always usable


@given(delays, delays, jitters, chances, failures)
def test_linear_stays_within_its_bounds(
    step: timedelta, maximum: timedelta, jitter: float, chance: float, count: int
) -> None:
    backoff = Linear(step=step, maximum=maximum, jitter=jitter, chance=fixed(chance))

    assert timedelta(0) <= backoff(count) <= min(maximum * (1 + jitter) + timedelta(microseconds=1), YEAR)


@pytest.mark.parametrize("backoff", [Exponential, Linear, Constant])
@given(jitter=jitters, chance=chances)
def test_jitter_moves_a_delay_by_at_most_that_part_of_it(backoff: Any, jitter: float, chance: float) -> None:
    plain = backoff(jitter=0)(1)
    spread = backoff(jitter=jitter, chance=fixed(chance))(1)

    assert abs(spread - plain) <= plain * jitter + timedelta(microseconds=1)


def test_jitter_reaches_both_ends() -> None:
    low, high = (Constant(delay=10 * SECOND, jitter=0.5, chance=fixed(chance))(1) for chance in (0.0, 1.0))

    assert (low, high) == (5 * SECOND, 15 * SECOND)


@pytest.mark.parametrize("factor", [1, 1.0, 1.5, 2, 2.0, 1000])
def test_a_billion_failures_cost_nothing(factor: float) -> None:
    expected = SECOND if factor == 1 else timedelta(days=1)

    assert Exponential(factor=factor, jitter=0)(10**9) == expected
    assert Exponential(initial=timedelta(0), factor=factor, jitter=0)(10**9) == timedelta(0)
    assert Linear(jitter=0)(10**9) == timedelta(days=1)


@pytest.mark.parametrize(
    ("backoff", "arguments", "message"),
    [
        (Exponential, {"initial": -SECOND}, "initial must be between"),
        (Exponential, {"maximum": 2 * YEAR}, "maximum must be between"),
        (Exponential, {"factor": 0.5}, "factor must be between"),
        (Exponential, {"factor": 1001}, "factor must be between"),
        (Exponential, {"factor": float("nan")}, "factor must be between"),
        (Exponential, {"jitter": -0.1}, "jitter is a fraction"),
        (Exponential, {"jitter": float("nan")}, "jitter is a fraction"),
        (Linear, {"step": -SECOND}, "step must be between"),
        (Linear, {"maximum": 2 * YEAR}, "maximum must be between"),
        (Linear, {"jitter": 1.1}, "jitter is a fraction"),
        (Constant, {"delay": -SECOND}, "delay must be between"),
        (Constant, {"delay": 2 * YEAR}, "delay must be between"),
        (Constant, {"jitter": 2}, "jitter is a fraction"),
    ],
)
def test_what_cannot_be_meant_is_refused(backoff: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backoff(**arguments)


def test_equal_settings_are_equal() -> None:
    assert Exponential() == Exponential(chance=fixed(0.5))
    assert Exponential() != Exponential(factor=3)


# Backoffs of users ----------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[int], timedelta]:
    def backoff(_: int) -> timedelta:
        raise error

    return backoff


def returning(value: Any) -> Callable[[int], timedelta]:
    return lambda _: value


def test_a_good_one_is_followed() -> None:
    assert delay_after(lambda failures: SECOND * failures, 7, kind="x") == 7 * SECOND
    assert delay_after(returning(timedelta(0)), 7, kind="x") == timedelta(0)
    assert delay_after(returning(YEAR), 7, kind="x") == YEAR


@pytest.mark.parametrize(
    ("backoff", "problem"),
    [
        (raising(ValueError("SECRET")), "raised ValueError"),
        (raising(SystemExit("SECRET")), "raised SystemExit"),
        (returning(5.0), "returned a float"),
        (returning("SECRET"), "returned a str"),
        (returning(None), "returned a NoneType"),
        (returning(-SECOND), "returned -1 day, 23:59:59"),
        (returning(timedelta.max), "returned 999999999 days"),
        (lambda: SECOND, "raised TypeError"),
    ],
)
def test_one_that_misbehaves_gives_way_to_the_default(
    backoff: Any, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fang_core"):
        delay = delay_after(backoff, 4, kind="Fetch")

    plain = 8 * SECOND
    assert abs(delay - plain) <= plain * DEFAULT_BACKOFF.jitter  # type: ignore[attr-defined]
    (record,) = caplog.records
    assert problem in record.getMessage()
    assert "Fetch" in record.getMessage()
    assert "SECRET" not in caplog.text
