"""Makes calls part of a caller's transaction, on the caller's own connection to the same file: ``connection=``.

A call is all or nothing: it has a savepoint of its own. Nothing here commits, unless the connection is in autocommit.
No pool can be notified at once of what a caller commits later: waiting pools check often for new commits.
"""

import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from fang_core.backends.django import is_django
from fang_core.errors import TaskLost, UsageError
from fang_core.interpreter.imported import is_of
from fang_core.words.naming import class_and_library
from fang_sqlite.connections.file import File, clock
from fang_sqlite.connections.transaction import Transaction, Values

if TYPE_CHECKING:
    import sqlalchemy
    from sqlalchemy import orm

    from fang_core.backends.django import DjangoConnection

    CallersConnection: TypeAlias = (
        sqlite3.Connection
        | sqlalchemy.Connection
        | sqlalchemy.PoolProxiedConnection
        | orm.Session
        | orm.scoped_session[orm.Session]
        | DjangoConnection
    )
    """What ``connection=`` takes in threads."""
else:
    CallersConnection = Any

T = TypeVar("T")

Verb: TypeAlias = Callable[[Transaction], T]

_TAKEN: Final = "a sqlite3.Connection, a SQLAlchemy Session or Connection, or django.db.connection"
_SAVEPOINT: Final = "fang_call"
_DECLARED: Final = frozenset({"BLOB", "INTEGER", "TEXT"})
"""The types of the columns of Fang's tables, by which sqlite3 finds converters."""


def run_for_caller(file: File, connection: Any, verb: Verb[T], *, reads: bool, completes: bool) -> T:
    """Runs a verb in the transaction that a caller's connection is in; begins one if it is in none.

    Args:
        reads: whether the verb writes nothing.
        completes: whether it completes a run, for which the connection must not be in autocommit.

    Raises ``UsageError`` for a connection that cannot be used, otherwise what the verb raises, and ``BackendError``.
    """
    return run_on(file, _driver_connection(connection), verb, reads=reads, completes=completes)


def is_in_transaction(connection: Any) -> bool:
    """Returns whether a caller's connection has begun a transaction in the file. Raises ``UsageError``."""
    return _driver_connection(connection).in_transaction


def run_on(file: File, connection: sqlite3.Connection, verb: Verb[T], *, reads: bool, completes: bool) -> T:
    """Does so on a connection of sqlite3's, on the thread that may use it."""
    with file.diagnosing(None), _as_it_comes(connection):
        _check_file(connection, file.path)
        _check_converters(connection)
        tx = Transaction(Borrowed(connection), clock())
        if reads:
            return verb(tx)
        if connection.in_transaction:
            return _in_savepoint(tx, verb)
        if not _is_in_autocommit(connection):
            # At once, and not as the module would, which begins a transaction that may be refused when it writes.
            tx.run("BEGIN IMMEDIATE")
            return _in_savepoint(tx, verb)
        if completes:
            raise UsageError("complete() needs a transaction, and this connection is in autocommit")
        result = _committed(tx, verb)
    file.tell(tx)
    return result


class Borrowed:
    """Runs statements on a caller's connection, whose row factory and cursors are the caller's own affair."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Values = (), /) -> sqlite3.Cursor:
        """Runs a statement."""
        return self._cursor().execute(sql, values)

    def executemany(self, sql: str, values: Iterable[Values], /) -> sqlite3.Cursor:
        """Runs a statement for each of many values."""
        return self._cursor().executemany(sql, values)

    def set_progress_handler(self, handler: Callable[[], int] | None, steps: int, /) -> None:
        """Calls the handler after every ``steps`` steps of a statement."""
        self._connection.set_progress_handler(handler, steps)

    def _cursor(self) -> sqlite3.Cursor:
        cursor = sqlite3.Cursor(self._connection)
        cursor.row_factory = None
        return cursor


def refusal(connection: object, takes: str) -> UsageError:
    """Returns the error for an object that is no connection of the mode."""
    return UsageError(f"connection= takes {takes}, not {class_and_library(connection)}")


def check_dialect(dialect: str) -> None:
    """Raises ``UsageError`` unless it is SQLAlchemy's name of SQLite."""
    if dialect != "sqlite":
        raise UsageError(f"connection= must be on SQLite, not {dialect}")


def connection_of(session: Any) -> Any:
    """Returns the connection of a SQLAlchemy session, for threads or asyncio, in its transaction."""
    try:
        return session.connection()
    except sys.modules["sqlalchemy.exc"].UnboundExecutionError:
        raise UsageError(
            "connection= is a session without an engine, or with engines for single mappers only: "
            "pass session.connection(bind_arguments={'mapper': ...})"
        ) from None


def _driver_connection(connection: Any) -> sqlite3.Connection:
    if is_of(connection, "sqlalchemy.orm", "scoped_session"):
        connection = connection()
    if is_of(connection, "sqlalchemy.orm", "Session"):
        connection = connection_of(connection)
    if is_of(connection, "sqlalchemy", "Connection"):
        check_dialect(connection.dialect.name)
        if not connection.in_transaction():
            connection.begin()  # as its own first statement would, so that its commit() commits
        connection = connection.connection
    if is_of(connection, "sqlalchemy", "PoolProxiedConnection"):
        connection = connection.driver_connection
        if connection is None:
            raise UsageError("connection= has been closed, or was given back to its pool")
    if is_django(connection):
        check_dialect(connection.vendor)
        connection.ensure_connection()
        connection.validate_no_broken_transaction()  # as its own statements would
        connection = connection.connection
    if not isinstance(connection, sqlite3.Connection):
        raise refusal(connection, _TAKEN)
    return connection


def _check_file(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ``UsageError`` if the connection is to another file: nothing could be written in one transaction."""
    databases = Borrowed(connection).execute("PRAGMA database_list").fetchall()
    main = next((file for _, name, file in databases if name == "main"), "")
    with suppress(FileNotFoundError):  # the queue's file: the verb says so
        if main and os.path.samefile(main, path):
            return
    raise UsageError(
        f"connection= is to {main or 'a database in memory'}, and the queue is in {path}: use the same file"
    )


def _check_converters(connection: sqlite3.Connection) -> None:
    """Raises ``UsageError`` if the connection converts values of columns that are declared as Fang's are."""
    if not _DECLARED & getattr(sqlite3, "converters", {}).keys():
        return
    values = (b"a", 1, "a")
    # The columns of the first SELECT count. A table for this would be a change of the schema: to take it back would end
    # the caller's own reads.
    probe = "SELECT id, pid, mode FROM fang_pools WHERE 0 UNION ALL VALUES (x'61', 1, 'a')"
    try:
        (found,) = Borrowed(connection).execute(probe).fetchall()
    except sqlite3.Error:
        raise
    except Exception:  # noqa: BLE001 - a converter may raise anything
        found = None
    if found != values or [*map(type, found)] != [*map(type, values)]:
        raise UsageError(
            "connection= has converters for columns of BLOB, INTEGER or TEXT (sqlite3.register_converter): "
            "open it without detect_types=PARSE_DECLTYPES, or register them for types of your own"
        )


def _is_in_autocommit(connection: sqlite3.Connection) -> bool:
    """Returns whether each statement is committed at once, outside of a transaction."""
    autocommit = getattr(connection, "autocommit", None)  # since Python 3.12, where it may also be -1
    return autocommit is True or (autocommit is not False and connection.isolation_level is None)


@contextmanager
def _as_it_comes(connection: sqlite3.Connection) -> Iterator[None]:
    """Has texts come as texts, whatever the caller makes of them."""
    factory = connection.text_factory
    if factory is str:
        yield
        return
    connection.text_factory = str
    try:
        yield
    finally:
        connection.text_factory = factory


def _in_savepoint(tx: Transaction, verb: Verb[T]) -> T:
    tx.run(f"SAVEPOINT {_SAVEPOINT}")
    try:
        result = verb(tx)
    except TaskLost:
        # What the run has written must not be committed: another one may be doing the same.
        tx.run("ROLLBACK")
        raise
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has ended the transaction
            tx.run(f"ROLLBACK TO {_SAVEPOINT}")
            tx.run(f"RELEASE {_SAVEPOINT}")
        raise
    tx.run(f"RELEASE {_SAVEPOINT}")
    return result


def _committed(tx: Transaction, verb: Verb[T]) -> T:
    tx.run("BEGIN IMMEDIATE")
    try:
        result = verb(tx)
        tx.run("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the first error counts
            tx.run("ROLLBACK")
        raise
    return result
