"""Lets no process fork while one of its connections is in use.

SQLite remembers, process by process, which locks it has on a file. A child has its parent's memory and not its locks:
connections that it opens next to its copies of the parent's hold no lock, and what it commits is lost when the parent
closes the file. So a child first closes its copies, which is harmless if they were idle when it was forked.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from weakref import WeakSet

STILL_WITHIN: Final = 2.0
"""Seconds for which a fork waits for those who use connections; a child that is forked then cannot use the file."""

_LOOKS_EVERY: Final = 0.001

_GUARDS: Final["WeakSet[ForkGuard]"] = WeakSet()


class ForkGuard:
    """Knows each use of the connections to one file, which other threads may use, too.

    The handler of a signal may raise an exception anywhere in the main thread, and must not leave a use behind that has
    ended: each of them is an object in a set, which one call into C takes out again.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may use a connection, too
        self._uses: set[object] = set()
        _GUARDS.add(self)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keeps the process from forking, and waits while it does."""
        use = object()
        try:
            with self._lock:
                self._uses.add(use)
            yield
        finally:
            self._uses.discard(use)

    def is_still(self) -> bool:
        """Returns whether no thread uses a connection; in a child, whether none did when it was forked."""
        return not self._uses

    def start_anew(self) -> None:
        """Makes a child's copy an unused one: no other thread of the parent's goes on there."""
        self._lock = threading.RLock()
        self._uses = set()

    def hold(self) -> None:
        """Waits until no thread uses a connection, and lets none begin."""
        deadline = time.monotonic() + STILL_WITHIN
        self._lock.acquire()
        while self._uses and time.monotonic() < deadline:
            self._lock.release()  # those who are under way may need another one to come to their end
            time.sleep(_LOOKS_EVERY)
            self._lock.acquire()

    def release(self) -> None:
        """Lets those who wait begin."""
        with suppress(RuntimeError):  # it was not held
            self._lock.release()


def _hold_all() -> None:
    for guard in tuple(_GUARDS):
        guard.hold()


def _release_all() -> None:
    for guard in tuple(_GUARDS):
        guard.release()


os.register_at_fork(before=_hold_all, after_in_parent=_release_all)
