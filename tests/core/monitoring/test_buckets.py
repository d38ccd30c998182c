"""The buckets of histograms: their bounds never change, and quantiles are as good as is said."""

import hashlib
import random

import pytest

from fang_core.monitoring.buckets import BOUNDS, COMMENT, VERSION, bucket, merged, quantiles

SHARES = (0.5, 0.95, 0.99)


def test_the_bounds_are_those_of_all_rows_that_were_ever_written() -> None:
    written = ",".join(f"{bound:.6e}" for bound in BOUNDS)
    assert hashlib.sha256(written.encode()).hexdigest()[:16] == "f79ce0363f791bdf"
    assert (VERSION, len(BOUNDS)) == (1, 84)
    assert COMMENT == "buckets=1: of 0.0001 s * 10 ^ (k / 8), k = 0 to 83"


@pytest.mark.parametrize(
    ("seconds", "index"),
    [(-1.0, 0), (0.0, 0), (9.9e-5, 0), (1e-4, 1), (1.3e-4, 1), (0.00134, 10), (1.0, 33), (1e9, 84), (float("inf"), 84)],
)
def test_each_time_has_a_bucket(seconds: float, index: int) -> None:
    assert bucket(seconds) == index


def test_a_bound_belongs_to_the_bucket_above_it() -> None:
    assert [bucket(bound) for bound in BOUNDS] == list(range(1, 85))


def test_quantiles_are_near_the_true_ones() -> None:
    """15 % off at worst where values spread, whatever their shape."""
    chance = random.Random(1)
    shapes = [
        lambda: chance.lognormvariate(-3, 1),
        lambda: chance.expovariate(20),
        lambda: chance.uniform(0.01, 3),
        lambda: chance.choice((0.002, 5.0)) * chance.uniform(0.5, 2),
    ]
    for shape in shapes:
        values = sorted(shape() for _ in range(4_000))
        histogram: dict[int, int] = {}
        for value in values:
            histogram[bucket(value)] = histogram.get(bucket(value), 0) + 1
        for share, found in zip(SHARES, quantiles(histogram, SHARES), strict=True):
            assert found == pytest.approx(values[int(share * len(values))], rel=0.15)


def test_quantiles_of_sums_are_those_of_all_values() -> None:
    parts = [{10: 5, 12: 1}, {}, {12: 4, 40: 2}]
    assert merged(parts) == {10: 5, 12: 5, 40: 2}
    assert quantiles(merged(parts), SHARES) == quantiles({10: 5, 12: 5, 40: 2}, SHARES)


def test_quantiles_at_the_ends() -> None:
    assert quantiles({}, SHARES) == [0.0, 0.0, 0.0]
    assert quantiles({0: 10}, (0.0, 0.5, 1.0)) == [0.0, 5e-5, 1e-4]
    assert quantiles({84: 3}, (0.5,)) == [BOUNDS[-1]]
    assert quantiles({33: 0, 34: 1}, (0.0, 1.0)) == pytest.approx([BOUNDS[33], BOUNDS[34]])
