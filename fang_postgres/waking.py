"""Who is to be woken by a notification. Thread-safe, no I/O."""

from datetime import UTC, datetime, timedelta
from typing import Final

from fang_core.store import ANYWHERE, Behind, OnWake

MOST_CHARS: Final = 500
"""Of a task type in a notification; Postgres allows 8000 bytes."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Subscribers:
    """The pools of a queue, by the task types that they serve."""

    def __init__(self) -> None:
        self._wakes: dict[object, tuple[frozenset[str], OnWake]] = {}

    def __bool__(self) -> bool:
        return bool(self._wakes)

    def add(self, subscriber: object, task_types: tuple[str, ...], on_wake: OnWake) -> None:
        """Has it called for these types."""
        self._wakes[subscriber] = (frozenset(task_type[:MOST_CHARS] for task_type in task_types), on_wake)

    def remove(self, subscriber: object) -> None:
        """Forgets it."""
        self._wakes.pop(subscriber, None)

    def wake(self, payload: str) -> None:
        """``payload`` is a task type; or type, priority and time of rows that cursors may have passed."""
        behind = _parse(payload)
        for task_types, on_wake in tuple(self._wakes.values()):
            if payload in task_types:
                on_wake(None)
            elif behind is not None and behind.task_type in task_types:
                on_wake(behind)

    def wake_all(self) -> None:
        """Something may have been missed."""
        for _, on_wake in tuple(self._wakes.values()):
            on_wake(ANYWHERE)


def _parse(payload: str) -> Behind | None:
    """``type,priority,microseconds``; a task type may have commas of its own."""
    task_type, *numbers = payload.rsplit(",", 2)
    try:
        priority, microseconds = map(int, numbers)
    except ValueError:
        return None
    try:
        return Behind(task_type, priority, _EPOCH + timedelta(microseconds=microseconds))
    except OverflowError:
        return ANYWHERE._replace(task_type=task_type)
