"""Deletes tasks whose life ended long enough ago."""

from datetime import timedelta
from typing import Final

from fang_core.backends.store import PruneRequest
from fang_sqlite import lanes, uniques
from fang_sqlite.records import span
from fang_sqlite.schema import ENDED
from fang_sqlite.transaction import Transaction

PRUNE: Final = f"""DELETE FROM fang_tasks WHERE rowid IN (
    SELECT rowid FROM fang_tasks INDEXED BY fang_tasks_ended
    WHERE {ENDED} AND state = ? AND task_type = ? AND updated_at < ? LIMIT ?)"""


def prune(tx: Transaction, request: PruneRequest) -> int:
    """Deletes old rows of some task types, so many of each state at most, and periods that are over; returns how many.

    Pages that are free then go back to the file system, if the file was made by this library.
    """
    ages = {"finished": request.keep_finished, "cancelled": request.keep_finished, "failed": request.keep_failed}
    count = sum(_pruned(tx, request, state, keep) for state, keep in ages.items() if keep is not None)
    lanes.prune_rates(tx, request.limit)
    return count + uniques.prune(tx, request.limit)


def _pruned(tx: Transaction, request: PruneRequest, state: str, keep: timedelta) -> int:
    before, left = tx.micros - (span(keep) or 0), request.limit
    for task_type in request.task_types:
        left -= tx.run(PRUNE, (state, task_type, before, left))
    return request.limit - left
