"""Deletes tasks whose life ended long enough ago."""

from datetime import timedelta
from typing import Final

from fang_core.backends.pools import PruneRequest
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import span
from fang_sqlite.schema import ENDED
from fang_sqlite.tasks import lanes, uniques

_LEFT_FREE: Final = 1_000
"""Pages of 4 kB that stay in the file, since they will be used again."""

_GIVEN_BACK: Final = 2_000
"""Pages that are given back at once, in some 10 ms."""

STEPS: Final = 30
"""How often that is done in a round of upkeep, with which a file loses 240 MB a minute."""

_INCREMENTAL: Final = 2
"""What ``PRAGMA auto_vacuum`` says of such a file."""

PRUNE: Final = f"""DELETE FROM fang_tasks WHERE rowid IN (
    SELECT rowid FROM fang_tasks INDEXED BY fang_tasks_ended
    WHERE {ENDED} AND state = ? AND task_type = ? AND updated_at < ? LIMIT ?)"""


def prune(tx: Transaction, request: PruneRequest) -> int:
    """Deletes old rows of some task types, up to a limit for each state, and old periods; returns how many."""
    ages = {"finished": request.keep_finished, "cancelled": request.keep_finished, "failed": request.keep_failed}
    count = sum(_pruned(tx, request, state, keep) for state, keep in ages.items() if keep is not None)
    count += uniques.prune(tx, request.limit)
    lanes.prune_rates(tx, request.limit)
    return count


def has_much_free(tx: Transaction) -> bool:
    """Returns whether a quarter of the file is free and can be given back: it was made with ``auto_vacuum``."""
    (free,), (pages,) = tx.row("PRAGMA freelist_count"), tx.row("PRAGMA page_count")
    (vacuum,) = tx.row("PRAGMA auto_vacuum")
    return bool(free > _LEFT_FREE and 4 * free > pages and vacuum == _INCREMENTAL)


def give_back(tx: Transaction) -> None:
    """Gives some of the free pages back to the file system."""
    (free,) = tx.row("PRAGMA freelist_count")
    for _ in range(min(free - _LEFT_FREE, _GIVEN_BACK)):
        tx.run("PRAGMA incremental_vacuum(1)")  # with a higher number, too, sqlite3 would make one step


def _pruned(tx: Transaction, request: PruneRequest, state: str, keep: timedelta) -> int:
    before, left = tx.micros - (span(keep) or 0), request.limit
    for task_type in request.task_types:
        left -= tx.run(PRUNE, (state, task_type, before, left))
    return request.limit - left
