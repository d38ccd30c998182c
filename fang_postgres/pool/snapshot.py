"""Reads which transactions were running, from the text of Postgres' ``pg_current_snapshot()``: ``xmin:xmax:xip,xip``.

Source: PostgreSQL manual, 9.27.9, 'Transaction ID and Snapshot Information Functions'.
"""

from fang_core.backends.claims import Transactions


def parse_snapshot(text: str) -> Transactions:
    """Reads a snapshot."""
    _, xmax, running = text.split(":")
    return Transactions(int(xmax), frozenset(map(int, running.split(","))) if running else frozenset())
