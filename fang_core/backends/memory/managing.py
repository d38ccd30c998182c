"""Pauses and limits of task types in the memory backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fang_core.backends.managed import ManagedType
from fang_core.backends.pools import Declaration
from fang_core.flow.info import TypeInfo
from fang_core.flow.settings import check_key
from fang_core.lifecycle import DUE_STATES
from fang_core.tasks.managing import LimitChange, Pause

if TYPE_CHECKING:
    from fang_core.backends.memory.state import MemoryState


class MemoryManaging:
    """Keeps what is set and declared for task types, under the lock of the state."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def declare(self, declarations: Sequence[Declaration]) -> None:
        """Notes what the classes of a pool declare."""
        with self._state.lock:
            for declaration in declarations:
                task_type = declaration.task_type
                managed = self._state.types.setdefault(task_type, ManagedType())
                serving = [pool.record for pool in self._state.pools.values() if task_type in pool.record.task_types]
                known = {kind for record in serving for kind in record.kinds}
                managed.declare(declaration, known)
                self._what_is_left(task_type)
        self._state.listeners.tell_types([each.task_type for each in declarations])

    def list_types(self) -> list[TypeInfo]:
        """Returns the managed types, in the order of their names."""
        with self._state.lock:
            infos = [self._info(task_type) for task_type in sorted(self._state.types)]
        return [info for info in infos if info.is_managed]

    def pause_type(self, task_type: str, pause: Pause) -> TypeInfo:
        """Has nothing of a type start."""
        with self._state.lock:
            managed = self._state.types.get(task_type, ManagedType())
            managed.pause(pause, self._state.clock())
            self._state.types[task_type] = managed
            return self._info(task_type)

    def resume_type(self, task_type: str) -> TypeInfo | None:
        """Ends the pause of a type; returns what is left to say of it."""
        with self._state.lock:
            if task_type in self._state.types:
                self._state.types[task_type].resume()
            left = self._what_is_left(task_type)
        self._state.listeners.tell_types([task_type])
        return left

    def set_limits(self, task_type: str, change: LimitChange) -> TypeInfo | None:
        """Sets the limits of a type, or forgets what was set; returns what is left to say of it."""
        with self._state.lock:
            managed = self._state.types.get(task_type, ManagedType())
            if change.rules is not None:
                check_key(task_type, change.rules, managed.declared)
            managed.change(change, self._state.clock())
            self._state.types[task_type] = managed
            left = self._what_is_left(task_type)
        self._state.listeners.tell_types([task_type])
        return left

    def _what_is_left(self, task_type: str) -> TypeInfo | None:
        if task_type not in self._state.types or not self._info(task_type).is_managed:
            self._state.types.pop(task_type, None)
            return None
        return self._info(task_type)

    def _info(self, task_type: str) -> TypeInfo:
        waiting = sum(each.task_type == task_type and each.state in DUE_STATES for each in self._state.tasks.values())
        running = sum(self._state.running(task_type).values())
        return self._state.types[task_type].info(task_type, self._state.clock(), running, waiting)
