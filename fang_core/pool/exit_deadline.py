"""Ends a process whose own threads, or whose event loop, hang while it stops."""

import _thread
import os
import threading
import time

from fang_core.config import EXIT_RUNS_LEFT


class ExitDeadline:
    """Ends the process at a time of the monotonic clock, unless it is disarmed before."""

    def __init__(self) -> None:
        self._is_armed = False
        self._disarmed = threading.Event()

    def arm(self, at: float) -> None:
        """Makes the process end at this time; the first call that could start a thread counts. A signal handler may
        call it, so it raises nothing if there can be no more threads."""
        if not self._is_armed:
            self._is_armed = True
            try:
                # Not threading.Thread: its start takes a lock that the interrupted code may hold.
                _thread.start_new_thread(self._wait, (at,))
            except RuntimeError:  # a stop without a deadline is better than none
                self._is_armed = False

    def disarm(self) -> None:
        """Lets the process go on."""
        self._disarmed.set()

    def _wait(self, at: float) -> None:
        """Runs on a thread of its own: every other one may wait for an answer."""
        if not self._disarmed.wait(max(0.0, at - time.monotonic())):
            os._exit(EXIT_RUNS_LEFT)
