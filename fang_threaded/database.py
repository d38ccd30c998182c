"""Runs operations on the queue's own connections, and turns all errors into typed ones.

On an application's engine ``engine_database`` runs them, on a caller's connection ``caller_connection``.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg.errors import QueryCanceled
from psycopg.rows import tuple_row

from fang_core.driving import drive
from fang_core.errors import (
    BackendUnavailable,
    FangError,
    NotConnected,
    NotificationsFull,
    is_refusal,
)
from fang_core.logs import SafeLogger
from fang_postgres import statement
from fang_postgres.connections.diagnosis import (
    before_sending,
    is_repeatable,
    is_victim,
)
from fang_postgres.planner_guard import PlanGuard, log_if_slow
from fang_postgres.pool.store import TRIES
from fang_postgres.pool.waking import Quiet
from fang_postgres.statement import Operation, Pipeline, Rows, Script
from fang_threaded.connection_pool import ConnectionPool
from fang_threaded.connection_timeouts import cancel, cut_after
from fang_threaded.driver_errors import is_of_driver, sqlstate_of, typed

T = TypeVar("T")

logger = SafeLogger("fang_threaded")

_CANCELLED_WITHIN: Final = 5.0  # seconds

Run = Callable[[Operation[Any]], Any]


class Lost(NotConnected):
    """Says that the connection was lost before COMMIT was sent."""


class Database(ABC):
    """Runs operations. Subclasses choose the connections."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._quiet = Quiet()

    def for_pool(self) -> "Database":
        """Returns the ``Database`` of a pool's writes, on the same connections; see ``Places``."""
        return self

    def run(self, operation: Operation[T], guard: PlanGuard | None = None) -> T:
        """Runs one operation, committed when this returns; under the guard, if that is on.

        Raises ``BackendUnavailable`` if it is not known whether it took effect, and ``NotConnected`` or another
        ``BackendError`` if it did not.
        """
        # Outside of a transaction a single statement commits by itself, in one round trip.
        result: T = self._try(lambda run: run(operation), guard, in_transaction=False)
        return result

    def run_all(
        self, operations: Sequence[Operation[T]], guard: PlanGuard | None = None, *, tries: int = TRIES
    ) -> list[T]:
        """Runs several operations in one transaction; at most ``tries`` times, if a deadlock ends it; see ``run``."""
        in_transaction = len(operations) > 1
        return self._try(
            lambda run: [run(operation) for operation in operations], guard, in_transaction=in_transaction, tries=tries
        )

    def run_script(self, script: Script[T], guard: PlanGuard | None = None) -> T:
        """Runs a script, and commits each of its operations by itself; see ``run``."""
        return run_script(partial(self.run, guard=guard), script)

    def in_transaction(self, begin: Callable[[], Script[T]], guard: PlanGuard | None = None) -> T:
        """Runs a script in one transaction, and again if that was the victim of a deadlock; see ``run``."""
        return self._try(lambda run: run_script(run, begin()), guard, in_transaction=True)

    def _try(self, work: Callable[[Run], T], guard: PlanGuard | None, *, in_transaction: bool, tries: int = TRIES) -> T:
        return self._repeat(lambda: self._on_connection(work, guard, in_transaction), tries)

    def _repeat(self, attempt: Callable[[], T], tries: int = TRIES) -> T:
        try:
            return self._with_retries(attempt, tries)
        except NotificationsFull as error:
            self._quiet.begin_loudly(logger, error, time.monotonic())
            return self._with_retries(attempt, tries)

    def _with_retries(self, attempt: Callable[[], T], tries: int) -> T:
        for tries_left in reversed(range(tries)):
            try:
                return attempt()
            except Exception as error:
                if not is_of_driver(error):
                    raise
                if not tries_left or not is_victim(sqlstate_of(error)):
                    raise typed(error, self._schema) from error
        raise AssertionError("the last try returns or raises")

    @abstractmethod
    def _on_connection(self, work: Callable[[Run], T], guard: PlanGuard | None, in_transaction: bool) -> T:
        """Does ``work`` on a connection. Raises the driver's errors, but typed ones if nothing was sent."""

    def _lies_elsewhere(self, error: Exception) -> bool:
        """Returns whether not the connection is to blame, but the statement, its values, or other users of the rows."""
        if is_of_driver(error):
            problem = typed(error, self._schema)
            return is_repeatable(sqlstate_of(error)) or is_refusal(problem) or isinstance(problem, NotificationsFull)
        return isinstance(error, FangError)

    def _raise_if_lost(self, error: BaseException) -> None:
        """Raises ``NotConnected`` if the connection was lost. Call it for errors of a transaction whose COMMIT was not
        sent: nothing of it can have been written."""
        if is_of_driver(error):
            problem = typed(error, self._schema)
            if type(problem) is BackendUnavailable:
                raise before_sending(problem) from error

    def _quieted(self, run: Callable[[Operation[Any]], T]) -> Callable[[Operation[Any]], T]:
        if not self._quiet.was_ever:
            return run
        return lambda operation: run(self._quiet.of(operation, time.monotonic()))


class PsycopgDatabase(Database):
    """Runs operations on the queue's own connections."""

    can_pipeline: Final = psycopg.capabilities.has_pipeline()
    """Whether libpq has a pipeline mode: it does since version 14."""

    def __init__(self, connection_pool: ConnectionPool, schema: str, *, of_pool: bool = False) -> None:
        super().__init__(schema)
        self.connection_pool = connection_pool
        self._of_pool = of_pool

    def for_pool(self) -> Self:
        """See ``Database.for_pool``."""
        return type(self)(self.connection_pool, self._schema, of_pool=True)

    def close(self) -> None:
        """Closes the idle connections, and those that are lent when they come back."""
        self.connection_pool.close()

    def pipeline(self, begin: Callable[[], Pipeline[T]]) -> T:
        """Runs a pipeline in one transaction; see ``in_transaction``."""

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
            connection = self.connection_pool.take(of_pool=self._of_pool)
        except psycopg.Error as error:
            raise before_sending(typed(error, self._schema)) from error
        is_guarded = is_on(guard)
        in_transaction = in_transaction or is_guarded
        is_committing = False
        try:
            with connection.transaction() if in_transaction else nullcontext():
                if is_guarded and guard is not None:
                    connection.execute(guard.settings.encode())
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
            self.connection_pool.give_back(connection)
        return result


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
        if in_flight is not None:  # psycopg would wait for it, and log its error
            with suppress(psycopg.Error, OSError, RuntimeError), cut_after(connection, 2 * _CANCELLED_WITHIN):
                cancel(connection, _CANCELLED_WITHIN)
                in_flight()
        raise


def is_on(guard: PlanGuard | None) -> bool:
    """Returns whether there is a guard, and it is on for the next statement."""
    return guard is not None and guard.is_on(time.monotonic())


def watched(work: Callable[[], T], guard: PlanGuard | None, *, is_guarded: bool) -> T:
    """Does ``work``, and tells the guard how long that took, without the wait for a connection."""
    if guard is None:
        return work()
    began = time.monotonic()
    try:
        result = work()
    except Exception as error:
        if (
            not is_guarded and is_of_driver(error) and sqlstate_of(error) == QueryCanceled.sqlstate
        ):  # most likely by its timeout
            log_if_slow(logger, guard.timed_out, began, time.monotonic())
        raise
    if is_guarded:
        guard.compare(time.monotonic() - began)
    else:
        log_if_slow(logger, guard.observe, began, time.monotonic())
    return result


def run_on(connection: psycopg.Connection[Any], operation: Operation[T]) -> T:
    """Runs one operation on one of Fang's own connections."""
    return _execute_raw(connection, operation)


def run_script(run: Callable[[Operation[Any]], Any], script: Script[T]) -> T:
    """Runs a script with a function that runs one operation, and blocks; see ``fang_postgres.statement``."""

    async def blocking(operation: Operation[Any]) -> Any:
        return run(operation)

    return drive(statement.run_script(blocking, script))


def _execute_raw(connection: psycopg.Connection[Any], operation: Operation[T]) -> T:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(operation.statement.psycopg_text.encode(), dict(operation.params))
        # The row number is None if no rows came. So is the description, which else makes an object for each column.
        return operation.decode(() if cursor.rownumber is None else cursor.fetchall())


def _send_raw(connection: psycopg.Connection[Any], operation: Operation[Any]) -> Callable[[], Rows]:
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(operation.statement.psycopg_text.encode(), dict(operation.params))
    return cursor.fetchall
