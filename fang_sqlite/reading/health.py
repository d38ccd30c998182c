"""Looks at a database file for ``fang doctor`` and ``fang migrate``, as one who only reads, and makes no file."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from fang_core.errors import BackendError, SchemaError, UsageError
from fang_core.monitoring.checks import Check, Level, unknown
from fang_sqlite.connections.diagnosis import diagnosed
from fang_sqlite.connections.location import path_of
from fang_sqlite.schema import VERSION, version_of

MIB: Final = 2**20
LITTLE_ROOM: Final = 500 * MIB
NO_ROOM: Final = 50 * MIB
"""Free bytes of the file system from which on it is nearly full, and full."""

LONG_LOG: Final = 256 * MIB
"""Bytes of a log above which a reader seems to keep it from being cut."""

LOOKS_FOR: Final = 2.0
"""Seconds for which it checks the pages of the file."""

_WAITS: Final = 5.0
"""Seconds for which it waits for those who write to a file that has no log."""

_EACH: Final = 10_000
"""Steps of SQLite's machine between two looks at the clock."""


def check_there(given: str, *, needs_tables: bool = True) -> None:
    """Raises ``UsageError`` if there is no file, ``SchemaError`` if it has no tables and ``needs_tables``."""
    path = path_of(given)
    if not path.parent.is_dir():
        raise UsageError(f"there is no file {path}, and {path.parent} is not a directory: check the path")
    if not path.exists():
        raise UsageError(f"there is no file {path}: `fang migrate` or the application creates it")
    if needs_tables and not version_in(given)[0]:
        raise SchemaError(f"{path} has no tables of Fang's: `fang migrate` or the application creates them")


def version_in(given: str) -> tuple[int, int]:
    """Returns the version of the tables in a file, 0 if there is no file or no table, and the version that we need.

    Raises ``BackendError`` if it is no database.
    """
    path = path_of(given)
    if not path.exists():
        return 0, VERSION
    with closing(_opened(path)) as connection:
        try:
            return version_of(connection), VERSION
        except sqlite3.Error as error:
            raise diagnosed(error, path, waited=_WAITS) from error


def examine(given: str) -> Iterator[Check]:
    """Gives what there is to say of a file; nothing more if it has no tables."""
    path = path_of(given)
    try:
        found, needed = version_in(given)
    except BackendError as error:
        yield Check("schema", Level.ERROR, str(error))
        return
    yield _schema(path, found, needed)
    if not found:
        return
    yield _disk(path)
    with closing(_opened(path)) as connection:
        yield _journal(path, connection)
        yield _integrity(path, connection)


def _opened(path: Path) -> sqlite3.Connection:
    """Connects, only to read. Raises ``BackendError``."""
    try:
        return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=_WAITS)
    except sqlite3.Error as error:
        raise diagnosed(error, path) from error


def _schema(path: Path, found: int, needed: int) -> Check:
    if found == needed:
        return Check("schema", Level.OK, f"the tables are at version {found}")
    if found > needed:
        text = f"the tables are at version {found}, but this release knows only {needed}"
        return Check("schema", Level.ERROR, text, "upgrade fang-tasks")
    text = f"the tables are at version {found}, not {needed}" if found else f"there are no tables in {path}"
    return Check("schema", Level.ERROR, text, "fang migrate")


def _disk(path: Path) -> Check:
    """Judges how much room there is for the file to grow."""
    try:
        free, size = shutil.disk_usage(path.parent).free, path.stat().st_size
    except OSError as error:
        return unknown("disk", error.strerror or type(error).__name__)
    text = f"{free // MIB:,} MiB are free on its disk; the file takes up {size / MIB:,.1f} MiB"
    level = Level.ERROR if free < NO_ROOM else Level.WARNING if free < LITTLE_ROOM else Level.OK
    return Check("disk", level, text, "" if level is Level.OK else "make room on the file system, or move the file")


def _journal(path: Path, connection: sqlite3.Connection) -> Check:
    """Judges the journal: with a log readers and the writer do not wait for each other."""
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        text = f"the journal is {mode}, not wal: readers block writers"
        return Check(
            "journal", Level.WARNING, text, "restart the programs that use the file: each queue sets it when it opens"
        )
    log = path.with_name(f"{path.name}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size < LONG_LOG:
        return Check("journal", Level.OK, f"the journal is a write-ahead log (wal) of {size / MIB:,.1f} MiB")
    text = f"the write-ahead log has grown to {size // MIB:,} MiB: a long transaction keeps it from being truncated"
    return Check("journal", Level.WARNING, text, "end the process that keeps a transaction on the file open")


def _integrity(path: Path, connection: sqlite3.Connection) -> Check:
    """Judges whether the pages of the file are sound, as far as it comes in a short time."""
    until = time.monotonic() + LOOKS_FOR
    connection.set_progress_handler(lambda: time.monotonic() > until, _EACH)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupt" in str(error):
            return unknown("integrity", f"the file is too large to be read in {LOOKS_FOR:g} s; run PRAGMA quick_check")
        raise diagnosed(error, path) from error
    except sqlite3.DatabaseError as error:
        return Check("integrity", Level.ERROR, f"the file is damaged: {error}", _RECOVER)
    if found == "ok":
        return Check("integrity", Level.OK, "the pages of the file are intact")
    return Check("integrity", Level.ERROR, f"the file is damaged: {found}", _RECOVER)


_RECOVER: Final = "stop all programs that use it, then restore a backup, or run sqlite3 FILE .recover"
