"""Defines a transaction as functions on tasks, types and schedules get it, with its time and its notifications.

They are plain functions of one connection, whatever thread calls them, and neither begin nor end the transaction. The
one who runs them commits, and then sends the notifications noted here: a rollback must send none.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from fang_sqlite.records import Undecodable, micros

Values: TypeAlias = Sequence[Any] | Mapping[str, Any]


class Connection(Protocol):
    """A connection of ours, or one of a caller's that is borrowed."""

    def execute(self, sql: str, values: Values = ..., /) -> sqlite3.Cursor:
        """Runs a statement."""
        ...

    def executemany(self, sql: str, values: Iterable[Values], /) -> sqlite3.Cursor:
        """Runs a statement for each of many values."""
        ...

    def set_progress_handler(self, handler: Callable[[], int] | None, steps: int, /) -> None:
        """Calls the handler after every ``steps`` steps of a statement, which ends if that returns true."""
        ...


@dataclass(slots=True)
class Transaction:
    """One transaction on the file, of ours or of a caller's.

    Attributes:
        connection: its connection. Values of the tables are in the form that ``records`` has.
        now: the time of all that is written in it: the host's clock when it began.
        woken: the task types of tasks that can be taken now: ``on_wake(None)`` to the pools that wait.
        late: the task types whose pools are to look for tasks that may start now: ``on_wake(LateRows(type, 0, None))``.
        told: the pools of which something was said, or ``SCHEDULES``: ``on_told``.
    """

    connection: Connection
    now: datetime
    woken: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    told: set[UUID] = field(default_factory=set)

    @property
    def micros(self) -> int:
        """The time as the tables have it."""
        return micros(self.now)

    @property
    def tells(self) -> bool:
        """Returns whether a pool is to be notified."""
        return bool(self.woken or self.late or self.told)

    def rows(self, sql: str, values: Values = ()) -> list[Any]:
        """Runs a statement, and returns all of its rows; a text that is no UTF-8 comes as ``Undecodable``."""
        cursor = self.connection.execute(sql, values)
        found: list[Any] = []
        try:
            found.extend(cursor)  # unlike fetchall(), it keeps the rows before one that raises
        except sqlite3.OperationalError as error:
            if not _is_undecodable(error):
                raise
            _go_on(cursor, found)
        return found

    def row(self, sql: str, values: Values = ()) -> Any:
        """Runs a statement that has one row at most, and returns it, or None."""
        return next(iter(self.rows(sql, values)), None)

    def run(self, sql: str, values: Values = ()) -> int:
        """Runs a statement that writes, and returns how many rows it has changed."""
        return self.connection.execute(sql, values).rowcount

    def run_many(self, sql: str, values: Iterable[Values]) -> int:
        """Runs a statement that writes for each of many values, and returns how many rows it has changed."""
        return max(0, self.connection.executemany(sql, values).rowcount)

    def wake(self, task_types: Iterable[str]) -> None:
        """Notes task types with tasks that can be taken now."""
        self.woken.update(task_types)

    def tell_types(self, task_types: Iterable[str]) -> None:
        """Notes task types whose tasks may start now, since a slot is free or a setting has changed."""
        self.late.update(task_types)

    def tell(self, pool_ids: Iterable[UUID]) -> None:
        """Notes pools of which something was said."""
        self.told.update(pool_ids)


def _is_undecodable(error: sqlite3.OperationalError) -> bool:
    """Returns whether a text could not be decoded: an error of Python's module, which has no code of SQLite's."""
    return not hasattr(error, "sqlite_errorcode") and str(error).startswith("Could not decode to UTF-8")


def _go_on(cursor: sqlite3.Cursor, found: list[Any]) -> None:
    """Adds the rows from the one on whose text could not be decoded.

    The cursor still stands on that row. To run the statement again would be wrong: one with RETURNING has written.
    The connection decodes so only here, as it takes longer than ``str``, which the module decodes by itself.
    """
    connection = cursor.connection
    connection.text_factory = Undecodable.or_text
    try:
        found.extend(cursor)
    finally:
        connection.text_factory = str
