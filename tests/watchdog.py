"""Ends a process in which a test hangs, and tells what its threads do.

pytest-timeout starts and joins a thread for each test, and the faulthandler of pytest's another one. That takes as long
as all else of a test that does nothing. Here one thread watches all tests of a process.
"""

import faulthandler
import functools
import threading
from time import monotonic, sleep  # tests replace those of the module
from typing import Any

import pytest
import pytest_timeout
from _pytest.faulthandler import fault_handler_stderr_fd_key

EVERY = 5.0
"""Seconds between two looks at the time."""

BLOCKED = 300.0
"""Seconds after which the process ends if the thread that watches cannot run, as another one holds the GIL."""


class Watchdog:
    def __init__(self, stderr: int) -> None:
        self.test: tuple[float, pytest.Item, Any] | None = None
        """When it must have ended, what it is, and pytest-timeout's settings for it."""
        self._stderr = stderr
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        while True:
            faulthandler.dump_traceback_later(BLOCKED, exit=True, file=self._stderr)
            sleep(EVERY)
            test = self.test
            if test is not None and test[0] < monotonic():
                self.test = None
                faulthandler.dump_traceback(self._stderr)
                pytest_timeout.timeout_timer(*test[1:])


@functools.cache
def _watchdog(stderr: int) -> Watchdog:
    return Watchdog(stderr)


def _watchdog_of(item: pytest.Item) -> Watchdog:
    return _watchdog(item.config.stash[fault_handler_stderr_fd_key])


@pytest.hookimpl
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    _watchdog_of(item).test = monotonic() + settings.timeout, item, settings
    return True


@pytest.hookimpl
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    _watchdog_of(item).test = None
    return True
