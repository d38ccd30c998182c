"""Computes figures: the median, the range around it, and as many digits as such measurements allow."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

Cell = str | float | None


class Bar(NamedTuple):
    """One value, and the least and the most of its rounds."""

    label: str
    value: float
    least: float
    most: float


class Line(NamedTuple):
    """The points of one line, in order of x."""

    label: str
    points: Sequence[tuple[float, float]]


def number(value: Cell) -> str:
    """Formats a number with three digits: 12.3, 4,560, 78,900."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if value == inf:
        return "never"
    if abs(value) < 1000:
        return f"{value:.3g}"
    digits = len(str(int(abs(value))))
    return f"{round(value, 3 - digits):,.0f}"


def spread(values: Sequence[float]) -> str:
    """Formats the median with the least and the most: 63,500 (61,000 - 66,200)."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} - {number(max(values))})"


def bar(label: str, values: Sequence[float]) -> Bar:
    """Returns the median of rounds, with their least and most."""
    return Bar(label, statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns a percentile by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]


Times = Iterable[tuple[int, float]]
"""The number of each task, and a time in seconds on the one clock of a machine."""


def waits(committed: Times, started: Times) -> list[float]:
    """Returns the milliseconds from the commit of each task to the start of its run, in order; infinite without a run.

    The client sees its commit later than other sessions do: a run that has started by then has waited for nothing.
    """
    first = dict(sorted(started, key=lambda run: run[1], reverse=True))
    return sorted(max(0.0, first.get(number, inf) - at) * 1000 for number, at in committed)


def windows(course: Sequence[tuple[int, float]], count: int = 10) -> list[tuple[float, float]]:
    """Returns the rate in each of ``count`` equal parts of a drain: (tasks drained by its end, tasks a second)."""
    ends = [course[round(index * (len(course) - 1) / count)] for index in range(count + 1)]
    return [(upto, (upto - since) / max(1e-9, end - begin)) for (since, begin), (upto, end) in itertools.pairwise(ends)]
