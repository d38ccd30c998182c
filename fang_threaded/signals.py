"""SIGTERM and SIGINT for as long as a pool runs, in the main thread."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final, Self

from fang_core.forks import in_child

LOOK_AGAIN: Final = 0.5
"""Seconds."""


class Signals:
    """SIGTERM and SIGINT while it is entered: the first one ends ``wait()``, the second has its default action.

    Args:
        on_first: called by the first one's handler itself, so also where nobody comes to wait.

    Attributes:
        came: whether there was a first one.

    A ``SimpleQueue`` and not an ``Event``: a handler that sets an event deadlocks against its own thread waiting on it.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.came = False
        self._on_first = on_first
        self._inbox: SimpleQueue[int] = SimpleQueue()
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._first)
        in_child(self, Signals._give_back)  # a child ends by a signal, as if it were not there
        return self

    def _first(self, number: int, _frame: FrameType | None) -> None:
        for each in self._former:
            # The default action needs no Python, so it works while C code holds on. As process 1 the kernel drops it.
            signal.signal(each, signal.SIG_DFL if os.getpid() != 1 else lambda again, _: os._exit(128 + again))
        self.came = True
        self._on_first()
        self._inbox.put(number)

    def wake(self) -> None:
        """Ends ``wait()`` without a signal."""
        self._inbox.put(0)

    def wait(self) -> None:
        """Until the first signal, or until it is woken."""
        # A signal that comes between Python's last look for one and the system call that waits does not end that wait.
        while True:
            with suppress(Empty):
                self._inbox.get(timeout=LOOK_AGAIN)
                return

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        former, self._former = self._former, {}
        for number, handler in former.items():
            signal.signal(number, handler)
