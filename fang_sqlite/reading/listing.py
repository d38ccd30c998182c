"""Lists and counts tasks, for as long as there is time: the walks of ``walking`` can be stopped anywhere."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from fang_core.backends.listing import as_listed
from fang_core.monitoring.listing import Count, Place, TaskPage, cursor_of
from fang_core.record import Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.selecting.walks import Walk, place_in, states_of, walk_of
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Connection, Transaction
from fang_sqlite.reading.filters import where
from fang_sqlite.reading.walking import Seen, Walking, key_of, place_of, ranges_of
from fang_sqlite.records import moment
from fang_sqlite.schema import DUE, ENDED

PAGE_SECONDS: Final = 0.04
"""The time after which a page looks no further."""

COUNT_SECONDS: Final = 0.2
"""The time after which a count is given up; half as long again, at most, tells how many tasks there are at least."""

_LOOKS: Final = 64
"""How many rows are looked at between two looks at the clock."""

_STEPS: Final = 10_000
"""How many steps SQLite makes between two looks at the clock: some 0.2 ms."""


def list_tasks(tx: Transaction, which: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
    """Returns a page of the tasks that match. Raises ``UsageError`` for a cursor of another filter."""
    begin = place_in(which, cursor)
    if begin is None:
        return TaskPage(tasks=(), cursor=None, looked_at=0, stopped=False, looked_to=None)
    walk, behind = begin
    walking = Walking(tx, which, walk)
    found: list[Seen] = []
    last: Seen | None = None
    looked, reached, stopped = 0, None, False
    for seen in _until(walking.rows(None if behind is None else place_of(behind)), PAGE_SECONDS):
        if seen is None:
            reached, stopped = last, True
            break
        looked += 1
        if seen.matches and len(found) == limit:
            reached = found[-1]
            break
        last = seen
        if seen.matches:
            found.append(seen)
    return TaskPage(
        tasks=tuple(map(as_listed, rows.listed(tx, [seen.place[-1] for seen in found]))),
        cursor=None if reached is None else cursor_of(Place(walking.walk, key_of(reached.place)), which.digest),
        looked_at=looked,
        stopped=stopped,
        looked_to=None if last is None else moment(last.at),
    )


def _until(walk: Iterator[Seen], seconds: float) -> Iterator[Seen | None]:
    """Yields the results of a walk; None when its time is over before its end."""
    over_at = time.monotonic() + seconds
    for number, seen in enumerate(walk, 1):
        if number % _LOOKS == 0 and time.monotonic() >= over_at:
            yield None
            return
        yield seen


def count_tasks(tx: Transaction, which: TaskFilter, up_to: int) -> Count:
    """Returns how many tasks match: all of them, if they can be counted in time, or else at least how many."""
    walk = walk_of(which)
    if walk is None:
        return Count(0, True)
    if where(which).is_exact:
        count = _counted(tx, which, walk)
        if count is not None:
            return Count(count, True)
    found = 0
    for seen in _until(Walking(tx, which, walk).rows(None), COUNT_SECONDS / 2):
        if seen is None:
            return Count(found, False)
        found += seen.matches
        if found > up_to:
            return Count(found, False)
    return Count(found, True)


_SOURCES: Final = {
    Walk.WAITING: f"INDEXED BY fang_tasks_due WHERE {DUE}",
    Walk.RETRIED: "INDEXED BY fang_tasks_retried WHERE state = 'retried'",
    Walk.HELD: "INDEXED BY fang_tasks_held WHERE pool_id IS NOT NULL",
    Walk.ENDED: f"INDEXED BY fang_tasks_ended WHERE {ENDED}",
    Walk.IDS: "WHERE true",
}


def _counted(tx: Transaction, which: TaskFilter, walk: Walk) -> int | None:
    """Returns how many tasks match, all in the engine; None if that takes too long."""
    assert isinstance(tx.connection, sqlite3.Connection)  # one of ours: a count takes no connection=
    condition = where(which)
    ranges = ranges_of(tx, which) if walk is Walk.INSERTED and not which.is_empty else []
    if walk is Walk.INSERTED:
        source = f"WHERE ({' OR '.join(['id <= ? AND id >= ?'] * len(ranges)) or 'true'})"
    elif which.kinds is not None and states_of(which) == {TaskState.FAILED}:
        source = "INDEXED BY fang_tasks_failed_kinds WHERE state = 'failed'"
    else:
        source = _SOURCES[walk]
    sql = f"SELECT count(*) FROM fang_tasks {source} AND {condition.sql}"
    try:
        with _interrupted_after(tx.connection, COUNT_SECONDS):
            (count,) = tx.row(sql, [*(each for ids in ranges for each in ids), *condition.values])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    return int(count)


@contextmanager
def _interrupted_after(connection: Connection, seconds: float) -> Iterator[None]:
    over_at = time.monotonic() + seconds

    def is_over() -> bool:
        return time.monotonic() >= over_at

    connection.set_progress_handler(is_over, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


# For tests ------------------------------------------------------------------------------------------------------------


def tasks_of_kinds(tx: Transaction, kinds: Sequence[str]) -> list[Task]:
    """Returns the rows of these kinds, in the order of their insertion."""
    condition = where(TaskFilter(kinds=kinds))
    return rows.select(tx, f"WHERE {condition.sql} ORDER BY rowid", condition.values)


def count_by_kind(tx: Transaction) -> dict[str, int]:
    """Returns how many tasks of each kind there are."""
    return dict(tx.rows("SELECT kind, count(*) FROM fang_tasks GROUP BY kind"))
