"""Deletes tasks whose life ended long enough ago."""

from datetime import timedelta
from typing import Final

from fang_core.backends.store import PruneRequest
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import span
from fang_sqlite.schema import ENDED
from fang_sqlite.tasks import lanes, uniques

_LEFT_FREE: Final = 1_000
"""Pages of 4 kB that stay in the file, since they will be used again."""

_GIVEN_BACK: Final = 2_000
"""Pages that are given back at once, in some 10 ms."""

PRUNE: Final = f"""DELETE FROM fang_tasks WHERE rowid IN (
    SELECT rowid FROM fang_tasks INDEXED BY fang_tasks_ended
    WHERE {ENDED} AND state = ? AND task_type = ? AND updated_at < ? LIMIT ?)"""


def prune(tx: Transaction, request: PruneRequest) -> int:
    """Deletes old rows of some task types, so many of each state at most, and periods that are over; returns how many.

    If much of the file is free by now, some of that goes back to the file system.
    """
    ages = {"finished": request.keep_finished, "cancelled": request.keep_finished, "failed": request.keep_failed}
    count = sum(_pruned(tx, request, state, keep) for state, keep in ages.items() if keep is not None)
    count += uniques.prune(tx, request.limit)
    lanes.prune_rates(tx, request.limit)
    _shrink(tx)
    return count


def _shrink(tx: Transaction) -> None:
    """Gives pages back, if a quarter of them is free. Does nothing in a file that was not made with ``auto_vacuum``."""
    (free,), (pages,) = tx.row("PRAGMA freelist_count"), tx.row("PRAGMA page_count")
    if free > _LEFT_FREE and 4 * free > pages:
        for _ in range(min(free - _LEFT_FREE, _GIVEN_BACK)):
            tx.run("PRAGMA incremental_vacuum(1)")  # with a higher number, too, sqlite3 would make one step


def _pruned(tx: Transaction, request: PruneRequest, state: str, keep: timedelta) -> int:
    before, left = tx.micros - (span(keep) or 0), request.limit
    for task_type in request.task_types:
        left -= tx.run(PRUNE, (state, task_type, before, left))
    return request.limit - left
