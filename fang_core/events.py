"""Reports what happens in a pool to listeners: metrics, tracing, tests."""

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Any, Final
from uuid import UUID

from fang_core.backends.pools import Rescued
from fang_core.errors import UsageError
from fang_core.lifecycle import Outcome, Result
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask

logger = SafeLogger("fang_core")


class Events:
    """Derive from it and override the hooks that you need; every hook does nothing by itself.

    Hooks must be short and must not block. Any exception of a hook is logged and goes no further. An asyncio pool calls
    all hooks on the event loop that it was started on, outside of any run. Events of its heart while a run blocks that
    loop are logged at once, and the hook is called when the loop goes on.

    A pool of threads calls a hook on the thread of the event, named below: hooks of one listener may be called on
    several threads at once. No hook is called in the context of a run, so that ``current_run()`` raises, and no context
    variable of a run can be seen.
    """

    def pool_started(self, pool_id: UUID) -> None:
        """The pool is registered and its workers run. Thread: the one that called ``start()``."""

    def pool_stopped(self, pool_id: UUID) -> None:
        """The pool has ended; it may have left runs behind that did not end in time.

        Thread: the one that called ``stop()``; one of its own if a hook did.
        """

    def tasks_claimed(self, pool_id: UUID, count: int) -> None:
        """A claim returned ``count`` tasks, at least one. Thread: the claimer's."""

    def run_started(self, task: ClaimedTask) -> None:
        """A worker begins a run. Thread: the worker's."""

    def run_ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        """A run has ended, after ``seconds``; its outcome is not yet written. Thread: the worker's.

        ``result`` is a ``Success``, ``Failure``, ``Snoozed`` or ``Cancelled``, or ``NotRun`` if the pool cut it short.
        A ``Failure`` has the run's exception in ``exception``; keeping it keeps all frames of the run alive.
        """

    def task_expired(self, task: ClaimedTask) -> None:
        """A task had expired when it was claimed, or before a worker was free: it is cancelled, and no run begins.

        Thread: the claimer's, or a worker's.
        """

    def task_cancelled(self, task: ClaimedTask, reason: str) -> None:
        """A request to cancel the task was there when it was claimed, or came before a worker was free: no run begins.

        Thread: the claimer's, or a worker's.
        """

    def outcomes_written(self, pool_id: UUID, count: int, seconds: float) -> None:
        """A batch of outcomes was handled, in ``seconds``; ``task_lost`` was called for those that found no row.

        Thread: the completer's.
        """

    def task_lost(self, pool_id: UUID, outcome: Outcome) -> None:
        """The fence refused the outcome: this pool no longer holds the task. Thread: the completer's."""

    def task_rescued(self, pool_id: UUID, rescued: Rescued) -> None:
        """This pool took the task back from a dead pool.

        Thread: the heart's.
        """

    def pool_declared_dead(self, pool_id: UUID, successor: UUID) -> None:
        """Other pools took this pool for dead: its runs are lost, and it goes on under another id.

        Thread: the claimer's.
        """

    def worker_replaced(self, pool_id: UUID, reason: str) -> None:
        """A worker could not go on and was replaced. Thread: that worker's."""

    def run_stuck(self, pool_id: UUID, task: ClaimedTask, place: str | None) -> None:
        """A run goes on though it was interrupted ``stuck_after`` ago: another worker has taken its place.

        ``place`` is the line of code where it stands, as ``file:line``, if that is known. Thread: the one that
        interrupts the pool's runs.
        """

    def run_hung(self, pool_id: UUID, task: ClaimedTask, seconds: float, place: str | None) -> None:
        """A run goes on for longer than ``warn_after``, and than its own timeout; called once for each such run.

        ``place`` is the line of code where it stands, as ``file:line``, if that is known; for an isolated run it is the
        process, as ``child process, pid 4711``. Thread: the heart's.
        """

    def loop_blocked(self, pool_id: UUID, seconds: float, place: str | None) -> None:
        """The event loop of an asyncio pool has run nothing else for ``seconds``, longer than ``warn_after``.

        It is logged at once; this is called when the loop goes on. ``place`` is where the loop stood.
        """

    def backend_failed(self, pool_id: UUID, error: BaseException) -> None:
        """The backend refused or did not answer; the pool goes on trying.

        Thread: that of the service that asked, which is the claimer, the completer, the heart or the listener.
        """


_HOOKS: Final = tuple(name for name in vars(Events) if not name.startswith("_"))


class EventBus:
    """Calls every listener, and outlives their exceptions. What each run does looks first whether there are any.

    Raises ``UsageError`` if a listener would hear nothing.
    """

    def __init__(self, listeners: Sequence[Events]) -> None:
        if not isinstance(listeners, Iterable):
            name = type(listeners).__name__ if isinstance(listeners, Events) else "Listener"
            raise UsageError(f"events is a list of listeners, as in events=[{name}()]")
        self.listeners = tuple(listeners)
        for listener in self.listeners:
            _check(listener)

    @property
    def is_caller(self) -> bool:
        """Returns whether the caller runs inside one of this bus's hooks."""
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


_CALLING: ContextVar[EventBus | None] = ContextVar("fang_calling", default=None)


def _check(listener: object) -> None:
    if not isinstance(listener, Events):
        if isinstance(listener, type):
            raise UsageError(f"events: {listener.__name__} is a class: give an instance of it")
        name = type(listener).__name__
        raise UsageError(f"events: a listener is an instance of a class derived from Events, not of {name}")
    for hook in _HOOKS:
        if iscoroutinefunction(getattr(listener, hook)):
            name = f"{type(listener).__name__}.{hook}"
            raise UsageError(f"events: {name} is async, but hooks are called, not awaited: write a plain 'def'")
