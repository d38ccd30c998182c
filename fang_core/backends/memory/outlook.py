"""Answers the occasional questions of pools on the memory backend."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from fang_core.backends.claims import Lane
from fang_core.lifecycle import DUE_STATES

if TYPE_CHECKING:
    from fang_core.backends.memory.state import MemoryState


class MemoryOutlook:
    """Looks over tasks that wait, under the lock of the state."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def waiting_types(self, most: int) -> dict[str, bool] | None:
        """Returns the task types with waiting tasks, and whether one is due."""
        with self._state.lock:
            now = self._state.clock()
            lanes: dict[Lane, bool] = {}
            for task in self._state.tasks.values():
                if task.state in DUE_STATES:
                    lane = (task.task_type, task.priority)
                    lanes[lane] = lanes.get(lane, False) or task.scheduled_at <= now
        if len(lanes) >= most:
            return None
        types = {task_type for task_type, _ in lanes}
        return {each: any(is_due for lane, is_due in lanes.items() if lane[0] == each) for each in sorted(types)}

    def next_due(self, task_types: Sequence[str], kinds: Sequence[str]) -> float | None:
        """Returns the seconds until the next of these tasks is due that is not yet."""
        with self._state.lock:
            now = self._state.clock()
            later = [
                (task.scheduled_at - now).total_seconds()
                for task in self._state.tasks.values()
                if task.state in DUE_STATES and task.task_type in task_types and task.kind in kinds
            ]
        return min((seconds for seconds in later if seconds > 0), default=None)

    def unknown_kinds(self, task_types: Sequence[str]) -> list[str]:
        """Returns the kinds of due tasks of these types that no registered pool of the type knows."""
        with self._state.lock:
            known = {
                (task_type, kind)
                for pool in self._state.pools.values()
                for task_type in pool.record.task_types
                for kind in pool.record.kinds
            }
            due = self._state.due(task_types, None, self._state.clock())
            return sorted({task.kind for task in due if (task.task_type, task.kind) not in known})

    def unserved_types(self, due_for: timedelta) -> list[str]:
        """Returns the task types with tasks that have been due for so long, and that no registered pool serves."""
        with self._state.lock:
            served = {task_type for pool in self._state.pools.values() for task_type in pool.record.task_types}
            unserved = {task.task_type for task in self._state.tasks.values()} - served
            return sorted(
                {task.task_type for task in self._state.due(tuple(unserved), None, self._state.clock() - due_for)}
            )
