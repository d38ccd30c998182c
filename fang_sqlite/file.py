"""The connections to one database file: one that writes, behind the gate, and those that read.

``synchronous=FULL`` has each commit on the disk before it returns, so that it survives a power cut; with ``NORMAL`` the
last commits before a power cut may be lost, though nothing if only the process dies.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from fang_core.errors import BackendError, NotConnected, RowsLocked, SchemaError, UsageError
from fang_sqlite.diagnosis import diagnosed
from fang_sqlite.gate import Gate
from fang_sqlite.location import beside
from fang_sqlite.schema import OLDEST_SQLITE, check_version, migrate, version_of
from fang_sqlite.transaction import Transaction

Synchronous = Literal["full", "normal"]

LOCKED_FOR: Final = 30.0
"""Seconds for which a writer waits for others: for those before it at the gate, and again for an application's own
transaction. Whoever writes for longer than that holds up everybody."""

_SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    f"PRAGMA busy_timeout = {int(LOCKED_FOR * 1000)}",
    f"PRAGMA journal_size_limit = {64 << 20}",  # what a long reader has kept the log from being cut down to
)
OnCommit = Callable[[Transaction], None]


def clock() -> datetime:
    """Returns the host's clock: all who share a file are on one host."""
    return datetime.now(UTC)


class File:
    """One database file; it can be closed and opened again. Any thread may use it."""

    def __init__(self, path: Path, synchronous: Synchronous, on_commit: OnCommit = lambda _: None) -> None:
        """``on_commit`` is called after each transaction that was committed and has somebody to tell."""
        if synchronous not in {"full", "normal"}:
            raise UsageError("synchronous is 'full' or 'normal'")
        self.path = path
        self.directory = beside(path)
        self._synchronous = synchronous
        self._on_commit = on_commit
        self._lock = threading.Lock()
        self._gate: Gate | None = None
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []

    @property
    def is_open(self) -> bool:
        """Whether it can be used now."""
        return self._writer is not None

    def open(self) -> None:
        """Connects, and makes the tables if there are none. Idempotent. Raises ``BackendError``."""
        with self._lock:
            if self._writer is not None:
                return
            if sqlite3.sqlite_version_info < OLDEST_SQLITE:
                needed = ".".join(map(str, OLDEST_SQLITE))
                raise SchemaError(f"this Python has SQLite {sqlite3.sqlite_version}: {needed} or later is needed")
            with self._diagnosing():
                self._open()

    def _open(self) -> None:
        self.directory.mkdir(exist_ok=True)
        gate = Gate(self.directory)
        try:
            writer = self.connect()
            try:
                self._make_tables(writer, gate)
            except BaseException:
                writer.close()
                raise
        except BaseException:
            gate.close()
            raise
        self._gate, self._writer = gate, writer

    def connect(self) -> sqlite3.Connection:
        """Returns a new connection with our settings, in autocommit."""
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=512)
        try:
            # Has an effect in a file without tables only; pages that are free can be given back then.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            for setting in _SETTINGS:
                connection.execute(setting).fetchone()
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, writer: sqlite3.Connection, gate: Gate) -> None:
        if check_version(version_of(writer)):
            return
        with self._written(writer, gate) as tx:
            migrate(tx.connection)

    def close(self) -> None:
        """Closes the connections, when the transaction that is under way has ended. Idempotent."""
        with self._lock:
            connections, gate = [*self._readers, *filter(None, [self._writer])], self._gate
            self._readers, self._writer, self._gate = [], None, None
            for connection in connections:
                connection.close()
            if gate is not None:
                gate.close()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Runs the block as a transaction that writes: committed when it ends, rolled back if it raises."""
        with self._lock:
            if self._writer is None or self._gate is None:
                raise self._closed()
            with self._diagnosing(), self._written(self._writer, self._gate) as tx:
                yield tx
        if tx.tells:
            self._on_commit(tx)

    @contextmanager
    def _written(self, writer: sqlite3.Connection, gate: Gate) -> Iterator[Transaction]:
        if not gate.enter(LOCKED_FOR):
            raise RowsLocked(
                f"{self.path.name}: other processes have been writing for {LOCKED_FOR:.0f} s: try again, and see"
                " whether one of them is stopped"
            )
        try:
            writer.execute("BEGIN IMMEDIATE")
            try:
                tx = Transaction(writer, clock())
                yield tx
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    with suppress(sqlite3.Error):  # the first error counts
                        writer.execute("ROLLBACK")
                raise
        finally:
            gate.leave()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Runs the block as a transaction that only reads: it sees one state of the file, and waits for no writer."""
        if self._writer is None:
            raise self._closed()
        with self._diagnosing():
            try:
                reader = self._readers.pop()
            except IndexError:
                reader = self.connect()
                reader.execute("PRAGMA query_only = ON")
            try:
                reader.execute("BEGIN")
                try:
                    yield Transaction(reader, clock())
                finally:
                    # An open reader would keep the log from being cut.
                    reader.execute("ROLLBACK")
            except BaseException:
                reader.close()
                raise
            self._keep(reader)

    def _keep(self, reader: sqlite3.Connection) -> None:
        if self._writer is None:
            reader.close()
        else:
            self._readers.append(reader)

    @contextmanager
    def _diagnosing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise diagnosed(error, self.path) from error
        except OSError as error:
            raise BackendError(f"{self.path.name}: {error.strerror or type(error).__name__}") from error

    def _closed(self) -> NotConnected:
        return NotConnected(f"the queue of {self.path.name} is closed: open() it first")
