"""Who is to be woken by a notification, and when nobody is. Thread-safe, no I/O."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, Final, TypeVar

from fang_core.errors import BackendError
from fang_core.store import ANYWHERE, Behind, OnSilence, OnWake
from fang_postgres.statement import Conversation, Operation

T = TypeVar("T")

MOST_CHARS: Final = 500
"""Of a task type in a notification; Postgres allows 8000 bytes."""

QUIET_FOR: Final = 60.0
"""Seconds for which nobody is woken where the server's queue of notifications was full."""

NOBODY_IS_WOKEN: Final = "pools are not woken for %.0f s, and poll: %s"
"""What is then logged, with these seconds and the error."""

NOBODY_LISTENS: Final = "pools are not woken until LISTEN works again, and poll: {}"
"""What is then logged and told, with the reason."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Subscribers:
    """The pools of a queue, by the task types that they serve."""

    def __init__(self) -> None:
        self._wakes: dict[object, tuple[frozenset[str], OnWake, OnSilence]] = {}

    def __bool__(self) -> bool:
        return bool(self._wakes)

    def add(self, subscriber: object, task_types: tuple[str, ...], on_wake: OnWake, on_silence: OnSilence) -> None:
        """Has it called for these types."""
        known_by = frozenset(task_type[:MOST_CHARS] for task_type in task_types)
        self._wakes[subscriber] = (known_by, on_wake, on_silence)

    def remove(self, subscriber: object) -> None:
        """Forgets it."""
        self._wakes.pop(subscriber, None)

    def wake(self, payload: str) -> None:
        """``payload`` is a task type; or type, priority and time of rows that cursors may have passed."""
        behind = _parse(payload)
        for task_types, on_wake, _ in tuple(self._wakes.values()):
            if payload in task_types:
                on_wake(None)
            elif behind is not None and behind.task_type in task_types:
                on_wake(behind)

    def wake_all(self) -> None:
        """Something may have been missed."""
        for _, on_wake, _ in tuple(self._wakes.values()):
            on_wake(ANYWHERE)

    def tell(self, silence: BackendError) -> None:
        """Nobody is woken for a while, for this reason."""
        for _, _, on_silence in tuple(self._wakes.values()):
            on_silence(silence)


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


class Quiet:
    """Writes wake nobody for a while after the server's queue of notifications was found full.

    It fills (8 GB by default) where some session listens, and stays in a transaction; then each transaction that
    notifies fails at its COMMIT. To wake pools is a favour: they poll beneath, and look back by themselves. Times are
    seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.was_ever = False
        """Whether it has ever begun: hot paths can skip all else."""
        self._until = -inf

    def begin(self, now: float) -> None:
        """It was full."""
        self._until = now + QUIET_FOR
        self.was_ever = True

    def of(self, operation: Operation[T], now: float) -> Operation[T]:
        """What is to be run now in place of this."""
        return operation.quiet() if now < self._until else operation

    def of_all(self, conversation: Conversation[T], now: float) -> Conversation[T]:
        """What is to be held now in place of this."""
        answer: Any = None
        while True:
            try:
                operation = conversation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = yield self.of(operation, now)
