"""Opens the files next to a database that processes lock by ``flock``: the kernel frees such a lock if its process
dies.

Locks of the other kind, by ``fcntl``, would not do: a process loses all of those of a file when it closes any of its
descriptors.
"""

import os
from pathlib import Path
from typing import Final

_MODE: Final = 0o666  # every user who may write to the database has to lock, too; the umask narrows it


def open_lock_file(directory: Path, name: str, flags: int = os.O_CREAT) -> int:
    """Opens a file for reading and writing; makes it, and the directory, if they are not there.

    A child that a process starts by exec does not inherit it. Raises ``OSError``.
    """
    path, flags = directory / name, flags | os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(path, flags, _MODE)
    except FileNotFoundError:  # the directory was removed
        directory.mkdir(exist_ok=True)
        return os.open(path, flags, _MODE)


def is_deleted(file: int) -> bool:
    """Returns whether a process that opens the file's path gets another file, or none."""
    return os.fstat(file).st_nlink == 0
