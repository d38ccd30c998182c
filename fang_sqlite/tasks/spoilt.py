"""Ends tasks whose rows cannot be read, since another program has written into the file: no pool could run them.

A row that stayed would be claimed again and again, and keep those behind it waiting. It stays as a failed one, as it
is, until it is pruned or mended by hand.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import GREATEST, UNREADABLE, claimed_of, named

_LOGGER: Final = SafeLogger("fang_sqlite")

NEXT_ATTEMPT: Final = f"attempt = min(attempt, {GREATEST - 1}) + 1"
"""Raises the attempt in a claim. Beyond the largest integer SQLite would refuse the claim, with all of its tasks."""

_PASSES: Final = 100
"""How often one claim looks again."""

_FAIL: Final = """UPDATE fang_tasks
  SET state = 'failed', error_message = ?, pool_id = NULL, claimed_at = NULL, updated_at = ? WHERE id = ?"""


def passes(tx: Transaction, task_type: str) -> Iterator[None]:
    """Yields while a claim may look for tasks in place of those that it has failed.

    After a claim that brings less than it could, a pool waits. After many passes other connections may write, and the
    pools of the type are woken to go on.
    """
    for _ in range(_PASSES):
        yield
    tx.wake([task_type])


def readable(tx: Transaction, rows: Iterable[tuple[Any, ...]]) -> list[ClaimedTask]:
    """Returns the tasks of claimed rows; fails those that cannot be read."""
    tasks = []
    for row in rows:
        try:
            task = claimed_of(row)
            if task.attempt == GREATEST:
                raise OverflowError
        except UNREADABLE as error:
            fail(tx, row[0], error)
        else:
            tasks.append(task)
    return tasks


def fail(tx: Transaction, id_: bytes, error: Exception) -> None:
    """Fails a task whose row cannot be read, and logs that."""
    reason = f"its row cannot be read ({type(error).__name__}): another program has written it"
    tx.run(_FAIL, (reason, tx.micros, id_))
    _LOGGER.error("task %s was failed: %s", named(id_), reason)
