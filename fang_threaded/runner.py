"""Runs operations: on sessions of our own, or on a connection of the caller's. All errors become typed here."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from sqlalchemy import Connection, Engine, TwoPhaseTransaction, text
from sqlalchemy.exc import DBAPIError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from fang_core.errors import BackendError, FangError, StatementRefused, UsageError, is_refusal
from fang_core.guard import GUARDED_FOR, PlanGuard
from fang_postgres.connecting import SET_GUARD, SLOW_STATEMENT
from fang_postgres.diagnosis import before_sending, code_of_connect_failure, diagnose, is_repeatable
from fang_postgres.statement import Conversation, Operation

T = TypeVar("T")

logger = logging.getLogger("fang_threaded")

_SET_GUARD: Final = text(SET_GUARD)
_TRIES: Final = 5  # of a statement that was the victim of a deadlock or a serialization failure


class Runner:
    """Sessions for one purpose."""

    def __init__(self, engine: Engine, schema: str) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine)
        self._schema = schema

    def run(self, operation: Operation[T], guard: PlanGuard | None = None) -> T:
        """One operation, committed when this returns; under a guard, where that is on.

        Raises ``BackendUnavailable`` where nobody knows whether it took effect, ``NotConnected`` or another
        ``BackendError`` where it did not.
        """
        return self.run_all([operation], guard)[0]

    def run_all(self, operations: Sequence[Operation[T]], guard: PlanGuard | None = None) -> list[T]:
        """Several operations in one transaction; see ``run``."""
        return self._transact(lambda execute: [_execute(execute, operation) for operation in operations], guard)

    def converse(self, conversation: Conversation[T]) -> T:
        """A conversation, each of whose operations is committed by itself; see ``run``."""
        return _converse(self.run, conversation)

    def transact(self, begin: Callable[[], Conversation[T]], guard: PlanGuard | None = None) -> T:
        """A conversation in one transaction, begun anew where that was the victim of a deadlock; see ``run``."""
        return self._transact(lambda execute: _converse(partial(_execute, execute), begin()), guard)

    def _transact(self, work: Callable[[Callable[..., Any]], T], guard: PlanGuard | None) -> T:
        for tries_left in reversed(range(_TRIES)):
            with self._typed():
                try:
                    with self._sessions.begin() as session:
                        is_guarded = guard is not None and guard.is_on(time.monotonic())
                        self._connect(session, is_guarded)
                        return self._work_on(session, partial(_watched, session, work, guard, is_guarded))
                except DBAPIError as error:
                    if not tries_left or not is_repeatable(sqlstate_of(error)):
                        raise
        raise AssertionError("the last try returns or raises")

    def _connect(self, session: Session, is_guarded: bool) -> None:
        """Apart from the work, so that a caller can tell what was never sent."""
        # Claims are in autocommit, where SET LOCAL has no effect.
        options = {"isolation_level": "READ COMMITTED"} if is_guarded else {}
        try:
            session.connection(execution_options=options)
        except DBAPIError as error:
            raise before_sending(typed(error, self._schema)) from error

    def _work_on(self, session: Session, work: Callable[[], T]) -> T:
        """Does not use the connection again where a failure may lie in it.

        On an engine of the application's, a run may have left any setting behind: a transaction that is read only, or
        a date style that the driver cannot read.
        """
        try:
            return work()
        except Exception as error:
            if not self._lies_elsewhere(error):
                session.invalidate()
            raise

    def _lies_elsewhere(self, error: Exception) -> bool:
        """In what was sent, in others who use the same rows, or in what the rows say."""
        if isinstance(error, SQLAlchemyError):
            return is_repeatable(sqlstate_of(error)) or is_refusal(typed(error, self._schema))
        return isinstance(error, FangError)

    @contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout:
            raise BackendError("no connection became free in time: raise max_pool_size") from None
        except SQLAlchemyError as error:
            raise typed(error, self._schema) from error


def _watched(session: Session, work: Callable[[Callable[..., Any]], T], guard: PlanGuard | None, is_guarded: bool) -> T:
    """Under the guard, where it is on; else told to it how long it took, without waiting for a connection."""
    if is_guarded:
        session.execute(_SET_GUARD)
    if guard is None or is_guarded:
        return work(session.execute)
    began = time.monotonic()
    result = work(session.execute)
    now = time.monotonic()
    if guard.observe(now - began, now):
        logger.warning(SLOW_STATEMENT, now - began, GUARDED_FOR)
    return result


def run_on(connection: Any, operation: Operation[T]) -> T:
    """One operation in the caller's transaction; see ``converse_on``."""
    result: T = _runner_on(connection)(operation)
    return result


def converse_on(connection: Any, conversation: Conversation[T]) -> T:
    """A conversation in the caller's transaction; never commits.

    ``connection`` is a SQLAlchemy ``Session`` or ``Connection`` on Postgres, or a psycopg 3 connection. Errors of the
    database are left as these raise them: the caller handles them with its transaction.
    """
    return _converse(_runner_on(connection), conversation)


def refuse_autocommit(connection: Any) -> None:
    """Raises ``UsageError`` where a statement would stand at once."""
    if isinstance(connection, Session):
        connection = connection.connection()
    if isinstance(connection, Connection):
        in_autocommit = getattr(connection.connection.dbapi_connection, "autocommit", False)
    else:
        status = connection.info.transaction_status if isinstance(connection, psycopg.Connection) else None
        in_autocommit = status is TransactionStatus.IDLE and connection.autocommit
    if in_autocommit:
        raise UsageError("complete() needs a transaction, and this connection is in autocommit")


def may_notify(connection: Any) -> bool:
    """Whether the transaction of a caller's connection may NOTIFY: Postgres refuses to prepare one that has."""
    if isinstance(connection, psycopg.Connection):
        return connection._tpc is None  # psycopg has no public word for it
    if isinstance(connection, Session):
        connection = connection.connection()
    return not (isinstance(connection, Connection) and isinstance(connection.get_transaction(), TwoPhaseTransaction))


def _converse(run: Callable[[Operation[Any]], Any], conversation: Conversation[T]) -> T:
    answer = None
    while True:
        try:
            operation = conversation.send(answer)
        except StopIteration as end:  # perhaps before anything was asked
            result: T = end.value
            return result
        answer = run(operation)


def _runner_on(connection: Any) -> Callable[[Operation[Any]], Any]:
    match connection:
        case Session():
            _require_postgres(connection.get_bind().dialect.name)
            return partial(_execute, connection.execute)
        case Connection():
            _require_postgres(connection.dialect.name)
            return partial(_execute, connection.execute)
        case psycopg.Connection():
            return partial(_execute_raw, connection)
    name = type(connection).__name__
    raise UsageError(f"connection= takes a SQLAlchemy Session or Connection, or a psycopg connection, not {name}")


def _execute_raw(connection: psycopg.Connection[Any], operation: Operation[T]) -> T:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(operation.statement.psycopg_text.encode(), dict(operation.params))
        return operation.decode(cursor.fetchall() if cursor.description else ())


def _execute(execute: Callable[..., Any], operation: Operation[T]) -> T:
    result = execute(operation.statement.core, dict(operation.params))
    return operation.decode(result.all() if result.returns_rows else ())


def _require_postgres(dialect: str) -> None:
    if dialect != "postgresql":
        raise UsageError(f"connection= must be on Postgres, not {dialect}")


def sqlstate_of(error: SQLAlchemyError) -> str | None:
    """The SQLSTATE, where the database gave one."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def typed(error: SQLAlchemyError | psycopg.Error, schema: str) -> BackendError:
    """The typed error of an error of SQLAlchemy's, or of psycopg's own."""
    original = error if isinstance(error, psycopg.Error) else getattr(error, "orig", None)
    if not isinstance(original, psycopg.Error) and not isinstance(error, InterfaceError):
        return StatementRefused(f"the statement could not be run: {type(error).__name__}")
    sqlstate = getattr(original, "sqlstate", None)
    diagnostic = getattr(original, "diag", None)
    message = (diagnostic and diagnostic.message_primary) or str(original)
    if sqlstate is None and not isinstance(original, psycopg.OperationalError):
        return StatementRefused(f"the driver refused the statement: {type(original).__name__}")
    return diagnose(sqlstate or code_of_connect_failure(message), message, schema=schema)
