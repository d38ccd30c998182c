"""What happens in a pool, for those who watch it: metrics, tracing, tests."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from fang_core.lifecycle import Outcome, Result
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask
from fang_core.store import Rescued

logger = SafeLogger("fang_core")


class Events:
    """Derive from it and override what is of interest; every hook does nothing by itself.

    Hooks must be short and must not block. What one raises, of any kind, is logged and goes no further. An asyncio pool
    calls all of them on the event loop that it was started on, outside of any run. What its heart sees while a run
    blocks that loop is logged at once, and told when the loop goes on.

    A pool of threads calls a hook on the thread where the thing happens, named below: hooks of one listener may be
    called on several threads at once. No hook is called in the context of a run, so that ``current_run()`` raises, and
    no context variable of a run can be seen.
    """

    def pool_started(self, pool_id: UUID) -> None:
        """The pool is registered and its workers run. Threads: the one that called ``start()``."""

    def pool_stopped(self, pool_id: UUID) -> None:
        """The pool has ended; it may have left runs behind that did not end in time.

        Threads: the one that called ``stop()``; one of its own if a hook did.
        """

    def tasks_claimed(self, pool_id: UUID, count: int) -> None:
        """A claim returned ``count`` tasks, more than none. Threads: the claimer's."""

    def run_started(self, task: ClaimedTask) -> None:
        """A worker begins a run. Threads: the worker's."""

    def run_ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        """A run has ended, after ``seconds``; its outcome is not yet written. Threads: the worker's.

        ``result`` is a ``Success``, ``Failure``, ``Snoozed`` or ``Cancelled``, or ``NotRun`` if the pool cut it short.
        A ``Failure`` has the exception of the run in ``exception``; whoever keeps it keeps all frames of the run.
        """

    def outcomes_written(self, pool_id: UUID, count: int) -> None:
        """A batch of outcomes was handled; ``task_lost`` has named those that found no row.

        Threads: the completer's.
        """

    def task_lost(self, pool_id: UUID, outcome: Outcome) -> None:
        """The outcome was refused by the fence: this pool no longer holds the task. Threads: the completer's."""

    def task_rescued(self, pool_id: UUID, rescued: Rescued) -> None:
        """This pool took the task back from a dead one.

        Threads: the heart's; at the pool's first beat the one that called ``start()``.
        """

    def pool_declared_dead(self, pool_id: UUID, successor: UUID) -> None:
        """Others took this pool for dead: its runs are lost, and it goes on under another id.

        Threads: the claimer's.
        """

    def worker_replaced(self, pool_id: UUID, reason: str) -> None:
        """A worker could not go on and was replaced. Threads: the worker's that could not go on."""

    def backend_failed(self, pool_id: UUID, error: BaseException) -> None:
        """The backend refused or did not answer; the pool goes on trying.

        Threads: that of the service that asked, which is the claimer, the completer, the heart or the listener; at the
        pool's first beat the one that called ``start()``.
        """


class Dispatcher:
    """Calls every listener, and survives each. It is false when nobody listens, so that hot paths can skip it."""

    def __init__(self, listeners: Sequence[Events]) -> None:
        self.listeners = tuple(listeners)

    def __bool__(self) -> bool:
        return bool(self.listeners)

    @property
    def is_caller(self) -> bool:
        """Whether it is one of its hooks that asks."""
        return _CALLING.get() is self

    def emit(self, hook: Callable[..., None], *args: Any) -> None:
        """``emit(Events.task_lost, pool_id, outcome)`` calls that hook of every listener."""
        former = _CALLING.set(self)
        try:
            for listener in self.listeners:
                self._call(listener, hook.__name__, args)
        finally:
            _CALLING.reset(former)

    def _call(self, listener: Events, hook: str, args: tuple[Any, ...]) -> None:
        try:
            getattr(listener, hook)(*args)
        # A SystemExit would end a worker's thread, a KeyboardInterrupt or CancelledError a loop or a task of the
        # pool. A Ctrl-C that hits the main thread within a hook is lost: it can be sent again, a worker cannot.
        except BaseException:
            logger.exception("an event hook of %s failed in %s", type(listener).__name__, hook)


_CALLING: ContextVar[Dispatcher | None] = ContextVar("fang_calling", default=None)
