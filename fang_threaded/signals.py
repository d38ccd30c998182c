"""The wait of a thread for SIGTERM or SIGINT."""

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from fang_core.signals import StopSignals

LOOK_AGAIN: Final = 0.5
"""Seconds."""


class Signals(StopSignals):
    """The first signal ends ``wait()``.

    A ``SimpleQueue`` and not an ``Event``: a handler that sets an event deadlocks against its own thread waiting on it.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None, *, shares: bool = True) -> None:
        super().__init__(on_first, shares=shares)
        self._inbox: SimpleQueue[None] = SimpleQueue()

    def wake(self) -> None:
        """Ends ``wait()``, also without a signal."""
        self._inbox.put(None)

    def wait(self) -> None:
        """Waits for the first signal, or until it is woken."""
        # A signal that comes between Python's last look for one and the system call that waits does not end that wait.
        while True:
            with suppress(Empty):
                self._inbox.get(timeout=LOOK_AGAIN)
                return
