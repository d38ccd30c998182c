"""Lets the processes of a file write one after the other, in the order in which they come.

SQLite's own lock is polled, with steps of up to 100 ms, and whoever asks most often gets it. So each writer passes this
gate before it begins a transaction: two lock files held by ``flock``, which the kernel frees if a process dies. Who
holds ``turn`` is the next one to get ``writer``, so that no process can get that twice while another one waits.
"""

import fcntl
import os
import threading
from pathlib import Path
from typing import Final

_MODE: Final = 0o666  # whoever may write the database has to pass; the umask narrows it


class Gate:
    """The gate of one file, for one process, in which one thread at a time may come to it."""

    def __init__(self, directory: Path) -> None:
        self._turn = _opened(directory / "turn")
        self._writer = _opened(directory / "writer")
        self._state = threading.Condition()
        self._is_wanted = False
        self._is_held = False
        self._is_waiting = False

    def enter(self, seconds: float) -> bool:
        """Returns whether this process may write now, which it may until it leaves; waits for so long at most."""
        if not self._is_waiting and self._enter_at_once():
            return True
        with self._state:
            self._is_wanted = True
            if not self._is_waiting:
                self._is_waiting = True
                threading.Thread(target=self._wait, name="fang-gate", daemon=True).start()
            entered = self._state.wait_for(lambda: self._is_held, seconds)
            self._is_wanted = self._is_held = False
            return entered

    def leave(self) -> None:
        """Lets the next one write."""
        fcntl.flock(self._writer, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closes the lock files, and so lets go of them."""
        os.close(self._turn)
        os.close(self._writer)

    def _enter_at_once(self) -> bool:
        if not _locked(self._turn):
            return False
        try:
            return _locked(self._writer)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def _wait(self) -> None:
        """Waits for the gate on a thread of its own, as a blocked ``flock`` knows no end."""
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            fcntl.flock(self._writer, fcntl.LOCK_EX)
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        except OSError:  # it was closed meanwhile
            return
        with self._state:
            self._is_waiting = False
            if self._is_wanted:
                self._is_held = True
                self._state.notify_all()
            else:
                self.leave()


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
