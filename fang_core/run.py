"""What a run can know of itself: ``current_run()``."""

from contextvars import ContextVar
from enum import StrEnum

from fang_core.errors import NotInRun
from fang_core.record import ClaimedTask


class Lease(StrEnum):
    """Whether the pool still holds the task that is being run."""

    HELD = "held"
    DOUBTFUL = "doubtful"
    LOST = "lost"


class Run:
    """One attempt at a task, as seen from inside of it.

    One object for each run, so that a child task or thread that outlives the run still sees its own.

    Attributes:
        task: what was claimed.
        lease: whether the pool still holds it; a lost run can never complete its task.
        over: true once the run has ended.
    """

    __slots__ = ("lease", "over", "task")

    def __init__(self, task: ClaimedTask) -> None:
        self.task = task
        self.lease = Lease.HELD
        self.over = False


CURRENT_RUN: ContextVar[Run] = ContextVar("fang_current_run")


def current_run() -> Run:
    """The run that this code is part of. Raises ``NotInRun`` outside of one."""
    try:
        return CURRENT_RUN.get()
    except LookupError:
        raise NotInRun("current_run() was called outside of a task's run") from None
