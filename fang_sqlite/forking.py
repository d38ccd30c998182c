"""Lets no process fork while one of its connections is in use.

SQLite remembers, process by process, which locks it has on a file. A child has its parent's memory and not its locks:
connections that it opens beside its copies of the parent's hold no lock, and what it commits is lost when the parent
closes the file. So a child first closes its copies, which harms nobody if they were idle when it was forked.
"""

import os
import threading
from typing import Final
from weakref import WeakSet

STILL_WITHIN: Final = 2.0
"""Seconds for which a fork waits for those who use connections; a child that is forked then cannot use the file."""

_GUARDS: Final["WeakSet[ForkGuard]"] = WeakSet()


class ForkGuard:
    """A context manager around each use of the connections to one file, which other threads may use, too."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._is_forking = False
        _GUARDS.add(self)

    def __enter__(self) -> None:
        with self._changed:
            while self._is_forking:
                self._changed.wait()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._users -= 1
            if self._users == 0:
                self._changed.notify_all()

    def is_still(self) -> bool:
        """Returns whether nobody uses a connection; in a child, whether nobody did when it was forked."""
        return self._users == 0

    def start_anew(self) -> None:
        """Makes a child's copy one that nobody uses: no other thread of the parent's goes on there."""
        self._changed = threading.Condition()
        self._users = 0
        self._is_forking = False

    def hold(self) -> None:
        """Waits until nobody uses a connection, and lets nobody begin."""
        with self._changed:
            self._changed.wait_for(self.is_still, STILL_WITHIN)
            self._is_forking = True

    def release(self) -> None:
        """Lets those who wait begin."""
        with self._changed:
            self._is_forking = False
            self._changed.notify_all()


def _hold_all() -> None:
    for guard in tuple(_GUARDS):
        guard.hold()


def _release_all() -> None:
    for guard in tuple(_GUARDS):
        guard.release()


os.register_at_fork(before=_hold_all, after_in_parent=_release_all)
