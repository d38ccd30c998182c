from math import inf

import pytest

from benchmarks.figures import number, percentile, spread, waits, windows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (inf, "never"),
        ("1 of 2", "1 of 2"),
        (0.0824, "0.0824"),
        (12.34, "12.3"),
        (1234.0, "1,230"),
        (98765.0, "98,800"),
    ],
)
def test_three_digits_are_shown(value: float | str | None, text: str) -> None:
    assert number(value) == text


def test_a_spread_is_the_median_and_what_it_lies_between() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2 (1 - 3)"
    assert spread([2.0]) == "2"


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 50) == 51
    assert percentile(values, 99) == 100
    assert percentile([7.0], 99) == 7


def test_windows_are_rates_of_equal_parts() -> None:
    course = [(n, n / 10 if n <= 50 else 5 + (n - 50) / 5) for n in range(101)]  # ten a second, then five
    assert windows(course, 2) == [(50, pytest.approx(10)), (100, pytest.approx(5))]


def test_a_wait_is_from_the_commit_to_the_first_start() -> None:
    committed = [(1, 10.0), (2, 10.0), (3, 10.0), (4, 10.0)]
    started = [(1, 10.5), (1, 12.0), (2, 9.9), (3, 10.25)]
    assert waits(committed, started) == [0.0, 250.0, 500.0, inf]
