"""Keeps the history of a memory backend: as rows of minutes and hours, like those of ``fang_stats``."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from fang_core.backends.stats_rows import (
    Key,
    added_up,
    counts_workers,
    heat_of_rows,
    hours_to_fold,
    is_late,
    minutes_to_fold,
    oldest_kept,
    sums_of,
    type_stats,
    wanted,
)
from fang_core.lifecycle import DUE_STATES
from fang_core.monitoring.history import HOUR, MINUTE, Flush, Flushed, StatsRow, hour_of
from fang_core.monitoring.reading import Range, stats_of
from fang_core.monitoring.stats import HeatPoint, Stats, TypeStats
from fang_core.record import TaskState

if TYPE_CHECKING:
    from fang_core.backends.memory.state import MemoryState


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
            if is_late(flush, now):
                return Flushed(now, False)
            for pair, row in flush.rows.items():
                self.rows[Key(MINUTE, flush.minute, writer, pair)] = row
            return Flushed(now, True)

    def fold(self, keep: timedelta | None, limit: int) -> int:
        """See ``HistoryStore.fold_stats``."""
        with self._state.lock:
            now = self._state.clock()
            minutes = minutes_to_fold(self.rows, now, limit)
            for at in minutes:
                of_minute = [key for key in self.rows if key.span == MINUTE and key.at == at]
                self.rows |= added_up(MINUTE, at, [(key, self.rows.pop(key)) for key in of_minute])
            hours = hours_to_fold(self.rows.keys(), now, minutes, limit - len(minutes))
            for hour in hours:
                of_hour = [key for key in self.rows if key.span == MINUTE and hour_of(key.at) == hour]
                self.rows |= added_up(HOUR, hour, self._of(of_hour))
            oldest = oldest_kept(now, keep)
            for key in tuple(filter(oldest.is_outdated, self.rows)):
                del self.rows[key]
            return len(minutes) + len(hours)

    def read(self, asked: Range) -> Stats:
        """Returns the stats of a range."""
        with self._state.lock:
            now = self._state.clock()
            rows = self._of(wanted(self.rows.keys(), asked, now))
            return stats_of(asked, sums_of(rows, asked, now, self._types(asked, now)))

    def heat_map(self, asked: Range) -> tuple[HeatPoint, ...]:
        """Returns the points of a heat map."""
        with self._state.lock:
            return heat_of_rows(self._of(wanted(self.rows.keys(), asked, self._state.clock())), asked)

    def _of(self, keys: Collection[Key]) -> list[tuple[Key, StatsRow]]:
        return [(key, self.rows[key]) for key in keys]

    def _types(self, asked: Range, now: datetime) -> list[TypeStats]:
        state = self._state
        pools = [
            pool
            for pool in state.pools.values()
            if counts_workers(pool.record.mode, stopping=pool.stopping, told_at=pool.told_at, now=now)
        ]
        waiting = [task for task in state.tasks.values() if task.state in DUE_STATES]
        running = [task.task_type for task in state.tasks.values() if task.state is TaskState.IN_PROGRESS]
        names = {task.task_type for task in waiting} | set(state.types)
        names |= {task_type for pool in state.pools.values() for task_type in pool.record.task_types}
        found = []
        for name in sorted(names if asked.task_types is None else names.intersection(asked.task_types)):
            due = [task.scheduled_at for task in waiting if task.task_type == name and task.scheduled_at <= now]
            info = state.types.get(name)
            found.append(
                type_stats(
                    name,
                    due=len(due),
                    oldest_due=min(due, default=None),
                    running=running.count(name),
                    workers=sum(pool.record.workers for pool in pools if name in pool.record.task_types),
                    paused=info is not None and info.is_paused(now),
                    now=now,
                )
            )
        return found
