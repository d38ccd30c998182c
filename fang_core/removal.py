"""The removal of many tasks: how far it has come, how large its next batch is, and what is said if it is stopped."""

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from fang_core.errors import UsageError
from fang_core.logs import SafeLogger

OnProgress = Callable[[int], object]
"""Is told how many tasks have been removed so far."""

BATCH_SECONDS: Final = 1.0
"""What a batch is to take: a task that a table without an index refers to can cost 50 ms."""

GROWTH: Final = 8
"""By which a batch may be larger than the one before."""

MOST: Final = 10_000
"""Tasks of a batch."""


class Removal:
    """One call that removes many tasks.

    Attributes:
        removed: how many so far.
        limit: tasks of the next batch. The first one is a single task: nobody knows what it costs.

    Raises ``UsageError`` for an ``on_progress`` that cannot be called, or whose result would have to be awaited.
    """

    def __init__(self, on_progress: OnProgress | None, clock: Callable[[], float] = time.monotonic) -> None:
        if on_progress is not None and not callable(on_progress):
            raise UsageError("on_progress= takes a function, which is called with the number of tasks removed so far")
        if inspect.iscoroutinefunction(on_progress):
            raise UsageError("on_progress= takes a plain function, not an async one")
        self.removed = 0
        self.limit = 1
        self._on_progress = on_progress
        self._clock = clock
        self._began = clock()

    def begin(self) -> None:
        """A batch is sent now."""
        self._began = self._clock()

    def ended(self, removed: int) -> None:
        """The batch has removed so many. Raises what ``on_progress`` raises."""
        if not removed:
            return
        self.removed += removed
        fitting = int(BATCH_SECONDS * removed / max(self._clock() - self._began, 1e-6))
        self.limit = max(1, min(fitting, self.limit * GROWTH, MOST))
        if self._on_progress is not None:
            self._on_progress(self.removed)

    @contextmanager
    def told(self, logger: SafeLogger, *, in_transaction: bool) -> Iterator[None]:
        """Says how far it has come if it is stopped, whatever stops it: as a note of the exception, and in the log."""
        try:
            yield
        except BaseException as error:
            what = "in your transaction" if in_transaction else "and stay removed"
            stopped = f"the removal was stopped: at least {self.removed} tasks were removed before, {what}"
            error.add_note(stopped)
            if self.removed:
                logger.warning("%s (%s)", stopped, type(error).__name__)
            raise
