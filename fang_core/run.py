"""What a run can know of itself: ``current_run()``."""

from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum
from uuid import UUID

from fang_core.config import RetentionMode
from fang_core.errors import NotInRun
from fang_core.record import ClaimedTask


class Lease(StrEnum):
    """Whether the pool still holds the task that is being run."""

    HELD = "held"
    """As far as the pool knows."""
    DOUBTFUL = "doubtful"
    """The pool has had no answer for most of a lease: others may take it for dead, and the task for free."""
    LOST = "lost"
    """Another may run it; this run can never complete it."""


class Run:
    """One attempt at a task, as seen from inside of it.

    One object for each run, so that a child task or thread that outlives the run still sees its own.

    Attributes:
        task: what was claimed.
        pool_id: who claimed it.
        retention_mode: what becomes of the row when the task has ended.
        is_lost: whether the pool knows that it no longer holds the task.
        completed: whether ``queue.complete()`` was called in it.
        started: whether a worker has taken it.
        over: true once the run has ended, or its task goes back.
    """

    __slots__ = ("_is_cut_off", "completed", "is_lost", "over", "pool_id", "retention_mode", "started", "task")

    def __init__(
        self,
        task: ClaimedTask,
        pool_id: UUID,
        retention_mode: RetentionMode = RetentionMode.REMOVE_FINISHED,
        is_cut_off: Callable[[], bool] = lambda: False,
    ) -> None:
        self.task = task
        self.pool_id = pool_id
        self.retention_mode = retention_mode
        self.is_lost = False
        self.completed = False
        self.started = False
        self.over = False
        self._is_cut_off = is_cut_off

    @property
    def lease(self) -> Lease:
        """Whether the pool still holds the task, as of now."""
        if self.is_lost:
            return Lease.LOST
        return Lease.DOUBTFUL if self._is_cut_off() else Lease.HELD


CURRENT_RUN: ContextVar[Run] = ContextVar("fang_current_run")


def current_run() -> Run:
    """The run that this code is part of. Raises ``NotInRun`` outside of one."""
    try:
        return CURRENT_RUN.get()
    except LookupError:
        raise NotInRun("current_run() was called outside of a task's run") from None
