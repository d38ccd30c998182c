"""Keeps track of a call for many tasks: its progress, the size of its next batch, and a note if it is stopped."""

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from fang_core.errors import UsageError
from fang_core.logs import SafeLogger

OnProgress = Callable[[int], object]
"""Is called with the number of tasks dealt with so far."""

BATCH_SECONDS: Final = 1.0
"""The time that a batch should take: a task that a table without an index refers to can cost 50 ms."""

GROWTH: Final = 8
"""The factor by which a batch may be larger than the one before."""

MOST: Final = 10_000
"""The most tasks in a batch."""


class Batches:
    """Tracks one call that deals with many tasks.

    Attributes:
        done: how many tasks have been dealt with so far.
        limit: the size of the next batch. The first batch is a single task, since its cost is unknown.
        seconds: how long the last batch took.

    Args:
        noun, participle: what the call is, and what becomes of tasks, such as "removal" and "removed".
        on_progress: see ``OnProgress``.

    Raises ``UsageError`` for an ``on_progress`` that cannot be called, or whose result would have to be awaited.
    """

    def __init__(
        self,
        noun: str,
        participle: str,
        on_progress: OnProgress | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if on_progress is not None and not callable(on_progress):
            raise UsageError(f"on_progress= takes a function, which is called with the number of tasks {participle}")
        if inspect.iscoroutinefunction(on_progress):
            raise UsageError("on_progress= takes a plain function, not an async one")
        self.done = 0
        self.limit = 1
        self.seconds = 0.0
        self._noun = noun
        self._participle = participle
        self._on_progress = on_progress
        self._clock = clock
        self._began = clock()

    def begin(self) -> None:
        """Notes that a batch is sent now."""
        self._began = self._clock()

    def ended(self, count: int) -> None:
        """Notes how many tasks the batch has dealt with. Raises what ``on_progress`` raises."""
        self.seconds = max(self._clock() - self._began, 1e-6)
        if not count:
            return
        self.done += count
        fitting = int(BATCH_SECONDS * count / self.seconds)
        self.limit = max(1, min(fitting, self.limit * GROWTH, MOST))
        if self._on_progress is not None:
            self._on_progress(self.done)

    @contextmanager
    def told(self, logger: SafeLogger, *, in_transaction: bool) -> Iterator[None]:
        """If an exception stops a call that has done something, says how far it came: in a note, and in the log."""
        try:
            yield
        except BaseException as error:
            if not self.done:
                raise
            what = "in your transaction" if in_transaction else f"and stay {self._participle}"
            stopped = f"the {self._noun} was stopped: at least {self.done} tasks were {self._participle} before, {what}"
            error.add_note(stopped)
            logger.warning("%s (%s)", stopped, type(error).__name__)
            raise


def removal(on_progress: OnProgress | None) -> Batches:
    """Tracks a call that removes many tasks."""
    return Batches("removal", "removed", on_progress)


def retrying(on_progress: OnProgress | None) -> Batches:
    """Tracks a call that retries many tasks."""
    return Batches("retry", "retried", on_progress)


def cancelling(on_progress: OnProgress | None) -> Batches:
    """Tracks a call that cancels many tasks."""
    return Batches("cancelling", "cancelled", on_progress)
