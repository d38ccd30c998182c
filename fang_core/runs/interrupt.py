"""Interrupts a run: for which reasons, by which exception, and which blocks hold that back.

An asyncio run gets a ``CancelledError``, a threaded run an ``Interrupted``: once, and once more for each higher reason.
The result of the run counts: only a run that ends with that very exception has the result of its interruption; see
``Execution``.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from fang_core.runs.run import CURRENT_RUN, Run


class Interrupt(StrEnum):
    """Says why a run is interrupted. Each reason is higher than those above it."""

    TIME_LIMIT = "time limit"
    """The run took longer than its timeout. If it ends by this, it has failed with ``TimedOut``."""
    CANCELLED = "cancelled"
    """The task was cancelled. It does not run again, unless the run asks for that."""
    SHUTDOWN = "shutdown"
    """The pool stops, and its grace period is over; asyncio only. If the run ends by this, its task is given back."""
    LOST = "lost"
    """The pool does not hold the task any more: whatever the run does, it cannot complete it."""


_RANK: Final[Mapping[Interrupt, int]] = MappingProxyType({why: rank for rank, why in enumerate(Interrupt)})


class Interruption:
    """Tracks one interruption.

    Attributes:
        why: the reason.
        reason: the reason that was given when the task was cancelled.
        asked_at: when the run was interrupted for the first time, in seconds of the monotonic clock.
        is_struck: whether the run has been sent its exception. It gets one.
        cancels: whether the task is cancelled, for this reason or the one before.
    """

    __slots__ = ("asked_at", "cancels", "is_struck", "reason", "why")

    def __init__(self, why: Interrupt, reason: str, asked_at: float) -> None:
        self.why = why
        self.reason = reason
        self.asked_at = asked_at
        self.is_struck = False
        self.cancels = why is Interrupt.CANCELLED

    def applies_to(self, run: Run) -> bool:
        """Returns whether the run was not interrupted yet, or for a lower reason."""
        return run.interruption is None or _RANK[run.interruption.why] < _RANK[self.why]

    def begin(self, run: Run) -> None:
        """Becomes the interruption of the run, to which it applies."""
        before = run.interruption
        if before is not None:
            self.asked_at = before.asked_at
            if before.cancels:
                self.cancels, self.reason = True, before.reason
        run.interruption = self


class Interrupted(BaseException):
    """Is raised in the thread of a run, between any two of its steps: clean up, and let it through.

    Attributes:
        why: the reason, as in ``current_run().interrupt``; None if code of an application has raised this.
    """

    why: Interrupt | None = None

    def __str__(self) -> str:
        return "the run was interrupted" + (f" ({self.why})" if self.why else "")


INTERRUPTED: Final[Mapping[Interrupt, type[Interrupted]]] = MappingProxyType(
    {why: type("Interrupted", (Interrupted,), {"__module__": __name__, "why": why}) for why in Interrupt}
)
"""Python raises only a class in another thread, and makes the exception there without arguments."""


def is_only(error: BaseException, kind: type[BaseException]) -> bool:
    """Returns whether an exception is of this kind, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_only(held, kind) for held in error.exceptions)
    return isinstance(error, kind)


class uninterruptible:  # noqa: N801 - it is called like a function
    """``with uninterruptible():`` holds an interruption of the run back until the block ends, in both modes.

    The exception comes when the block ends: in a thread at its end, in asyncio at the next ``await``. If another
    exception ends the block, that one propagates, and the interruption follows a little later if the run goes on.
    Without an interruption, and outside of a run, the block changes nothing. Blocks may be nested. A run that stays in
    one for longer than the pool's ``stuck_after`` counts as stuck nevertheless.
    """

    def __enter__(self) -> None:
        run = CURRENT_RUN.get(None)
        if run is not None and run.taken_by is not None:
            run.taken_by.hold_back(run)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        run = CURRENT_RUN.get(None)
        if run is not None and run.taken_by is not None:
            run.taken_by.let_through(run, is_raising=kind is not None)


def heed_interruption() -> None:
    """Raises the exception of a run in a thread that was interrupted and has not met it yet; does nothing otherwise.

    Queues call it before they block: a run that does little else is hardly ever met in code of its own.
    """
    run = CURRENT_RUN.get(None)
    if run is not None and run.interruption is not None:
        with uninterruptible():
            pass
