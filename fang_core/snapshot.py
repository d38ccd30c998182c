"""Which transactions were running at a moment, as Postgres' ``pg_current_snapshot()`` writes it: ``xmin:xmax:xip,xip``.

Source: PostgreSQL manual, 9.27.9, 'Transaction ID and Snapshot Information Functions'.
"""

from typing import NamedTuple


class Snapshot(NamedTuple):
    """Transactions below ``xmax`` had ended, but for those in ``running``; those from ``xmax`` on had not begun."""

    xmax: int
    running: frozenset[int]


def parse_snapshot(text: str) -> Snapshot:
    """An empty text is a backend without such: nothing runs there."""
    if not text:
        return Snapshot(0, frozenset())
    _, xmax, running = text.split(":")
    return Snapshot(int(xmax), frozenset(map(int, running.split(","))) if running else frozenset())
