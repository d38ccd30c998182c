"""Adds up the history: each script does it for one minute or one hour, in a transaction under the lock for it.

The lock keeps two pools from adding up the same rows at once. Each statement takes its snapshot when it has the lock.
"""

from datetime import datetime

from fang_postgres.operations.stats import Stats
from fang_postgres.statement import Script


def merge_next(operations: Stats, since: datetime | None) -> Script[datetime | None]:
    """Merges the rows of the next minute from ``since`` on; returns which, or None if there is nothing to do.

    If the hour of that minute was added up before, it is added up again.
    """
    at: datetime | None = yield operations.unmerged_minute(since)
    if at is not None:
        yield operations.merge_minute(at)
        yield operations.refold_hour(at)
    return at


def fold_next(operations: Stats) -> Script[datetime | None]:
    """Adds up the minutes of the next hour; returns which, or None if there is nothing to do."""
    at: datetime | None = yield operations.unfolded_hour()
    if at is not None:
        yield operations.fold_hour(at)
    return at
