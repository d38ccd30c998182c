"""Starts the children of a pool in turn: no more at once than there are processors.

To start a child, and to import the application there, takes a processor. If all suspects of a pool began to do so at
once, none would run before the last one could, and the heart of the pool would have to share with all of them.
"""

import os
import threading
import time
from queue import SimpleQueue
from typing import Final, Protocol

AT_ONCE: Final = max(2, os.cpu_count() or 1)
"""How many children may be starting at the same time."""

PATIENCE: Final = 5.0
"""Seconds after which a child that is still starting holds up the next one no longer."""

LOOK_AGAIN: Final = 0.01


class Starting(Protocol):
    """A run whose child is to start."""

    def send(self) -> None:
        """Starts the child."""

    @property
    def running_since(self) -> float:
        """Returns when the child had started; 0.0 until then."""

    @property
    def is_over(self) -> bool:
        """Returns whether it has ended, whatever came of it."""


class Starter:
    """Starts children on a thread of its own, which begins with the first one: no event loop waits for a start."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Starting | None] = SimpleQueue()
        self._starting: list[tuple[Starting, float]] = []  # with the time until which it is waited for
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self, errand: Starting) -> None:
        """Has the child of this run started when its turn comes.

        Raises ``RuntimeError`` if there can be no thread for that; the next run tries it again.
        """
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="fang-starter", daemon=True)
                thread.start()
                self._thread = thread
        self._waiting.put(errand)

    def close(self) -> None:
        """Ends the thread, when no run is left."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (errand := self._waiting.get()) is not None:
            while self._is_full():
                time.sleep(LOOK_AGAIN)
            errand.send()
            self._starting.append((errand, time.monotonic() + PATIENCE))

    def _is_full(self) -> bool:
        now = time.monotonic()
        self._starting = [
            (errand, until)
            for errand, until in self._starting
            if now < until and not errand.running_since and not errand.is_over
        ]
        return len(self._starting) >= AT_ONCE
