"""Has a thread wait for SIGTERM or SIGINT."""

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from fang_core.pool.signals import StopSignals

LOOK_AGAIN: Final = 0.5
"""Seconds between two looks for a signal."""


class Signals(StopSignals):
    """Ends ``wait()`` at the first signal.

    It uses no ``threading.Event``: a handler that sets one deadlocks if its own thread waits for it.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None, *, shares: bool = True) -> None:
        super().__init__(on_first, shares=shares)
        self._inbox: SimpleQueue[None] = SimpleQueue()

    def wake(self) -> None:
        """See ``StopSignals.wake``."""
        self._inbox.put(None)

    async def wait(self) -> None:
        """See ``StopSignals.wait``; it blocks."""
        # A signal that comes after Python's last look for one, just before the system call, does not end its wait.
        while True:
            with suppress(Empty):
                self._inbox.get(timeout=LOOK_AGAIN)
                return
