"""Makes the operations on the history of pools."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from fang_core.monitoring.buckets import Histogram
from fang_core.monitoring.history import (
    HOUR,
    KEPT_MINUTES,
    LATEST_WRITE,
    MERGED_AFTER,
    Flush,
    Flushed,
    Pair,
    StatsRow,
)
from fang_core.monitoring.reading import Moment, Range, Sums
from fang_core.monitoring.stats import MOST_DUE, TypeStats
from fang_postgres.names import COUNTERS, HISTOGRAMS, SUMS
from fang_postgres.operations.base import OperationsBase
from fang_postgres.statement import Operation, Rows

_POOLS: Final = 0
_WANTED: Final = 1
"""Roles of the rows of ``sql.stats.read_stats``."""


class StatsReading:
    """Adds up rows of history, for operations and for reports."""

    _statements: Any  # subclasses have them, all of them or those of reports

    def read_stats(self, asked: Range) -> Operation[Sums]:
        """Returns the sums of a range, without histograms and without task types."""
        return Operation(self._statements.read_stats, _asked(asked), _as_sums)

    def read_histograms(self, asked: Range) -> Operation[dict[Pair, tuple[Histogram, Histogram]]]:
        """Returns the histograms of a range, by task type and kind: of time in queue, and of run."""

        def decode(rows: Rows) -> dict[Pair, tuple[Histogram, Histogram]]:
            return _as_histograms(
                ((task_type, kind), what, index, count) for task_type, kind, what, index, count in rows
            )

        return Operation(self._statements.read_histograms, _asked(asked), decode)


class Stats(OperationsBase, StatsReading):
    """Writes and removes rows of history, and adds them up."""

    def tell_time(self) -> Operation[datetime]:
        """Returns the database's clock."""
        return Operation(self._statements.clock, {}, lambda rows: rows[0][0])

    def flush_stats(self, writer: UUID, flush: Flush) -> Operation[Flushed]:
        """Overwrites rows of a writer under a minute."""
        rows = [
            {"task_type": task_type, "kind": kind} | _values(row)
            for (task_type, kind), row in sorted(flush.rows.items())
        ]
        # No \u escapes: a database in SQL_ASCII takes any text, but refuses these.
        text = json.dumps(rows, ensure_ascii=False)
        params = {"p_at": flush.minute, "p_writer": writer, "p_rows": text, "p_latest": LATEST_WRITE}
        return Operation(self._statements.flush_stats, params, lambda rows: Flushed(*rows[0]))

    def unmerged_minute(self, since: datetime | None) -> Operation[datetime | None]:
        """Returns the first minute from ``since`` on to merge; None if there is none, or another session merges."""
        params = {"p_since": since, "p_after": MERGED_AFTER}
        return Operation(self._statements.unmerged_minute, params, _first)

    def merge_minute(self, at: datetime) -> Operation[None]:
        """Makes the rows of a minute one for each task type and kind."""
        return Operation(self._statements.merge_minute, {"p_at": at, "p_after": MERGED_AFTER}, lambda _: None)

    def unfolded_hour(self) -> Operation[datetime | None]:
        """Returns the first hour to add up; None if there is none, or another session does it."""
        return Operation(self._statements.unfolded_hour, {"p_after": MERGED_AFTER}, _first)

    def fold_hour(self, at: datetime) -> Operation[None]:
        """Adds up the minutes of an hour."""
        return Operation(self._statements.fold_hour, {"p_at": at}, lambda _: None)

    def refold_hour(self, at: datetime) -> Operation[None]:
        """Adds up the minutes of the hour of this minute again, if that was done before."""
        return Operation(self._statements.refold_hour, {"p_at": at}, lambda _: None)

    def prune_stats(self, keep: timedelta | None) -> Operation[int]:
        """Removes old rows; returns how many."""
        minutes = KEPT_MINUTES if keep is None else min(keep, KEPT_MINUTES)
        return Operation(self._statements.prune_stats, {"p_keep_minutes": minutes, "p_keep": keep}, len)

    def read_heat(self, asked: Range) -> Operation[dict[tuple[datetime, Pair], tuple[Histogram, Histogram]]]:
        """Returns the histograms of a range, by time too."""

        def decode(rows: Rows) -> dict[tuple[datetime, Pair], tuple[Histogram, Histogram]]:
            return _as_histograms(((at, (type_, kind)), what, index, n) for at, type_, kind, what, index, n in rows)

        return Operation(self._statements.read_heat, _asked(asked), decode)

    def read_types(self, task_types: Sequence[str] | None) -> Operation[list[TypeStats]]:
        """Returns how these task types stand now; all of them for None."""
        params = {"p_task_types": None if task_types is None else list(task_types)}
        return Operation(self._statements.read_types, params, lambda rows: [_as_type(row) for row in rows])


K = TypeVar("K")


def _asked(asked: Range) -> dict[str, Any]:
    return {
        "p_hours": asked.span == HOUR,
        "p_lasts": asked.lasts,
        "p_task_types": None if asked.task_types is None else list(asked.task_types),
        "p_kinds": None if asked.kinds is None else list(asked.kinds),
    }


def _as_sums(rows: Rows) -> Sums:
    by_pair: dict[Pair, StatsRow] = {}
    by_time: dict[tuple[datetime, int], Moment] = {}
    for at, span, role, task_type, kind, *numbers, _, _ in rows:
        if task_type is not None:
            by_pair[task_type, kind] = StatsRow(*numbers)
        elif at is not None:
            moment = by_time.get((at, span), Moment())
            if role == _POOLS:
                by_time[at, span] = moment._replace(pools=StatsRow(*numbers))
            elif role == _WANTED:
                by_time[at, span] = moment._replace(wanted=StatsRow(*numbers))
    since, until = rows[0][-2:]
    return Sums(since, until, by_pair, by_time, ())


def _as_histograms(cells: Iterable[tuple[K, int, int, int]]) -> dict[K, tuple[Histogram, Histogram]]:
    found: dict[K, tuple[dict[int, int], dict[int, int]]] = {}
    for key, what, index, count in cells:
        found.setdefault(key, ({}, {}))[what - 1][index] = count
    return dict(found)


def _as_type(row: Sequence[Any]) -> TypeStats:
    task_type, due, oldest_due, running, workers, paused = row
    return TypeStats(
        task_type=task_type,
        due=due,
        due_is_exact=due < MOST_DUE,
        oldest_due=oldest_due,
        running=running,
        workers=workers,
        paused=paused,
    )


def _first(rows: Rows) -> Any:
    return rows[0][0]


def _values(row: StatsRow) -> dict[str, Any]:
    numbers: Sequence[Any] = row[:12]
    histograms = (row.queue, row.run)
    return dict(zip((*COUNTERS, *SUMS), numbers, strict=True)) | dict(
        zip(HISTOGRAMS, map(as_array, histograms), strict=True)
    )


def as_array(histogram: Histogram) -> str:
    """Returns a histogram as the text of an array whose own subscripts are the buckets."""
    if not histogram:
        return "{}"
    low, high = min(histogram), max(histogram)
    return f"[{low}:{high}]={{{','.join(str(histogram.get(index, 0)) for index in range(low, high + 1))}}}"
