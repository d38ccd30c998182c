"""Tells a run about itself: ``current_run()``."""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from fang_core.config import RetentionMode
from fang_core.errors import NotInRun, UsageError
from fang_core.monitoring.tally import Timing
from fang_core.record import ClaimedTask, Progress

if TYPE_CHECKING:
    from fang_core.runs.interrupt import Interrupt, Interruption


class Lease(StrEnum):
    """Says whether the pool still holds the task that is being run."""

    HELD = "held"
    """The pool holds the task, as far as it knows."""
    DOUBTFUL = "doubtful"
    """The pool has had no answer for most of a lease: other pools may take it for dead, and the task for free."""
    LOST = "lost"
    """Another pool may run the task; this run can never complete it."""


LONGEST_TEXT: Final = 200
"""Characters of what a run tells of its progress."""


class Child(Protocol):
    """A child process that runs a task; its worker waits for it."""

    @property
    def place(self) -> str:
        """Returns what logs name instead of the run's line of code, such as ``child process, pid 123``."""

    @property
    def running_since(self) -> float:
        """Returns when the task began there, by the monotonic clock; 0.0 while the child starts and imports."""

    def kill(self) -> None:
        """Kills it, so that the run ends by its interruption."""


class Interruptible(Protocol):
    """A worker, as its run sees it; for ``uninterruptible``."""

    number: int

    def frames(self) -> Iterable[FrameType]:
        """Returns the frames of the code that the worker runs, innermost first; call it where the pool lives."""

    def hold_back(self, run: "Run") -> None:
        """Holds an interruption of the run back, if it is called on the run's own thread or loop while it goes on."""

    def let_through(self, run: "Run", *, is_raising: bool) -> None:
        """Ends one ``hold_back``. After the last, an interruption that came meanwhile strikes.

        ``is_raising`` says that an exception is on its way, which must not be replaced by that of the interruption.
        """


class Run:
    """Describes one attempt at a task, for the code that runs in it.

    Each run has its own object, so that a child task or thread that outlives the run still sees its own run.

    Attributes:
        task: the claimed task.
        pool_id: the pool that claimed it.
        retention_mode: whether the row is removed when the task has ended.
        is_lost: whether the pool knows that it no longer holds the task.
        completed: whether ``queue.complete()`` was called in the run.
        cancelled: why its task was cancelled before the run began; None if that did not happen.
        expires: when it may no longer begin, in seconds of the monotonic clock; None if its task does not expire.
        began: when a worker took the run, in seconds of the monotonic clock; 0.0 until then.
        taken_by: the worker that took the run.
        state: what the ``lifespan`` of the pool has made for its runs; None without one.
        over: whether the run has ended, or its task goes back.
        interruption: what is known of the last interruption of the run; None if there is none.
        reported: the progress that the run has reported; None if it has reported none.
        held_back: how many ``uninterruptible`` blocks the run is in.
        isolated: whether it goes to a child process, whatever its class says.
        child: the child process that has the task; None unless there is one.
        timing: set if the run is timed for the pool's history.
    """

    __slots__ = (
        "_is_cut_off",
        "began",
        "cancelled",
        "child",
        "completed",
        "expires",
        "held_back",
        "interruption",
        "is_lost",
        "isolated",
        "over",
        "pool_id",
        "reported",
        "retention_mode",
        "state",
        "taken_by",
        "task",
        "timing",
    )

    def __init__(
        self,
        task: ClaimedTask,
        pool_id: UUID,
        retention_mode: RetentionMode = RetentionMode.REMOVE_FINISHED,
        is_cut_off: Callable[[], bool] = lambda: False,
        state: Any = None,
    ) -> None:
        self.task = task
        self.pool_id = pool_id
        self.retention_mode = retention_mode
        self.is_lost = False
        self.completed = False
        self.cancelled: str | None = None
        self.expires: float | None = None
        self.began = 0.0
        self.taken_by: Interruptible | None = None
        self.over = False
        self.interruption: Interruption | None = None
        self.held_back = 0
        self.reported: Progress | None = None
        self.isolated = False
        self.child: Child | None = None
        self.timing: Timing | None = None
        self._is_cut_off = is_cut_off
        self.state = state

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the task; empty if it has none."""
        return self.task.headers or {}

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Reports how far the run has got: ``done`` of ``total``, in any unit, with a text of 200 characters at most.

        It only notes that here. The pool's heart writes it, once a second at most, if it has changed;
        ``find_task_by_id(...).progress``, ``pools()`` and ``fang status`` show it until the run ends. Raises
        ``UsageError`` unless both numbers are between -10^15 and 10^15, and the text is a ``str``.
        """
        if not (_is_number(done) and (total is None or _is_number(total)) and isinstance(text, str)):
            raise UsageError(
                "progress takes a finite number between -10^15 and 10^15, another one or None, and a str: "
                "progress(done, total, text)"
            )
        self.reported = Progress(done, total, text)

    @property
    def started(self) -> bool:
        """Returns whether a worker has taken the run."""
        return self.began > 0.0

    def limited_since(self, now: float) -> float:
        """Returns from when its time limit counts; that is now while it waits for a child process to begin it."""
        if not self.isolated:
            return self.began
        child = self.child
        return (child.running_since if child is not None else 0.0) or now

    @property
    def worker(self) -> int | None:
        """The number of the worker that took the run; None until then."""
        return None if self.taken_by is None else self.taken_by.number

    @property
    def interrupt(self) -> "Interrupt | None":
        """Why the run is being interrupted; None if it is not."""
        return None if self.interruption is None else self.interruption.why

    @property
    def interrupt_reason(self) -> str:
        """The reason that was given when the task was cancelled."""
        return "" if self.interruption is None else self.interruption.reason

    @property
    def lease(self) -> Lease:
        """Returns whether the pool still holds the task, as of now."""
        if self.is_lost:
            return Lease.LOST
        return Lease.DOUBTFUL if self._is_cut_off() else Lease.HELD


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and -1e15 <= value <= 1e15


CURRENT_RUN: ContextVar[Run] = ContextVar("fang_current_run")


def current_run() -> Run:
    """Returns the run that this code is part of. Raises ``NotInRun`` outside of a run."""
    try:
        return CURRENT_RUN.get()
    except LookupError:
        raise NotInRun("current_run() was called outside of a task's run") from None
