"""Counts times in buckets that can be added up over pools, minutes and kinds, and says what their quantiles are.

Eight buckets a decade, from 0.1 ms to 27 days: a quantile is then off by 2 % as a rule, and by 15 % at worst, when all
values are alike. The bounds are in every row of history, so they never change: ``VERSION`` would have to, and with it
every reader.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

VERSION: Final = 1

BOUNDS: Final = tuple(1e-4 * 10 ** (k / 8) for k in range(84))
"""Seconds. Bucket k holds the times from bound k - 1 up to, but without, bound k; bucket 84 those from the last on."""

COMMENT: Final = f"buckets={VERSION}: of 0.0001 s * 10 ^ (k / 8), k = 0 to 83"
"""Stands on the table of history."""

Histogram: TypeAlias = Mapping[int, int]
"""How many times are in which bucket; empty buckets are left out."""


def bucket(seconds: float) -> int:
    """Returns the bucket of a time."""
    return bisect_right(BOUNDS, seconds)


def merged(histograms: Iterable[Histogram]) -> dict[int, int]:
    """Returns the sum of histograms."""
    total: dict[int, int] = {}
    for histogram in histograms:
        for index, count in histogram.items():
            total[index] = total.get(index, 0) + count
    return total


def quantiles(histogram: Histogram, shares: Sequence[float]) -> list[float]:
    """Returns the times, in seconds, below which these shares of the counted ones lie; zeros if none was counted.

    Inside of a bucket it interpolates geometrically, as the bounds grow. ``shares`` are in rising order, 0 to 1.
    """
    total = sum(histogram.values())
    if not total:
        return [0.0] * len(shares)
    found: list[float] = []
    below = 0
    filled = iter(sorted((index, count) for index, count in histogram.items() if count))
    index, count = next(filled)
    for share in shares:
        wanted = share * total
        while below + count < wanted:
            following = next(filled, None)
            if following is None:
                break
            below += count
            index, count = following
        found.append(_within(index, min(1.0, max(0.0, wanted - below) / count)))
    return found


def _within(index: int, share: float) -> float:
    """Returns the time at this share of the way through a bucket."""
    if index == 0:
        return BOUNDS[0] * share
    if index >= len(BOUNDS):
        return BOUNDS[-1]
    low, high = BOUNDS[index - 1], BOUNDS[index]
    return float(low * (high / low) ** share)
