"""Reads and writes whole rows of ``fang_tasks``: what a rare verb needs, which decides in Python what changes."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fang_core.record import Task
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import (
    COLUMNS,
    MICROSECOND,
    STATE_COLUMNS,
    listed_task_of,
    row_of,
    state_of,
    state_row_of,
    task_of,
)

_NAMES: Final = ", ".join(COLUMNS)

SELECT: Final = f"SELECT {_NAMES} FROM fang_tasks"
"""Reads what ``task_of`` takes; the caller adds the rest."""

# Each ``?`` has its own value: Python 3.12.0 to 3.12.3 warn of ``?1`` as of a name.
WRITE: Final = f"UPDATE fang_tasks SET {', '.join(f'{name} = ?' for name in COLUMNS)} WHERE id = ?"
_SELECT_STATES: Final = f"SELECT {', '.join(STATE_COLUMNS)}, kind, task_type, priority, max_retries FROM fang_tasks"
_WRITE_STATE: Final = f"UPDATE fang_tasks SET {', '.join(f'{name} = ?' for name in STATE_COLUMNS)} WHERE id = ?"
_DELETE: Final = "DELETE FROM fang_tasks WHERE id = ?"


def find(tx: Transaction, task_id: UUID) -> Task | None:
    """Returns a task; None if there is none of this id."""
    row = tx.row(f"{SELECT} WHERE id = ?", (task_id.bytes,))
    return None if row is None else task_of(row)


def select(tx: Transaction, rest: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Task]:
    """Returns tasks; ``rest`` is what follows in the statement, such as ``WHERE pool_id = ? ORDER BY id``."""
    return [task_of(row) for row in tx.rows(f"{SELECT} {rest}", values)]


def among(tx: Transaction, ids: Sequence[bytes]) -> list[Task]:
    """Returns those of these tasks that are there."""
    return [task_of(row) for id_ in ids for row in tx.rows(f"{SELECT} WHERE id = ?", (id_,))]


def listed(tx: Transaction, ids: Sequence[bytes]) -> list[Task]:
    """Returns those of these tasks that are there, as a list has them."""
    return [listed_task_of(row) for id_ in ids for row in tx.rows(f"{SELECT} WHERE id = ?", (id_,))]


def states(tx: Transaction, rest: str, values: Sequence[Any]) -> list[Task]:
    """Returns tasks without payload and headers, which no run changes; other programs may have spoilt their JSON."""
    return [state_of(row) for row in tx.rows(f"{_SELECT_STATES} {rest}", values)]


def write_states(tx: Transaction, tasks: Iterable[Task]) -> None:
    """Writes what runs change of tasks."""
    tx.run_many(_WRITE_STATE, _with_id(map(state_row_of, tasks)))


def later(tx: Transaction, task: Task) -> datetime:
    """Returns the time of a change. It is another one than before, even if the clock was set back: it is compared."""
    return max(tx.now, task.updated_at + MICROSECOND)


def write(tx: Transaction, tasks: Iterable[Task]) -> None:
    """Writes tasks over their rows."""
    tx.run_many(WRITE, _with_id(map(row_of, tasks)))


def _with_id(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Adds to each row its id, which comes first in it, for the condition."""
    return ((*row, row[0]) for row in rows)


def delete(tx: Transaction, ids: Iterable[UUID]) -> int:
    """Deletes tasks, and returns how many there were."""
    return tx.run_many(_DELETE, ((each.bytes,) for each in ids))
