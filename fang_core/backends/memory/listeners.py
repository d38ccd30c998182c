"""Wakes the pools of a memory backend after inserts, and passes on messages to pools."""

from collections.abc import Iterable
from uuid import UUID

from fang_core.backends.waking import LateRows, OnTold, OnWake


class Listeners:
    """Calls pools that listen, always outside of the lock of the state: a listener may do anything."""

    def __init__(self) -> None:
        self._listeners: dict[object, tuple[frozenset[str], OnWake, OnTold]] = {}

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, listener: object, task_types: Iterable[str], on_wake: OnWake, on_told: OnTold) -> None:
        """Calls ``on_wake`` after inserts of these types, ``on_told`` after messages, on whatever thread they come."""
        self._listeners[listener] = (frozenset(task_types), on_wake, on_told)

    def remove(self, listener: object) -> None:
        """Ends it."""
        self._listeners.pop(listener, None)

    def wake(self, task_types: Iterable[str]) -> None:
        """Wakes the pools of these types."""
        woken = frozenset(task_types)
        if woken:
            for types, on_wake, _ in list(self._listeners.values()):
                if not types.isdisjoint(woken):
                    on_wake(None)

    def tell_types(self, task_types: Iterable[str]) -> None:
        """Makes pools of these types look for tasks."""
        for task_type in task_types:
            for types, on_wake, _ in list(self._listeners.values()):
                if task_type in types:
                    on_wake(LateRows(task_type, 0, None))

    def tell(self, pool_id: UUID) -> None:
        """Makes a pool's heart beat at once, since there is news for the pool or one of its tasks."""
        for _, _, on_told in list(self._listeners.values()):
            on_told(pool_id)

    def tell_all(self, pool_ids: Iterable[UUID]) -> None:
        """Does so with several pools."""
        for pool_id in pool_ids:
            self.tell(pool_id)
