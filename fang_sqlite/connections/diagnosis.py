"""Turns the errors of SQLite, and of the files next to a database, into ours: one line each, with what to do.

Source of the codes: sqlite.org/rescode.html. An extended code has the primary one in its lowest byte.
"""

import errno
import re
import sqlite3
from pathlib import Path
from typing import Final

from fang_core.errors import (
    AccessRefused,
    BackendError,
    BackendUnavailable,
    FangError,
    NotConnected,
    ReadOnlyServer,
    RowsLocked,
    SchemaError,
    StatementRefused,
    UsageError,
)

BUSY_SNAPSHOT: Final = sqlite3.SQLITE_BUSY_SNAPSHOT
"""The code of a transaction that has read, and then writes although others have committed since: SQLite refuses that at
once, however long it may wait."""

_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})

_REFUSED: Final = (StatementRefused, "{name}: SQLite refused a value: {line}")
_TEXTS: Final[dict[int, tuple[type[FangError], str]]] = {
    BUSY_SNAPSHOT: (
        RowsLocked,
        "{name}: others have committed since this transaction first read, so that it cannot write: roll it back, and"
        ' begin it with BEGIN IMMEDIATE (sqlite3: isolation_level="IMMEDIATE")',
    ),
    sqlite3.SQLITE_CONSTRAINT: _REFUSED,
    sqlite3.SQLITE_MISMATCH: _REFUSED,
    sqlite3.SQLITE_TOOBIG: _REFUSED,
    sqlite3.SQLITE_RANGE: _REFUSED,
    sqlite3.SQLITE_FULL: (BackendError, "{name}: the disk is full, and nothing was written: make room"),
    sqlite3.SQLITE_READONLY: (
        ReadOnlyServer,
        "{name}, or the directory with its log and locks, cannot be written to ({line}): give this user the right to"
        " write to both, or mount the disk writable",
    ),
    sqlite3.SQLITE_NOTADB: (
        SchemaError,
        "{name} is no SQLite database, or is encrypted: give the path of another file",
    ),
    sqlite3.SQLITE_CORRUPT: (
        BackendError,
        "{name} is damaged ({line}): restore it from a backup, or try .recover of the sqlite3 command",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        NotConnected,
        "{name} cannot be opened: see that it is a file, and that {directory} exists and can be written to",
    ),
    sqlite3.SQLITE_PERM: (AccessRefused, "{name} cannot be opened ({line}): give this user the right to write to it"),
    sqlite3.SQLITE_IOERR: (
        BackendUnavailable,
        "{name}: the system could not read or write ({errorname}): see its log, and whether the disk is full or gone",
    ),
}
"""What a code says; that of a primary code holds for its extended ones, too."""

_FAILED: Final = (BackendError, "{name}: SQLite failed ({errorname}): {line}; nothing was written")
_MISSING: Final = re.compile("no such (table|index): (main.)?fang_|no such column|table fang_")
_OF_THREADS: Final = "SQLite objects created in a thread"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def diagnosed(error: sqlite3.Error, path: Path, *, waited: float | None = None) -> FangError:
    """Returns our error for one of SQLite's.

    Args:
        waited: the seconds for which the statement has waited for other writers, if that is known.
    """
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    line = line.partition(" with text ")[0]  # text that is no UTF-8: it may be a payload
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return _of_the_module(error, path.name, line)
    if code & 0xFF in _LOCKED and code != BUSY_SNAPSHOT:
        return locked(path, waited)
    if code == sqlite3.SQLITE_ERROR and _MISSING.match(line):
        return SchemaError(f"{path.name} does not have the tables of this version ({line}): open the queue again")
    if path.is_dir():  # of which SQLite says one thing or another
        code = sqlite3.SQLITE_CANTOPEN
    kind, text = _TEXTS.get(code) or _TEXTS.get(code & 0xFF, _FAILED)
    return kind(text.format(name=path.name, directory=path.parent, line=line, errorname=error.sqlite_errorname))


def diagnosed_os(error: OSError, path: Path) -> BackendError:
    """Returns our error for one of the system's, with the files next to a database."""
    reason = error.strerror or type(error).__name__
    what = f"{path.name}: the files next to it cannot be used ({reason})"
    if error.errno in _FULL:
        return BackendError(f"{path.name}: the disk is full, and nothing was written: make room")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return AccessRefused(f"{what}: give this user the right to write to {path.name}-fang")
    if error.errno == errno.EROFS:
        return ReadOnlyServer(f"{what}: mount the disk writable")
    return BackendError(f"{what}: see whether {path.name}-fang is a directory on a local disk")


def locked(path: Path, waited: float | None = None) -> RowsLocked:
    """Returns the error for a file to which other connections wrote for as long as a call waits."""
    how_long = "too long" if waited is None else f"{waited:g} s"
    return RowsLocked(
        f"{path.name}: another transaction has been writing for {how_long}, and nothing was written: try again; if it"
        " is your own, pass its connection= or commit it first"
    )


def _of_the_module(error: sqlite3.Error, name: str, line: str) -> FangError:
    """Returns our error for one of Python's module, which has no code."""
    if isinstance(error, sqlite3.ProgrammingError):
        if line.startswith(_OF_THREADS):
            return UsageError("connection= belongs to another thread: make it with check_same_thread=False")
        if "closed" in line:
            return NotConnected(f"{name}: the connection was closed meanwhile, and nothing was written")
    if isinstance(error, sqlite3.DataError | sqlite3.InterfaceError):
        return StatementRefused(f"{name}: SQLite refused a value: {line}")
    return BackendError(f"{name}: {type(error).__name__}: {line}")
