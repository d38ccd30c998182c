"""Lets the processes that write to a file do so one after the other, each of them in its turn.

SQLite's own lock is polled, in steps of up to 100 ms, and who asks most often gets it: of eight processes one waited
for 2 s, and with the gate for 0.1 s. So each of our writers passes two lock files before it begins a transaction, held
by ``flock``, which the kernel frees when a process dies. Who holds ``turn`` is the next to get ``writer``: no process
gets that twice while another one waits.

The gate makes waiting fair, and protects nothing: writers that do not know it, such as the application's own, are kept
out by SQLite's lock. A caller that has waited for the gate in vain may write nevertheless.
"""

import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from fang_core.interpreter.forks import in_child
from fang_sqlite.connections.lockfiles import is_deleted, open_lock_file


class Gate:
    """Guards one file: one thread at a time may enter, and leaves before the next one enters.

    Args:
        directory: where the lock files are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pair: _Pair | None = None
        self._waiter: _Waiter | None = None
        self._held: _Pair | None = None
        in_child(self, Gate._forget)

    def enter(self, seconds: float) -> bool:
        """Returns whether this process has the gate, until ``leave``; waits for so long at most.

        It does not wait if no thread can be started for that, as at the limit of threads. Raises ``OSError`` if the
        lock files cannot be opened.
        """
        if self._held is not None:  # an exception from outside has hit a thread that had just entered
            return True
        until = time.monotonic() + seconds
        while not self._enter_at_once():
            if self._waiter is None:
                try:
                    self._waiter = _Waiter(_Pair(self._directory))
                except RuntimeError:  # SQLite's own lock is waited for without a thread
                    return False
            if not self._waiter.ends_within(until - time.monotonic()):
                return False
            self._held = self._waiter.locked()
            self._waiter = None  # not before: a signal that strikes between would leave the locks without an owner
            if self._held is not None:
                return True
        return True

    def leave(self) -> None:
        """Lets the next one in; does nothing if this process does not have the gate.

        It has it even if an exception of a signal's handler has struck between the locks and the note that they are
        held: other threads would wait in vain until this process writes again.
        """
        if self._held is not None and self._held is not self._pair:
            self._held.close()
        if self._pair is not None:
            self._pair.unlock()
        self._held = None
        self._let_go_of_waiter()

    def close(self) -> None:
        """Leaves, and closes the lock files. Idempotent; a gate that is entered again opens them again."""
        self.leave()
        self._close_pair()

    def _let_go_of_waiter(self) -> None:
        """Closes the files of a waiter whose wait is over, if no thread has asked for the gate since."""
        if self._waiter is not None and self._waiter.ends_within(0):
            self._waiter.let_go()
            self._waiter = None

    def _enter_at_once(self) -> bool:
        if self._waiter is not None:
            return False
        if self._pair is None or self._pair.is_deleted:
            self._close_pair()
            self._pair = _Pair(self._directory)
        if not self._pair.lock_at_once():
            return False
        self._held = self._pair
        return True

    def _close_pair(self) -> None:
        pair, self._pair = self._pair, None
        if pair is not None:
            pair.close()

    def _forget(self) -> None:
        """Closes a child's copies, which would keep the parent's locks after its death; unlocking would free these."""
        for pair in (self._pair, self._held, None if self._waiter is None else self._waiter.pair):
            if pair is not None:
                pair.close()
        self._pair = self._waiter = self._held = None


class _Pair:
    """The two lock files, opened once. All locks of an open file are one, whatever thread takes them."""

    def __init__(self, directory: Path) -> None:
        self._turn = open_lock_file(directory, "turn")
        try:
            self._writer = open_lock_file(directory, "writer")
        except OSError:
            os.close(self._turn)
            raise
        self._open = [self._turn, self._writer]

    @property
    def is_deleted(self) -> bool:
        """Returns whether another process that opens the files gets other ones."""
        return is_deleted(self._writer)

    def lock_at_once(self) -> bool:
        """Locks ``writer`` if no thread has it or waits for it; returns whether it did."""
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            fcntl.flock(self._writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return True

    def lock(self) -> None:
        """Waits its turn, and then for ``writer``, however long that takes."""
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        fcntl.flock(self._writer, fcntl.LOCK_EX)
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def unlock(self) -> None:
        """Lets go of both, whichever are locked."""
        for file in (self._turn, self._writer):
            fcntl.flock(file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closes both files, and so lets go of them. Idempotent: their numbers may be those of other files by then."""
        while self._open:
            with suppress(OSError):
                os.close(self._open.pop())


class _Waiter:
    """Waits for the gate on a thread of its own, since a ``flock`` that blocks knows no end.

    If no caller wants the gate any more when it comes, the thread lets go of it.
    """

    def __init__(self, pair: _Pair) -> None:
        self.pair = pair
        self._ended = threading.Condition()
        self._has_ended = False
        self._is_wanted = True
        self._is_locked = False
        self._error: OSError | None = None
        try:
            threading.Thread(target=self._wait, name="fang-gate", daemon=True).start()
        except BaseException:  # such as RuntimeError: can't start new thread
            pair.close()
            raise

    def ends_within(self, seconds: float) -> bool:
        """Returns whether the wait is over, after this many seconds at most."""
        with self._ended:
            self._is_wanted = True
            try:
                return self._ended.wait_for(lambda: self._has_ended, seconds)
            finally:
                self._is_wanted = False

    def locked(self) -> _Pair | None:
        """Returns the locked files, which the caller closes; None if the thread has let go of them."""
        if self._error is not None:
            raise self._error
        return self.pair if self._is_locked else None

    def let_go(self) -> None:
        """Closes the files, when the wait is over."""
        if self._is_locked:
            self.pair.close()

    def _wait(self) -> None:
        try:
            self.pair.lock()
        except OSError as error:  # such as ENOLCK
            self._error = error
        with self._ended:
            self._has_ended = True
            self._is_locked = self._is_wanted and self._error is None
            if not self._is_locked:
                self.pair.close()
            self._ended.notify_all()
