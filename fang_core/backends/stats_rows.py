"""Decides which rows of history to fold, to read and to prune, for a backend that adds them up in Python.

A row is one of a minute or an hour, of one writer, task type and kind. All of this is pure. A backend reads the keys,
or the rows, that it is asked for, and does what comes back in one transaction:

- ``flush``: if ``is_late``, write nothing; else write each row under ``Key(MINUTE, flush.minute, writer, pair)``.
- ``fold``: ``minutes_to_fold``, then ``added_up`` with the rows of each in place of them; then ``hours_to_fold``, and
  ``added_up`` with the minutes of each, which stay; then remove what ``is_outdated``.
- ``stats`` and ``heat_map``: the ``wanted`` rows, to ``sums_of`` or ``heat_of_rows``.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.monitoring.history import (
    HOUR,
    KEPT_MINUTES,
    LATEST_WRITE,
    MERGED_AFTER,
    MINUTE,
    POOL,
    Flush,
    Pair,
    StatsRow,
    hour_of,
    total,
)
from fang_core.monitoring.reading import Moment, Range, Sums, heat_of
from fang_core.monitoring.silence import is_silent
from fang_core.monitoring.stats import MOST_DUE, HeatPoint, TypeStats

MERGED: Final = UUID(int=0)
"""The writer of rows that have been added up."""


class Key(NamedTuple):
    """Names a row."""

    span: int
    at: datetime
    writer: UUID
    pair: Pair


Rows = Iterable[tuple[Key, StatsRow]]


def is_late(flush: Flush, now: datetime) -> bool:
    """Returns whether the flush must not be written: its minute may have been added up."""
    return flush.minute < now - LATEST_WRITE


def minutes_to_fold(keys: Iterable[Key], now: datetime, limit: int) -> list[datetime]:
    """Returns the first minutes whose rows of all writers become one for each task type and kind."""
    minutes = {key.at for key in keys if key.span == MINUTE and key.writer != MERGED}
    return [at for at in sorted(minutes) if at < now - MERGED_AFTER][:limit]


def hours_to_fold(keys: Collection[Key], now: datetime, folded: Iterable[datetime], limit: int) -> list[datetime]:
    """Returns the first hours that are over and have not been added up, or have got one of the folded minutes since."""
    done = {key.at for key in keys if key.span == HOUR} - {hour_of(at) for at in folded}
    hours = {hour_of(key.at) for key in keys if key.span == MINUTE} - done
    return [hour for hour in sorted(hours) if hour + timedelta(hours=1) <= now - MERGED_AFTER][:limit]


def added_up(span: int, at: datetime, rows: Rows) -> dict[Key, StatsRow]:
    """Returns the sums of these rows, by task type and kind, as the rows of this minute or hour."""
    found: dict[Pair, list[StatsRow]] = defaultdict(list)
    for key, row in rows:
        found[key.pair].append(row)
    return {Key(span, at, MERGED, pair): total(each) for pair, each in found.items()}


class Oldest(NamedTuple):
    """Says from when on rows are kept; None if all are kept."""

    minute: datetime
    hour: datetime | None

    def is_outdated(self, key: Key) -> bool:
        """Returns whether the row is to be removed."""
        since = self.minute if key.span == MINUTE else self.hour
        return since is not None and key.at < since


def oldest_kept(now: datetime, keep: timedelta | None) -> Oldest:
    """Returns from when on rows are kept, if hours are kept for this long: whole hours of minutes are removed."""
    minutes = KEPT_MINUTES if keep is None else min(keep, KEPT_MINUTES)
    return Oldest(hour_of(now - minutes), None if keep is None else now - keep)


# Reading --------------------------------------------------------------------------------------------------------------


def wanted(keys: Collection[Key], asked: Range, now: datetime) -> list[Key]:
    """Returns the rows of a range: of a long one hours, and the minutes since the last hour that was added up."""
    since = edge = asked.since(now)
    hours: list[Key] = []
    if asked.span == HOUR:
        # Not those to come, which were added up before the clock was set back: their minutes are read.
        hours = [key for key in keys if key.span == HOUR and since <= key.at <= now]
        edge = max([since, *(key.at + timedelta(hours=1) for key in hours)])
    return [*hours, *(key for key in keys if key.span == MINUTE and key.at >= edge)]


def sums_of(rows: Rows, asked: Range, now: datetime, types: Sequence[TypeStats]) -> Sums:
    """Returns what ``stats_of`` makes stats of: the sums of the wanted rows, and how task types stand now."""
    by_pair: dict[Pair, list[StatsRow]] = defaultdict(list)
    by_time: dict[tuple[datetime, int], Moment] = {}
    for key, row in rows:
        by_pair[key.pair].append(row)
        moment = by_time.setdefault((key.at, key.span), Moment())
        if key.pair == POOL:
            by_time[key.at, key.span] = moment._replace(pools=moment.pools.plus(row))
        elif asked.has(key.pair):
            by_time[key.at, key.span] = moment._replace(wanted=moment.wanted.plus(row))
    return Sums(asked.since(now), now, {pair: total(each) for pair, each in by_pair.items()}, by_time, types)


def heat_of_rows(rows: Rows, asked: Range) -> tuple[HeatPoint, ...]:
    """Returns the points of a heat map, of the wanted rows."""
    found: dict[tuple[datetime, Pair], list[StatsRow]] = defaultdict(list)
    for key, row in rows:
        if asked.has(key.pair):
            found[key.at, key.pair].append(row)
    sums = {where: total(each) for where, each in found.items()}
    return heat_of({where: (row.queue, row.run) for where, row in sums.items()})


def counts_workers(mode: str, *, stopping: bool, told_at: datetime | None, now: datetime) -> bool:
    """Returns whether the workers of a pool count for its types: not if it stops, is a manual one, or is silent.

    Args:
        told_at: when it last reported what it does; None if it never has, like pools of older releases.
    """
    return not stopping and mode != "manual" and not is_silent(None if told_at is None else now - told_at)


def type_stats(
    task_type: str, *, due: int, oldest_due: datetime | None, running: int, workers: int, paused: bool, now: datetime
) -> TypeStats:
    """Returns how a task type stands.

    Args:
        due, oldest_due: how many tasks are due, counted up to ``MOST_DUE`` or further, and when the first of them was.
        workers: those of all pools that serve it and for which ``counts_workers`` says so.
    """
    return TypeStats(
        task_type=task_type,
        due=min(due, MOST_DUE),
        due_is_exact=due < MOST_DUE,
        oldest_due=0.0 if oldest_due is None else (now - oldest_due).total_seconds(),
        running=running,
        workers=workers,
        paused=paused,
    )
