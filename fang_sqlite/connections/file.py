"""Manages the connections to one database file: one that writes, behind the gate, and those that read.

``synchronous=FULL`` has each commit on the disk before it returns, so that it survives a power cut; with ``NORMAL`` the
last commits before a power cut may be lost, though nothing if only the process dies.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

from fang_core.errors import BackendUnavailable, NotConnected, RowsLocked, SchemaError, UsageError
from fang_core.interpreter.forks import in_child
from fang_sqlite.connections.diagnosis import diagnosed, diagnosed_os, locked
from fang_sqlite.connections.forking import ForkGuard
from fang_sqlite.connections.gate import Gate
from fang_sqlite.connections.location import beside
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.listening import marks
from fang_sqlite.pools import pulse
from fang_sqlite.schema import OLDEST_SQLITE, check_version, migrate, version_of

Synchronous = Literal["full", "normal"]

LOCKED_FOR: Final = 30.0
"""Seconds for which a writer waits for others: those of Fang, and an application's own transactions."""

AT_THE_GATE: Final = 5.0
"""The most of these seconds that it waits at the gate. Then it goes on without, and only SQLite's lock keeps it out: a
process that has the gate may have been stopped."""

WITHOUT_GATE: Final = 30.0
"""Seconds for which the gate, once a caller has waited for it in vain, is only passed if it is free."""

ASKS_EVERY_MS: Final = 1
"""How often a writer asks for SQLite's lock. SQLite itself would ask ten times a second after a while, and never meet
the moment between two transactions of an application that writes all the time. Of Fang's processes no more than one
asks, since the others wait at the gate."""

_LOG_LIMIT: Final = 64 << 20
"""Bytes to which the log is cut that a long reader has let grow."""

_AGAIN_AFTER: Final = 0.01
"""Seconds after which it is tried again what SQLite refuses at once."""

OnCommit = Callable[[Transaction], None]


def clock() -> datetime:
    """Returns the host's clock: all who share a file are on one host."""
    return datetime.now(UTC)


class File:
    """One database file; it can be closed and opened again. Any thread may use it, and a child that is forked."""

    def __init__(self, path: Path, synchronous: Synchronous, on_commit: OnCommit = lambda _: None) -> None:
        """``on_commit`` is called after each committed transaction that has pools to notify."""
        if synchronous not in {"full", "normal"}:
            raise UsageError("synchronous is 'full' or 'normal'")
        self.path = path
        self.directory = beside(path)
        self._log_path = f"{path}-wal"
        self._synchronous = synchronous
        self._on_commit = on_commit
        self._lock = threading.RLock()  # it knows whether it was taken: see writing()
        self._is_writing = False
        self._guard = ForkGuard()
        self._gate = Gate(self.directory)
        self._without_gate_until = 0.0
        self._writer: sqlite3.Connection | None = None
        self._is_durable = True  # whether commits of that connection wait for the disk
        self._readers: list[sqlite3.Connection] = []
        self._watcher: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # the device and the inode of the file, once it was opened
        self._log: tuple[int, int] | None = None  # the same of its log, which the connections have open
        self._is_cut_off = False  # whether that log is no longer the file's
        self._is_forked = False  # or else has to connect again
        self._unsafe: list[sqlite3.Connection] = []  # those that a child can neither use nor close
        in_child(self, File._forget)

    @property
    def is_open(self) -> bool:
        """Returns whether it can be used now."""
        return self._writer is not None or self._is_forked

    def open(self) -> None:
        """Connects, and makes the tables if there are none. Idempotent. Raises ``BackendError``."""
        if self._writer is not None:
            return  # without the lock: one who waits for the caller's own transaction may have it
        with self._lock:
            if self._unsafe:
                raise NotConnected(
                    f"this process was forked while its parent was using {self.path.name}: fork before the queue is"
                    " used, or start a new process"
                )
            if self._writer is not None:
                return
            if sqlite3.sqlite_version_info < OLDEST_SQLITE:
                needed = ".".join(map(str, OLDEST_SQLITE))
                raise SchemaError(f"this Python has SQLite {sqlite3.sqlite_version}: {needed} or later is needed")
            with self.diagnosing():
                self._open(may_create=not self._is_forked)
            self._is_forked = False

    def _open(self, *, may_create: bool) -> None:
        if may_create:
            self._identity = None
        with self._guard.use():
            writer = self._connected()
        self._is_durable = True
        try:
            self.directory.mkdir(exist_ok=True)
            self._identity = self._identity or self._found()
            version = version_of(writer)  # which opens the log
            self._log, self._is_cut_off = self._found_log(), False
            if not check_version(version):
                with self._written(writer, LOCKED_FOR):
                    migrate(writer)
            writer.execute(f"PRAGMA busy_timeout = {ASKS_EVERY_MS}")
        except BaseException:
            writer.close()
            self._gate.close()
            raise
        self._writer = writer

    def check_made(self, *, in_transaction: bool) -> None:
        """Raises ``UsageError`` if the caller's own transaction in the file would keep the tables from being made."""
        with self.diagnosing(None):
            is_hopeless = in_transaction and not self._is_made()
        if is_hopeless:
            raise UsageError(
                f"{self.path.name} has no tables of Fang's yet, and your own transaction keeps them from being made:"
                " call the queue's open() before it begins, as when the application starts, or run fang migrate first"
            )

    def _is_made(self) -> bool:
        """Returns whether opening the file would write nothing that all readers and writers have to wait for."""
        if not self.path.exists():
            return True  # the caller's connection is to another file, which is refused afterwards
        with self._guard.use(), closing(sqlite3.connect(f"{self.path.as_uri()}?mode=rw", uri=True)) as reader:
            journal = reader.execute("PRAGMA journal_mode").fetchone()[0]
            return bool(journal == "wal" and check_version(version_of(reader)))

    def close(self) -> None:
        """Closes the connections, when the transaction that is under way has ended. Idempotent."""
        with self._lock, self._guard.use():
            connections = [*self._readers, *filter(None, [self._writer, self._watcher])]
            self._readers, self._writer, self._watcher, self._is_forked = [], None, None, False
            for connection in connections:
                connection.close()
            self._gate.close()

    # Transactions -----------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, within: float = LOCKED_FOR, *, durable: bool = True) -> Iterator[Transaction]:
        """Runs the block as a transaction that writes: committed when it ends, rolled back if it raises.

        What is not ``durable`` may be lost in a power cut, even with ``synchronous=FULL``, unless something durable has
        been committed after it. Its commit does not wait for the disk, which takes longer than all the rest.

        Raises ``RowsLocked`` if other connections have been writing for ``within`` seconds.
        """
        self._open_in_child()
        deadline = time.monotonic() + within
        is_ours = False
        try:  # before the lock, as an exception of a signal's handler may come as soon as it is taken
            if not self._lock.acquire(timeout=within):
                raise locked(self.path, within)
            if self._is_writing:
                raise RowsLocked(
                    f"{self.path.name}: this thread is in a call of the queue's already: do not call it in the handler"
                    " of a signal"
                )
            self._is_writing = is_ours = True
            if self._writer is None:
                raise self._closed()
            with self.diagnosing(within), self._written(self._writer, deadline - time.monotonic(), durable) as tx:
                yield tx
        finally:
            if is_ours:
                self._is_writing = False
            try:  # noqa: SIM105 - a signal may come in suppress()
                self._lock.release()
            except RuntimeError:  # it was not taken
                pass
        self.tell(tx)

    def tell(self, tx: Transaction) -> None:
        """Sends the notifications that were noted in a committed transaction."""
        if tx.tells:
            self._on_commit(tx)

    @contextmanager
    def _written(self, writer: sqlite3.Connection, within: float, durable: bool = True) -> Iterator[Transaction]:
        deadline = time.monotonic() + within
        try:
            self._pass_gate(within)
            with self._guard.use():
                if writer.in_transaction:  # an exception from outside has hit a thread that had just begun
                    writer.execute("ROLLBACK")
                self._make_durable(writer, durable)
                try:
                    _begin(writer, deadline)
                    self._check()
                    tx = Transaction(writer, clock())
                    yield tx
                    writer.execute("COMMIT")
                except BaseException:
                    if writer.in_transaction:
                        with suppress(sqlite3.Error):  # the first error counts
                            writer.execute("ROLLBACK")
                    raise
                if self._has_lost_log():
                    raise BackendUnavailable(f"{self._without_log()}. What was written just now may be lost")
        finally:
            self._gate.leave()

    def _make_durable(self, writer: sqlite3.Connection, durable: bool) -> None:
        """Sets whether commits of the writing connection wait for the disk, unless it is set so."""
        if durable is not self._is_durable:
            writer.execute(f"PRAGMA synchronous = {self._synchronous if durable else 'normal'}")
            self._is_durable = durable

    def _pass_gate(self, within: float) -> None:
        patience = 0.0 if time.monotonic() < self._without_gate_until else min(AT_THE_GATE, within / 2)
        if not self._gate.enter(patience) and patience == AT_THE_GATE:
            self._without_gate_until = time.monotonic() + WITHOUT_GATE

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Runs the block as a transaction that only reads: it sees one state of the file, and waits for no writer."""
        self._open_in_child()
        if self._writer is None:
            raise self._closed()
        with self._guard.use(), self.diagnosing():
            self._check()
            readers = self._readers
            try:
                reader = readers.pop()
            except IndexError:
                reader = self._connected()
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
            if self._writer is None or readers is not self._readers:
                reader.close()
            else:
                readers.append(reader)

    def data_version(self) -> int:
        """Returns a number that changes when anybody commits anything, for one thread that asks again and again."""
        self._open_in_child()
        with self._guard.use(), self.diagnosing():
            self._check()
            if self._watcher is None:
                self._watcher = self._connected()
            number: int = self._watcher.execute("PRAGMA data_version").fetchone()[0]
            return number

    def forget(self, pool_id: UUID) -> None:
        """Removes the files of a pool that has ended, or has died."""
        with self.diagnosing():
            pulse.remove(self.directory, pool_id)
            marks.remove_all(self.directory, pool_id)

    @contextmanager
    def diagnosing(self, waited: float | None = LOCKED_FOR) -> Iterator[None]:
        """Turns errors of SQLite and the system into ours; ``waited``: how long the block waits for other writers."""
        try:
            yield
        except sqlite3.Error as error:
            raise diagnosed(error, self.path, waited=waited) from error
        except OSError as error:
            raise diagnosed_os(error, self.path) from error

    # Connections ------------------------------------------------------------------------------------------------------

    def _connected(self) -> sqlite3.Connection:
        """Returns a new connection with our settings, in autocommit. Once the file was opened, no other one is made."""
        mode = "rwc" if self._identity is None else "rw"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        try:
            connection.execute(f"PRAGMA busy_timeout = {int(1000 * LOCKED_FOR)}")
            if self._identity is None and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                # Pages that are free can be given back; it has an effect before there are tables.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _keep_log(connection)
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}").fetchone()
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self) -> None:
        """Raises ``NotConnected`` if the path leads to no file or another one: what is written here would be lost."""
        try:
            found = self._found()
        except FileNotFoundError:
            raise NotConnected(
                f"{self.path} was removed while it was in use: put it back, or restart this process to begin with an"
                " empty one"
            ) from None
        if self._identity is not None and found != self._identity:
            raise NotConnected(f"{self.path} was replaced by another file while it was in use: restart this process")
        if self._has_lost_log():
            raise NotConnected(f"{self._without_log()}. Nothing was written")

    def _found(self) -> tuple[int, int]:
        found = os.stat(self.path)
        return found.st_dev, found.st_ino

    def _has_lost_log(self) -> bool:
        """Returns whether the log that the connections write to is no longer that of the file.

        SQLite removes it when the last connection is closed, by the locks that it sees; and a process lets go of those
        that it has when anything in it opens and closes the file.
        """
        if self._log is None or self._found_log() == self._log:
            return False
        self._is_cut_off = True
        return True

    def _without_log(self) -> str:
        return (
            f"{self._log_path} was removed while it was in use, and the next call connects again: take SQLite's backup"
            " if this process copies or reads the file itself, which lets go of SQLite's locks"
        )

    def _found_log(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._log_path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _closed(self) -> NotConnected:
        return NotConnected(f"the queue of {self.path.name} is closed: open() it first")

    # Forks ------------------------------------------------------------------------------------------------------------

    def _open_in_child(self) -> None:
        if self._is_cut_off:
            self._leave_log()
        if self._is_forked:
            self.open()

    def _leave_log(self) -> None:
        """Closes the connections to a log that is no longer the file's; the next use connects again."""
        with self._lock:
            if self._is_cut_off and not self._is_writing:
                self.close()
                self._is_forked, self._is_cut_off = True, False

    def _forget(self) -> None:
        """Closes a child's copies of the connections if they were idle; the child connects again when it needs to."""
        connections = [*self._readers, *filter(None, [self._writer, self._watcher])]
        was_open = self._writer is not None or self._is_forked
        self._lock, self._is_writing = threading.RLock(), False
        self._readers, self._writer, self._watcher = [], None, None
        self._is_forked = was_open
        if not self._guard.is_still():
            self._unsafe += connections
        self._guard.start_anew()
        if not self._unsafe:
            for connection in connections:
                connection.close()


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _begin(writer: sqlite3.Connection, deadline: float) -> None:
    """Begins to write as soon as no other connection does. Raises SQLite's error if that is not before the deadline."""
    while True:
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
        else:
            return


def _keep_log(connection: sqlite3.Connection) -> None:
    """Has the file keep a log, and waits for those who write to a file that has none, or begin one just now.

    SQLite does not: it refuses at once while another connection writes.
    """
    deadline = time.monotonic() + LOCKED_FOR
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_AFTER)
