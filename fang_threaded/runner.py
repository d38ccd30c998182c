"""Runs operations: on connections of our own, or on an application's engine. (On a caller's: see ``handed``.)

All errors become typed here.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from logging import INFO, WARNING
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg.errors import QueryCanceled
from psycopg.rows import tuple_row
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import sessionmaker

from fang_core.errors import (
    BackendError,
    BackendUnavailable,
    FangError,
    NotConnected,
    NotificationsFull,
    StatementRefused,
    is_refusal,
)
from fang_core.guard import FELT, GUARDED_FOR, PlanGuard
from fang_core.logs import SafeLogger
from fang_postgres.connecting import SET_GUARD, SLOW_STATEMENT
from fang_postgres.diagnosis import before_sending, code_of_connect_failure, diagnose, is_repeatable, is_victim
from fang_postgres.statement import ALL_AT_ONCE, Conversation, Operation, Pipeline, Rows
from fang_postgres.waking import NOBODY_IS_WOKEN, QUIET_FOR, Quiet
from fang_threaded.cutting import cancel, cut_after
from fang_threaded.reserve import Reserve

T = TypeVar("T")

logger = SafeLogger("fang_threaded")

SET_GUARD_RAW: Final = SET_GUARD.encode()
_SET_GUARD_TEXT: Final = text(SET_GUARD)
_CANCELLED_WITHIN: Final = 5.0  # seconds
TRIES: Final = 5  # of a statement that was the victim of a deadlock or a serialization failure

Run = Callable[[Operation[Any]], Any]


class _Lost(NotConnected):
    """The connection was lost before COMMIT was sent."""


class Runner(ABC):
    """Runs operations; on which connections, subclasses say."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._quiet = Quiet()

    def for_pool(self) -> "Runner":
        """Returns one for what a pool writes, on the same connections; see ``Places``."""
        return self

    def run(self, operation: Operation[T], guard: PlanGuard | None = None) -> T:
        """One operation, committed when this returns; under a guard, where that is on.

        Raises ``BackendUnavailable`` where nobody knows whether it took effect, ``NotConnected`` or another
        ``BackendError`` where it did not.
        """
        # Outside of a transaction a single statement commits by itself, in one round trip.
        result: T = self._try(lambda run: run(operation), guard, in_transaction=False)
        return result

    def run_all(
        self, operations: Sequence[Operation[T]], guard: PlanGuard | None = None, *, tries: int = TRIES
    ) -> list[T]:
        """Several operations in one transaction; see ``run``. So many tries where it is the victim of others."""
        in_transaction = len(operations) > 1
        return self._try(
            lambda run: [run(operation) for operation in operations], guard, in_transaction=in_transaction, tries=tries
        )

    def converse(self, conversation: Conversation[T], guard: PlanGuard | None = None) -> T:
        """A conversation, each of whose operations is committed by itself; see ``run``."""
        return converse(partial(self.run, guard=guard), conversation)

    def transact(self, begin: Callable[[], Conversation[T]], guard: PlanGuard | None = None) -> T:
        """A conversation in one transaction, begun anew where that was the victim of a deadlock; see ``run``."""
        return self._try(lambda run: converse(run, begin()), guard, in_transaction=True)

    def _try(self, work: Callable[[Run], T], guard: PlanGuard | None, *, in_transaction: bool, tries: int = TRIES) -> T:
        return self._repeat(lambda: self._on_connection(work, guard, in_transaction), tries)

    def _repeat(self, attempt: Callable[[], T], tries: int = TRIES) -> T:
        try:
            return self._insist(attempt, tries)
        except NotificationsFull as error:
            logger.warning(NOBODY_IS_WOKEN, QUIET_FOR, error)
            self._quiet.begin(time.monotonic())
            return self._insist(attempt, tries)

    def _insist(self, attempt: Callable[[], T], tries: int) -> T:
        for tries_left in reversed(range(tries)):
            try:
                return attempt()
            except (SQLAlchemyError, psycopg.Error) as error:
                if not tries_left or not is_victim(sqlstate_of(error)):
                    raise typed(error, self._schema) from error
        raise AssertionError("the last try returns or raises")

    @abstractmethod
    def _on_connection(self, work: Callable[[Run], T], guard: PlanGuard | None, in_transaction: bool) -> T:
        """Raises the driver's errors; typed ones where nothing was sent, so that a caller can tell."""

    def _lies_elsewhere(self, error: Exception) -> bool:
        """Not in the connection: in what was sent, in others who use the same rows, or in what the rows say."""
        if isinstance(error, SQLAlchemyError | psycopg.Error):
            problem = typed(error, self._schema)
            return is_repeatable(sqlstate_of(error)) or is_refusal(problem) or isinstance(problem, NotificationsFull)
        return isinstance(error, FangError)

    def _raise_if_lost(self, error: BaseException) -> None:
        """Raises ``NotConnected`` if the connection was lost. To be called of what failed in a transaction whose COMMIT
        was not sent: nothing of that can have been written."""
        if isinstance(error, SQLAlchemyError | psycopg.Error):
            problem = typed(error, self._schema)
            if type(problem) is BackendUnavailable:
                raise before_sending(problem) from error

    def _quieted(self, run: Callable[[Operation[Any]], T]) -> Callable[[Operation[Any]], T]:
        if not self._quiet.was_ever:
            return run
        return lambda operation: run(self._quiet.of(operation, time.monotonic()))


class OwnRunner(Runner):
    """On connections of our own."""

    can_pipeline: Final = psycopg.capabilities.has_pipeline()
    """Whether libpq can: since version 14."""

    def __init__(self, reserve: Reserve, schema: str, *, of_pool: bool = False) -> None:
        super().__init__(schema)
        self.reserve = reserve
        self._of_pool = of_pool

    def for_pool(self) -> Self:
        """See ``Runner.for_pool``."""
        return type(self)(self.reserve, self._schema, of_pool=True)

    def pipeline(self, begin: Callable[[], Pipeline[T]]) -> T:
        """A pipeline in one transaction; see ``transact``."""

        def work(connection: psycopg.Connection[Any]) -> T:
            with connection.pipeline():
                return _pipeline(connection, self._quieted(partial(_send_raw, connection)), begin())

        return self._repeat(lambda: self._lend(work, None, in_transaction=True))

    def _on_connection(self, work: Callable[[Run], T], guard: PlanGuard | None, in_transaction: bool) -> T:
        return self._lend(
            lambda connection: work(self._quieted(partial(_execute_raw, connection))),
            guard,
            in_transaction=in_transaction,
        )

    def _lend(
        self, work: Callable[[psycopg.Connection[Any]], T], guard: PlanGuard | None, *, in_transaction: bool
    ) -> T:
        try:
            connection = self.reserve.take(of_pool=self._of_pool)
        except psycopg.Error as error:
            raise before_sending(typed(error, self._schema)) from error
        is_guarded = is_on(guard)
        in_transaction = in_transaction or is_guarded
        is_committing = False
        try:
            with connection.transaction() if in_transaction else nullcontext():
                if is_guarded:
                    connection.execute(SET_GUARD_RAW)
                result = watched(partial(work, connection), guard, is_guarded=is_guarded)
                is_committing = True
        except BaseException as error:
            # A KeyboardInterrupt may have come in the middle of a BEGIN.
            if not isinstance(error, Exception) or not self._lies_elsewhere(error):
                connection.close()
            if in_transaction and not is_committing:
                self._raise_if_lost(error)
            raise
        finally:
            self.reserve.give_back(connection)
        return result


class SessionRunner(Runner):
    """In sessions on an engine of the application's, where every operation is a transaction: its hooks may need one.

    Nothing is left to what the application has set up on its connections; see ``fang_postgres.textform``.

    The engine's pool may hand out a connection whose session was ended while it lay idle. What is lost before its
    COMMIT is sent was not written, so it is sent again, once: SQLAlchemy has emptied the pool by then.

    Args:
        is_own: whether the engine is our own. Its connections decode what they should, so they get the first form.
    """

    def __init__(self, engine: Engine, schema: str, *, is_own: bool = False) -> None:
        super().__init__(schema)
        self._sessions = sessionmaker(engine)
        self._execute = _execute_core if is_own else _execute_text

    def _on_connection(self, work: Callable[[Run], T], guard: PlanGuard | None, in_transaction: bool) -> T:
        try:
            return self._in_session(work, guard)
        except _Lost:
            return self._in_session(work, guard)

    def _in_session(self, work: Callable[[Run], T], guard: PlanGuard | None) -> T:
        with self._sessions.begin() as session:
            try:
                connection = session.connection()
            except PoolTimeout:
                raise BackendError("no connection became free in time: raise the engine's pool_size") from None
            except DBAPIError as error:
                raise before_sending(typed(error, self._schema)) from error
            is_guarded = is_on(guard)
            try:
                if is_guarded:
                    connection.execute(_SET_GUARD_TEXT)
                run = self._quieted(partial(self._execute, connection))
                return watched(partial(work, run), guard, is_guarded=is_guarded)
            except Exception as error:
                # A run may have left any setting behind, such as a transaction that is read only.
                if not self._lies_elsewhere(error):
                    session.invalidate()
                if isinstance(error, DBAPIError) and error.connection_invalidated:
                    raise _Lost(str(typed(error, self._schema))) from error
                self._raise_if_lost(error)
                raise


def _pipeline(
    connection: psycopg.Connection[Any], send: Callable[[Operation[Any]], Callable[[], Rows]], pipeline: Pipeline[T]
) -> T:
    last: Operation[Any] | None = None
    in_flight: Callable[[], Rows] | None = None
    answer = None
    try:
        while True:
            try:
                operation = pipeline.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            rows = () if in_flight is None else in_flight()
            answered, last, in_flight = last, operation, None
            if operation is not None:
                in_flight = send(operation)
            answer = None if answered is None else answered.decode(rows)
    except BaseException:
        if in_flight is not None:  # psycopg would wait for it, and log what it says
            with suppress(psycopg.Error, OSError, RuntimeError), cut_after(connection, 2 * _CANCELLED_WITHIN):
                cancel(connection, _CANCELLED_WITHIN)
                in_flight()
        raise


def is_on(guard: PlanGuard | None) -> bool:
    """Whether there is one, and the next statement is to be guarded."""
    return guard is not None and guard.is_on(time.monotonic())


def watched(work: Callable[[], T], guard: PlanGuard | None, *, is_guarded: bool) -> T:
    """Tells the guard how long it took, without waiting for a connection."""
    if guard is None:
        return work()
    began = time.monotonic()
    try:
        result = work()
    except (SQLAlchemyError, psycopg.Error) as error:
        if not is_guarded and sqlstate_of(error) == QueryCanceled.sqlstate:  # most likely by its timeout
            _tell(guard.timed_out, began)
        raise
    if is_guarded:
        guard.compare(time.monotonic() - began)
    else:
        _tell(guard.observe, began)
    return result


def _tell(judge: Callable[[float, float], bool], began: float) -> None:
    now = time.monotonic()
    if judge(now - began, now):
        logger.log(WARNING if now - began >= FELT else INFO, SLOW_STATEMENT, now - began, GUARDED_FOR)


def run_on(connection: psycopg.Connection[Any], operation: Operation[T]) -> T:
    """One operation on a connection of our own."""
    return _execute_raw(connection, operation)


def converse_on(connection: psycopg.Connection[Any], conversation: Conversation[T]) -> T:
    """A conversation on a connection of our own."""
    return converse(partial(_execute_raw, connection), conversation)


def converse(run: Callable[[Operation[Any]], Any], conversation: Conversation[T]) -> T:
    """Holds a conversation by what runs one operation."""
    answer = None
    while True:
        try:
            operation = conversation.send(answer)
        except StopIteration as end:  # perhaps before anything was asked
            result: T = end.value
            return result
        answer = run(operation)


def _execute_raw(connection: psycopg.Connection[Any], operation: Operation[T]) -> T:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(operation.statement.psycopg_text.encode(), dict(operation.params))
        return operation.decode(cursor.fetchall() if cursor.description else ())


def _send_raw(connection: psycopg.Connection[Any], operation: Operation[Any]) -> Callable[[], Rows]:
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(operation.statement.psycopg_text.encode(), dict(operation.params))
    return cursor.fetchall


def _execute_text(connection: Connection, operation: Operation[T]) -> T:
    # Sent as it was compiled once: SQLAlchemy would look each time whether it knows the statement.
    form = operation.statement.text_form
    result = connection.exec_driver_sql(form.psycopg_text, form.parameters(operation.params), ALL_AT_ONCE)
    return operation.decode(form.read(result.all() if form.returns_rows else ()))


def _execute_core(connection: Connection, operation: Operation[T]) -> T:
    result = connection.execute(operation.statement.core, dict(operation.params), execution_options=ALL_AT_ONCE)
    return operation.decode(result.all() if result.returns_rows else ())


def sqlstate_of(error: SQLAlchemyError | psycopg.Error) -> str | None:
    """The SQLSTATE, where the database gave one."""
    return getattr(error if isinstance(error, psycopg.Error) else getattr(error, "orig", None), "sqlstate", None)


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
    severity = diagnostic and diagnostic.severity_nonlocalized
    return diagnose(sqlstate or code_of_connect_failure(message), message, schema=schema, severity=severity)
