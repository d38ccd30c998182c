"""Decides which pools a notification wakes, and when writes notify no pool. Thread-safe, no I/O."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, Final, TypeVar
from uuid import UUID

from fang_core.backends.waking import ANYWHERE, SCHEDULES, LateRows, OnListenLost, OnTold, OnWake
from fang_core.errors import BackendError
from fang_core.logs import SafeLogger
from fang_postgres.shapes import TOLD
from fang_postgres.statement import Operation, Script

T = TypeVar("T")

MOST_CHARS: Final = 500
"""The most characters of a task type in a notification, which Postgres limits to 8000 bytes."""

QUIET_FOR: Final = 60.0
"""Seconds for which writes notify no pool after the server's queue of notifications was found full."""

NOBODY_IS_WOKEN: Final = "pools are not woken for %.0f s, and poll: %s"
"""The log line for that, with these seconds and the error."""

NOBODY_LISTENS: Final = "pools are not woken until LISTEN works again, and poll: {}"
"""The log line and the error when the LISTEN connection is lost, with the reason."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Subscribers:
    """Holds the pools of a queue, with the task types that they serve."""

    def __init__(self) -> None:
        self._wakes: dict[object, tuple[frozenset[str], OnWake, OnTold, OnListenLost]] = {}

    def __bool__(self) -> bool:
        return bool(self._wakes)

    def add(
        self,
        subscriber: object,
        task_types: tuple[str, ...],
        on_wake: OnWake,
        on_told: OnTold,
        on_listen_lost: OnListenLost,
    ) -> None:
        """Adds a pool, which is called for these types."""
        known_by = frozenset(task_type[:MOST_CHARS] for task_type in task_types)
        self._wakes[subscriber] = (known_by, on_wake, on_told, on_listen_lost)

    def remove(self, subscriber: object) -> None:
        """Removes a pool, if it is there."""
        self._wakes.pop(subscriber, None)

    def wake(self, payload: str) -> None:
        """Calls the pools that a notification concerns.

        ``payload`` is a task type; or type, priority and time of rows that cursors may have passed; or an exclamation
        mark and the id of a pool that has a message.
        """
        late, told = _parse(payload), _pool_told(payload)
        for task_types, on_wake, on_told, _ in tuple(self._wakes.values()):
            if payload in task_types:
                on_wake(None)
            elif late is not None and late.task_type in task_types:
                on_wake(late)
            if told is not None:
                on_told(told)

    def wake_all(self) -> None:
        """Calls every pool, since notifications may have been missed. A message to a pool itself comes with its next
        beat at the latest."""
        for _, on_wake, on_told, _ in tuple(self._wakes.values()):
            on_wake(ANYWHERE)
            on_told(SCHEDULES)

    def tell(self, silence: BackendError) -> None:
        """Tells every pool that none is woken for a while, and why."""
        for _, _, _, on_listen_lost in tuple(self._wakes.values()):
            on_listen_lost(silence)


def _parse(payload: str) -> LateRows | None:
    """Returns the rows of ``type,priority,microseconds``; None for any other payload. A task type may have commas."""
    task_type, *numbers = payload.rsplit(",", 2)
    try:
        priority, microseconds = map(int, numbers)
    except ValueError:
        return None
    try:
        return LateRows(task_type, priority, _EPOCH + timedelta(microseconds=microseconds))
    except OverflowError:
        return ANYWHERE._replace(task_type=task_type)


def _pool_told(payload: str) -> UUID | None:
    """Returns the pool of ``!<id>``; a task type may begin with an exclamation mark, too."""
    if not payload.startswith(TOLD):
        return None
    try:
        return UUID(payload.removeprefix(TOLD))
    except ValueError:
        return None


class Quiet:
    """Keeps writes from notifying for a while after the server's queue of notifications was found full.

    The queue fills (8 GB by default) if a session that listens stays in a transaction; then each transaction that
    notifies fails at its COMMIT. Pools do without: they poll as well, and look back by themselves. Times are seconds
    of one monotonic clock.
    """

    def __init__(self) -> None:
        self.was_ever = False
        """Whether it has ever begun: if not, hot paths skip the rest."""
        self._until = -inf

    def begin(self, now: float) -> None:
        """Notes that the queue was full just now."""
        self._until = now + QUIET_FOR
        self.was_ever = True

    def begin_loudly(self, logger: SafeLogger, error: BackendError, now: float) -> None:
        """Begins, and logs why."""
        logger.warning(NOBODY_IS_WOKEN, QUIET_FOR, error)
        self.begin(now)

    def of(self, operation: Operation[T], now: float) -> Operation[T]:
        """Returns the operation to run now: one that does not notify, while the quiet lasts."""
        return operation.quiet() if now < self._until else operation

    def of_all(self, script: Script[T], now: float) -> Script[T]:
        """Returns the script to run now; see ``of``."""
        answer: Any = None
        while True:
            try:
                operation = script.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = yield self.of(operation, now)
