"""Keeps tables short: a page with ten thousand rows is not read, and makes the browser hang."""

from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

MOST_ROWS: Final = 200
"""Rows of a table."""
MOST_PROBLEMS: Final = 30
MOST_SCHEDULES: Final = 100
MOST_POOLS: Final = 50
MOST_RUNS: Final = 300
"""Runs that go on, on one page."""


class Shown(NamedTuple, Generic[T]):
    """The rows that are shown.

    Attributes:
        rows: the first ones.
        left: how many more there are.
    """

    rows: Sequence[T]
    left: int


def shortened(rows: Sequence[T], most: int = MOST_ROWS) -> Shown[T]:
    """Returns the first rows, and how many were left out."""
    return Shown(rows[:most], max(0, len(rows) - most))


def matching(rows: Sequence[T], text: str, name: Callable[[T], str]) -> Sequence[T]:
    """Returns the rows whose name contains a text, in whatever case; all of them if it is empty."""
    wanted = text.casefold()
    return [row for row in rows if wanted in name(row).casefold()] if wanted else rows
