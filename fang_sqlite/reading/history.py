"""Reads the counts of pools, in rows of minutes and hours, and the state of task types. ``stats_rows`` has the rules.

Of the keys of rows only those are read that are asked for: the times there are, and never each row of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.backends import stats_rows
from fang_core.backends.json_forms import stats_as_json, stats_from_json
from fang_core.backends.stats_rows import MERGED, Key
from fang_core.monitoring.history import HOUR, MINUTE, POOL, Flush, Flushed, StatsRow
from fang_core.monitoring.reading import Range, stats_of
from fang_core.monitoring.stats import MOST_DUE, HeatPoint, Stats, TypeStats
from fang_core.record import PRIORITIES
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import UNREADABLE, micros, moment, moment_or_none, names_of
from fang_sqlite.schema import DUE
from fang_sqlite.tasks.flow import read_types, running_by_type

# What pools do --------------------------------------------------------------------------------------------------------


def flush(tx: Transaction, writer: UUID, flush: Flush) -> Flushed:
    """Writes rows of a minute over those that this writer has written there; see ``HistoryStore.flush_stats``."""
    if stats_rows.is_late(flush, tx.now):
        return Flushed(tx.now, False)
    write(tx, {Key(MINUTE, flush.minute, writer, pair): row for pair, row in flush.rows.items()})
    return Flushed(tx.now, True)


class Folded(NamedTuple):
    """Says how rows are added up.

    Attributes:
        rows: what is written.
        minutes: the minutes whose rows it replaces.
        oldest: from when on rows are kept.
        number: how many minutes and hours are added up.
        changes: whether there is anything to do.
    """

    rows: Mapping[Key, StatsRow]
    minutes: Sequence[datetime]
    oldest: stats_rows.Oldest
    number: int
    changes: bool


def look(tx: Transaction, keep: timedelta | None, limit: int) -> Folded:
    """Adds up rows, but writes nothing yet: an hour of many kinds takes a while, in which other connections can write.

    No pool writes to what it has read, except one that does the same, with the same result.
    """
    written = [Key(MINUTE, moment(at), _ANYBODY, POOL) for at in _written_minutes(tx, limit)]
    minutes = stats_rows.minutes_to_fold(written, tx.now, limit)
    of_minutes: dict[Key, StatsRow] = {}
    for at in minutes:
        of_minutes |= stats_rows.added_up(MINUTE, at, _rows(tx, MINUTE, micros(at), micros(at)))
    times = [*_times(tx, HOUR), *_times(tx, MINUTE)]
    hours = stats_rows.hours_to_fold(times, tx.now, minutes, limit - len(minutes))
    of_hours: dict[Key, StatsRow] = {}
    for at in hours:
        last = at + timedelta(hours=1) - timedelta(microseconds=1)
        of_hours |= stats_rows.added_up(HOUR, at, _rows(tx, MINUTE, micros(at), micros(last)))
    oldest = stats_rows.oldest_kept(tx.now, keep)
    changes = bool(minutes or hours or any(map(oldest.is_outdated, times)))
    return Folded(of_minutes | of_hours, minutes, oldest, len(minutes) + len(hours), changes)


def fold(tx: Transaction, folded: Folded) -> None:
    """Writes what was added up, and removes old rows."""
    for at in folded.minutes:
        _delete(tx, MINUTE, "at = ?", micros(at))
    write(tx, folded.rows)
    _delete(tx, MINUTE, "at < ?", micros(folded.oldest.minute))
    if folded.oldest.hour is not None:
        _delete(tx, HOUR, "at < ?", micros(folded.oldest.hour))


_ANYBODY: Final = UUID(int=1)
"""Stands for the pool, of whatever id, that has written a row which is not added up yet."""


def _written_minutes(tx: Transaction, limit: int) -> list[int]:
    """Returns the first minutes with rows that pools have written, and that were not added up yet."""
    found = tx.rows(
        """SELECT DISTINCT at FROM fang_stats INDEXED BY fang_stats_written
  WHERE span = 60 AND writer <> zeroblob(16) ORDER BY at LIMIT ?""",
        (limit,),
    )
    return [at for (at,) in found]


def _times(tx: Transaction, span: int) -> list[Key]:
    """Returns a key for each minute, or each hour, that has rows."""
    found = tx.rows(
        """WITH RECURSIVE times (at) AS (
  SELECT (SELECT at FROM fang_stats WHERE span = ? ORDER BY at LIMIT 1)
  UNION ALL
  SELECT (SELECT s.at FROM fang_stats s WHERE s.span = ? AND s.at > times.at ORDER BY s.at LIMIT 1)
  FROM times WHERE times.at IS NOT NULL)
SELECT at FROM times WHERE at IS NOT NULL""",
        (span, span),
    )
    return [Key(span, moment(at), MERGED, POOL) for (at,) in found]


# Reading --------------------------------------------------------------------------------------------------------------


def stats(tx: Transaction, asked: Range) -> Stats:
    """Returns what pools have counted in a range."""
    return stats_of(asked, stats_rows.sums_of(_wanted(tx, asked), asked, tx.now, _types(tx, asked)))


def heat_map(tx: Transaction, asked: Range) -> tuple[HeatPoint, ...]:
    """Returns the histograms of a range, by time."""
    return stats_rows.heat_of_rows(_wanted(tx, asked), asked)


def _wanted(tx: Transaction, asked: Range) -> Iterator[tuple[Key, StatsRow]]:
    times = [*(_times(tx, HOUR) if asked.span == HOUR else ()), *_times(tx, MINUTE)]
    for key in stats_rows.wanted(times, asked, tx.now):
        yield from _rows(tx, key.span, micros(key.at), micros(key.at))


def _types(tx: Transaction, asked: Range) -> list[TypeStats]:
    """Returns how the task types stand that have waiting tasks, pools, or settings of their own."""
    workers: dict[str, int] = {}
    for task_types, mode, count, stopping, at in tx.rows(
        """SELECT p.task_types, p.mode, p.workers, p.stopping, v.at
  FROM fang_pools p LEFT JOIN fang_live v ON v.pool_id = p.id"""
    ):
        told_at = moment_or_none(at)
        counts = stats_rows.counts_workers(mode, stopping=bool(stopping), told_at=told_at, now=tx.now)
        for name in names_of(task_types):
            workers[name] = workers.get(name, 0) + (count if counts else 0)
    kept = read_types(tx)
    names = {*_waiting_types(tx), *workers, *kept}
    running = running_by_type(tx)
    found = []
    for name in sorted(names if asked.task_types is None else names.intersection(asked.task_types)):
        due = _first_due(tx, name)
        found.append(
            stats_rows.type_stats(
                name,
                due=len(due),
                oldest_due=moment(min(due)) if due else None,
                running=running.get(name, 0),
                workers=workers.get(name, 0),
                paused=name in kept and kept[name].is_paused(tx.now),
                now=tx.now,
            )
        )
    return found


def _waiting_types(tx: Transaction) -> list[str]:
    found = tx.rows(
        f"""WITH RECURSIVE types (name) AS (
  SELECT (SELECT task_type FROM fang_tasks INDEXED BY fang_tasks_due WHERE {DUE} ORDER BY task_type LIMIT 1)
  UNION ALL
  SELECT (SELECT t.task_type FROM fang_tasks t INDEXED BY fang_tasks_due
    WHERE t.{DUE} AND t.task_type > types.name ORDER BY t.task_type LIMIT 1)
  FROM types WHERE types.name IS NOT NULL)
SELECT name FROM types WHERE name IS NOT NULL"""
    )
    return [name for (name,) in found]


def _first_due(tx: Transaction, task_type: str) -> list[int]:
    """Returns when the first tasks of a type are due that could start now: of each priority as many as are counted."""
    sql = f"""SELECT scheduled_at FROM fang_tasks INDEXED BY fang_tasks_due
  WHERE {DUE} AND task_type = ? AND priority = ? AND scheduled_at <= ? ORDER BY scheduled_at, id LIMIT {MOST_DUE}"""
    return [due for priority in PRIORITIES for (due,) in tx.rows(sql, (task_type, priority, tx.micros))]


# Rows -----------------------------------------------------------------------------------------------------------------


def _rows(tx: Transaction, span: int, first: int, last: int) -> Iterator[tuple[Key, StatsRow]]:
    """Yields the rows from one time to another."""
    sql = "SELECT at, writer, task_type, kind, row FROM fang_stats WHERE span = ? AND at BETWEEN ? AND ?"
    for at, writer, task_type, kind, text in tx.rows(sql, (span, first, last)):
        try:
            row = stats_from_json(text)
        except UNREADABLE:  # unknown counts are none
            continue
        yield Key(span, moment(at), UUID(bytes=writer), (task_type, kind)), row


def write(tx: Transaction, found: Mapping[Key, StatsRow]) -> None:
    """Writes rows, over those that are there."""
    tx.run_many(
        "INSERT OR REPLACE INTO fang_stats (span, at, writer, task_type, kind, row) VALUES (?, ?, ?, ?, ?, ?)",
        ((key.span, micros(key.at), key.writer.bytes, *key.pair, stats_as_json(row)) for key, row in found.items()),
    )


def _delete(tx: Transaction, span: int, condition: str, at: int) -> None:
    tx.run(f"DELETE FROM fang_stats WHERE span = ? AND {condition}", (span, at))
