"""Keeps the history of a memory backend: as rows of minutes and hours, like those of ``fang_stats``."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from fang_core.lifecycle import DUE_STATES
from fang_core.monitoring.history import (
    HOUR,
    KEPT_MINUTES,
    LATEST_WRITE,
    MERGED_AFTER,
    MINUTE,
    POOL,
    Flush,
    Flushed,
    Pair,
    StatsRow,
    hour_of,
    total,
)
from fang_core.monitoring.reading import Moment, Range, Sums, heat_of, stats_of
from fang_core.monitoring.stats import MOST_DUE, HeatPoint, Stats, TypeStats
from fang_core.record import TaskState

if TYPE_CHECKING:
    from fang_core.backends.memory.state import MemoryState

MERGED: Final = UUID(int=0)
"""The writer of rows that have been added up."""


class Key(NamedTuple):
    """Names a row."""

    span: int
    at: datetime
    writer: UUID
    pair: Pair


class MemoryStats:
    """Has a verb for each of ``HistoryStore``, and one that reads."""

    def __init__(self, state: "MemoryState") -> None:
        self._state = state
        self.rows: dict[Key, StatsRow] = {}
        """All rows; to be read and changed under the state's lock."""

    def flush(self, writer: UUID, flush: Flush) -> Flushed:
        """See ``HistoryStore.flush_stats``."""
        with self._state.lock:
            now = self._state.clock()
            if flush.minute < now - LATEST_WRITE:
                return Flushed(now, False)
            for pair, row in flush.rows.items():
                self.rows[Key(MINUTE, flush.minute, writer, pair)] = row
            return Flushed(now, True)

    def fold(self, keep: timedelta | None, limit: int) -> int:
        """See ``HistoryStore.fold_stats``."""
        with self._state.lock:
            now = self._state.clock()
            minutes = sorted({key.at for key in self.rows if key.span == MINUTE and key.writer != MERGED})
            minutes = [at for at in minutes if at < now - MERGED_AFTER][:limit]
            for at in minutes:
                self._add_up(MINUTE, at, [key for key in self.rows if key.span == MINUTE and key.at == at])
            hours = self._hours_to_fold(now, minutes)[: limit - len(minutes)]
            for hour in hours:
                of_hour = [key for key in self.rows if key.span == MINUTE and hour_of(key.at) == hour]
                self._add_up(HOUR, hour, of_hour, keep=True)
            self._prune(now, keep)
            return len(minutes) + len(hours)

    def read(self, asked: Range) -> Stats:
        """Returns the stats of a range."""
        with self._state.lock:
            now = self._state.clock()
            by_pair: dict[Pair, list[StatsRow]] = defaultdict(list)
            by_time: dict[tuple[datetime, int], Moment] = {}
            for key, row in self._wanted(asked, now):
                by_pair[key.pair].append(row)
                moment = by_time.setdefault((key.at, key.span), Moment())
                if key.pair == POOL:
                    by_time[key.at, key.span] = moment._replace(pools=moment.pools.plus(row))
                elif asked.has(key.pair):
                    by_time[key.at, key.span] = moment._replace(wanted=moment.wanted.plus(row))
            sums = {pair: total(rows) for pair, rows in by_pair.items()}
            return stats_of(asked, Sums(asked.since(now), now, sums, by_time, self._types(asked, now)))

    def heat_map(self, asked: Range) -> tuple[HeatPoint, ...]:
        """Returns the points of a heat map."""
        with self._state.lock:
            found: dict[tuple[datetime, Pair], list[StatsRow]] = defaultdict(list)
            for key, row in self._wanted(asked, self._state.clock()):
                if asked.has(key.pair):
                    found[key.at, key.pair].append(row)
            sums = {where: total(rows) for where, rows in found.items()}
            return heat_of({where: (row.queue, row.run) for where, row in sums.items()})

    def _wanted(self, asked: Range, now: datetime) -> list[tuple[Key, StatsRow]]:
        """Returns the rows of a range: of a long one hours, and the minutes since the last hour that was added up."""
        since = edge = asked.since(now)
        hours: list[Key] = []
        if asked.span == HOUR:
            # Not those to come, which were added up before the clock was set back: their minutes are read.
            hours = [key for key in self.rows if key.span == HOUR and since <= key.at <= now]
            edge = max([since, *(key.at + timedelta(hours=1) for key in hours)])
        minutes = [key for key in self.rows if key.span == MINUTE and key.at >= edge]
        return [(key, self.rows[key]) for key in (*hours, *minutes)]

    def _types(self, asked: Range, now: datetime) -> list[TypeStats]:
        state = self._state
        pools = [pool for pool in state.pools.values() if not pool.stopping and pool.record.mode != "manual"]
        waiting = [task for task in state.tasks.values() if task.state in DUE_STATES]
        names = {task.task_type for task in waiting} | set(state.types)
        names |= {task_type for pool in state.pools.values() for task_type in pool.record.task_types}
        found = []
        for name in sorted(names):
            if asked.task_types is not None and name not in asked.task_types:
                continue
            due = [task.scheduled_at for task in waiting if task.task_type == name and task.scheduled_at <= now]
            info = state.types.get(name)
            found.append(
                TypeStats(
                    task_type=name,
                    due=min(len(due), MOST_DUE),
                    due_is_exact=len(due) < MOST_DUE,
                    oldest_due=(now - min(due)).total_seconds() if due else 0.0,
                    running=sum(
                        task.task_type == name and task.state is TaskState.IN_PROGRESS for task in state.tasks.values()
                    ),
                    workers=sum(pool.record.workers for pool in pools if name in pool.record.task_types),
                    paused=info is not None and info.is_paused(now),
                )
            )
        return found

    def _hours_to_fold(self, now: datetime, minutes: Iterable[datetime]) -> list[datetime]:
        """Returns the hours that are over and have not been added up, or have got one of these minutes since."""
        folded = {key.at for key in self.rows if key.span == HOUR} - {hour_of(at) for at in minutes}
        hours = {hour_of(key.at) for key in self.rows if key.span == MINUTE} - folded
        return sorted(hour for hour in hours if hour + timedelta(hours=1) <= now - MERGED_AFTER)

    def _add_up(self, span: int, at: datetime, keys: list[Key], *, keep: bool = False) -> None:
        found: dict[Pair, list[StatsRow]] = defaultdict(list)
        for key in keys:
            found[key.pair].append(self.rows[key] if keep else self.rows.pop(key))
        for pair, rows in found.items():
            self.rows[Key(span, at, MERGED, pair)] = total(rows)

    def _prune(self, now: datetime, keep: timedelta | None) -> None:
        minutes = KEPT_MINUTES if keep is None else min(keep, KEPT_MINUTES)
        oldest = {MINUTE: hour_of(now - minutes), HOUR: None if keep is None else now - keep}
        for key in tuple(self.rows):
            since = oldest[key.span]
            if since is not None and key.at < since:
                del self.rows[key]
