"""Moves tasks out of the memory backend, and into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from fang_core.backends.verbs import Parcel
from fang_core.record import Task

if TYPE_CHECKING:
    from fang_core.backends.memory.state import MemoryState


class MemoryMoving:
    """See ``MovingVerbs``."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def read(self, ids: Sequence[UUID], /) -> list[Parcel]:
        """Returns those of these tasks that are there."""
        state = self._state
        with state.lock:
            return [self._parcel(state.tasks[each]) for each in sorted(set(ids) & state.tasks.keys())]

    def _parcel(self, task: Task) -> Parcel:
        uniques = self._state.uniques
        periods = ((hash_, period) for hash_, period in uniques.periods.items() if period.task_id == task.id)
        return Parcel(task, uniques.waiting.get(task.id), *next(periods, (None, None)))

    def exchange(self, pairs: Sequence[tuple[Task, Task]], /) -> set[UUID]:
        """Writes the second task over each first one that is as it was read."""
        state = self._state
        with state.lock:
            now = state.clock()
            wanted = [(before, after) for before, after in pairs if state.is_unchanged(before)]
            for before, after in wanted:
                changed = state.tasks[before.id]._replace(
                    task_type=after.task_type, scheduled_at=after.scheduled_at, headers=after.headers, updated_at=now
                )
                state.tasks[before.id] = state.in_lane(changed, now)
        state.listeners.wake(after.task_type for _, after in wanted)
        return {before.id for before, _ in wanted}

    def put(self, parcels: Sequence[Parcel], /) -> set[UUID]:
        """Inserts tasks that nothing keeps out."""
        state, written = self._state, set[UUID]()
        with state.lock:
            now = state.clock()
            for task, waiting, period_hash, period in parcels:
                kept_out = state.uniques.keeps_out(task, waiting, period_hash, state.tasks.values(), now)
                if task.id in state.tasks or kept_out:
                    continue
                state.tasks[task.id] = state.in_lane(task._replace(updated_at=now), now)
                if waiting is not None:
                    state.uniques.waiting[task.id] = waiting
                if period_hash is not None and period is not None:
                    state.uniques.periods[period_hash] = period
                written.add(task.id)
        state.listeners.wake({parcel.task.task_type for parcel in parcels})
        return written
