"""Handles the files by which pools show that they live: a lock that dies with the process, and a counter.

A beat raises the counter in a file, and not in the database: it neither costs a commit, nor waits for a writer. A
process that watches a pool opens its file, and tries to lock it for a moment.
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.interpreter.forks import in_child
from fang_sqlite.connections.lockfiles import is_deleted, open_lock_file

_SUFFIX: Final = ".pulse"
_CONTENT: Final = struct.Struct("<q?")  # the counter, and whether its owner says that it holds the lock

_LOOKS_END_WITHIN: Final = 1.0
"""Seconds within which those who watch have let go of their locks: each holds one for the time of a read."""


class Seen(NamedTuple):
    """Holds what a watcher sees of a pool in its file; the default stands for an empty file."""

    beats: int = 0
    claims_lock: bool = False
    is_locked: bool = False


NO_FILE: Final = Seen(claims_lock=True)
"""What is seen of a pool that has no file. One that lives makes it again with its next beat; in a copy of the database
none does, and their tasks need not wait for the lease of the pools that ran when it was made."""


class PulseFile:
    """The file of a pool of this process.

    Args:
        directory: where the files of all pools are.
        locks: whether to hold the lock; without it the lease alone decides on the life of the pool.
    """

    def __init__(self, directory: Path, pool_id: UUID, *, locks: bool) -> None:
        self.pool_id = pool_id
        self._directory = directory
        self._locks = locks
        self._beats = 0
        self._file: int | None = None
        in_child(self, PulseFile._close)

    def beat(self) -> bool:
        """Raises the counter. Opens the file if it is not open, or was removed, and returns whether it did.

        Raises ``OSError``.
        """
        if self._file is not None and is_deleted(self._file):
            self._close()
        is_opened = self._file is None
        if self._file is None:
            self._file = self._opened()
        self._beats += 1
        os.pwrite(self._file, _CONTENT.pack(self._beats, self._locks), 0)
        return is_opened

    def close(self) -> None:
        """Lets go of the lock, as the end of the process does; the file stays. Idempotent."""
        self._close()

    def _close(self) -> None:
        """Closes it without unlocking: in a child that would free the lock of the parent."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _opened(self) -> int:
        file = open_lock_file(self._directory, _name(self.pool_id))
        try:
            if self._locks:
                _lock(file)
            self._beats = max(self._beats, _content(file).beats)
        except BaseException:
            os.close(file)
            raise
        return file


def look(directory: Path, pool_id: UUID) -> Seen:
    """Returns what the file of a pool shows now."""
    try:
        file = os.open(directory / _name(pool_id), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return NO_FILE
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return _content(file)
    except BlockingIOError:
        return _content(file)._replace(is_locked=True)
    finally:
        os.close(file)  # and so lets go of the lock


def remove(directory: Path, pool_id: UUID) -> None:
    """Removes the file of a pool that has ended."""
    with suppress(FileNotFoundError):
        (directory / _name(pool_id)).unlink()


def pools_in(directory: Path) -> Iterator[UUID]:
    """Yields the pools that have a file."""
    for name in os.listdir(directory):
        if name.endswith(_SUFFIX):
            with suppress(ValueError):
                yield UUID(hex=name.removesuffix(_SUFFIX))


def _name(pool_id: UUID) -> str:
    return pool_id.hex + _SUFFIX


def _content(file: int) -> Seen:
    content = os.pread(file, _CONTENT.size, 0)
    return Seen(*_CONTENT.unpack(content)) if len(content) == _CONTENT.size else Seen()


def _lock(file: int) -> None:
    """Locks a file that other processes may be looking at just now."""
    deadline = time.monotonic() + _LOOKS_END_WITHIN
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
