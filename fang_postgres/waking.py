"""Who is to be woken by a notification. Thread-safe, no I/O."""

from collections.abc import Callable
from typing import Final

MOST_CHARS: Final = 500
"""Of a task type in a notification; Postgres allows 8000 bytes."""


class Subscribers:
    """The pools of a queue, by the task types that they serve."""

    def __init__(self) -> None:
        self._wakes: dict[object, tuple[frozenset[str], Callable[[], None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._wakes)

    def add(self, subscriber: object, task_types: tuple[str, ...], on_wake: Callable[[], None]) -> None:
        """Has it called for these types."""
        self._wakes[subscriber] = (frozenset(task_type[:MOST_CHARS] for task_type in task_types), on_wake)

    def remove(self, subscriber: object) -> None:
        """Forgets it."""
        self._wakes.pop(subscriber, None)

    def wake(self, payload: str) -> None:
        """``payload`` is a task type."""
        for task_types, on_wake in tuple(self._wakes.values()):
            if payload in task_types:
                on_wake()

    def wake_all(self) -> None:
        """Something may have been missed."""
        for _, on_wake in tuple(self._wakes.values()):
            on_wake()
