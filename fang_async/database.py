"""Runs operations on the queue's own connections, with typed errors; see ``caller_connection`` for a caller's."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar

import asyncpg

from fang_async.connection import CANNOT_CONNECT, DRIVER, NotSent, Unanswered
from fang_async.connection_pool import TIDY_WITHIN, ConnectionPool
from fang_core.errors import (
    BackendError,
    BackendUnavailable,
    FangError,
    NotConnected,
    NotificationsFull,
    StatementRefused,
)
from fang_core.logs import SafeLogger
from fang_postgres.connections.diagnosis import READ_ONLY, before_sending, diagnose, is_victim
from fang_postgres.planner_guard import PlanGuard, log_if_slow
from fang_postgres.pool.store import TRIES
from fang_postgres.pool.store import Database as StoreDatabase
from fang_postgres.pool.waking import Quiet
from fang_postgres.statement import Operation, Pipeline, Rows, Script, run_script

T = TypeVar("T")

logger = SafeLogger("fang_async")


CANCELLED_WITHIN: Final = 1.0
"""Seconds that a cancelled call waits for the end of its connection's transaction."""


class Database(StoreDatabase):
    """Implements the ``Database`` of ``PostgresStore`` on the queue's own connections."""

    def __init__(self, connection_pool: ConnectionPool, schema: str, *, of_pool: bool = False) -> None:
        self.connection_pool = connection_pool
        self._schema = schema
        self._of_pool = of_pool
        self._quiet = Quiet()

    def for_pool(self) -> Self:
        return type(self)(self.connection_pool, self._schema, of_pool=True)

    async def run(self, operation: Operation[T], guard: PlanGuard | None = None) -> T:
        # Outside of a transaction a single statement commits by itself, in one round trip.
        return await self._on_connection(
            lambda connection: self._fetch(connection, operation), guard, in_transaction=False
        )

    async def run_all(
        self, operations: Sequence[Operation[T]], guard: PlanGuard | None = None, *, tries: int = TRIES
    ) -> list[T]:
        async def work(connection: Any) -> list[T]:
            return [await self._fetch(connection, operation) for operation in operations]

        return await self._on_connection(work, guard, in_transaction=len(operations) > 1, tries=tries)

    async def run_script(self, script: Script[T], guard: PlanGuard | None = None) -> T:
        return await run_script(partial(self.run, guard=guard), script)

    async def in_transaction(self, begin: Callable[[], Script[T]], guard: PlanGuard | None = None) -> T:
        async def work(connection: Any) -> T:
            return await run_script(partial(self._fetch, connection), begin())

        return await self._on_connection(work, guard, in_transaction=True)

    async def pipeline(self, begin: Callable[[], Pipeline[T]]) -> T:
        """Runs a pipeline in one transaction; see ``in_transaction``."""
        refused: FangError | None = None

        async def work(connection: Any) -> T:
            nonlocal refused
            try:
                return await _pipeline(partial(self._send, connection), begin())
            except FangError as error:
                refused = error
                raise

        try:
            return await self._on_connection(work, None, in_transaction=True)
        except BackendError:
            if refused is not None:  # but the connection was lost, so that its rollback has failed
                raise refused from None
            raise

    async def _on_connection(
        self, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None, *, in_transaction: bool, tries: int = TRIES
    ) -> T:
        try:
            return await self._with_retries(work, guard, in_transaction, tries)
        except NotificationsFull as error:
            self._quiet.begin_loudly(logger, error, time.monotonic())
            return await self._with_retries(work, guard, in_transaction, tries)

    async def _with_retries(
        self, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None, in_transaction: bool, tries: int
    ) -> T:
        is_committing = False

        async def noting_its_end(connection: Any) -> T:
            nonlocal is_committing
            result = await work(connection)
            is_committing = True
            return result

        was_ended = False
        while True:
            try:
                connection = await self.connection_pool.take(of_pool=self._of_pool)
            except (*DRIVER, *CANNOT_CONNECT) as error:
                raise before_sending(typed(error, self._schema)) from error
            try:
                is_committing = False
                noted = noting_its_end if in_transaction else work
                result = await watched(connection, noted, guard, in_transaction=in_transaction)
            except GeneratorExit:  # nothing can be awaited now
                self.connection_pool.drop(connection)
                raise
            except BaseException as error:
                if getattr(error, "sqlstate", None) == READ_ONLY:
                    self.connection_pool.drop(connection)
                else:
                    await self.connection_pool.tidy(connection, within=_tidied_within(error))
                if not isinstance(error, (*DRIVER, *CANNOT_CONNECT)):
                    raise
                if isinstance(error, NotSent) and not was_ended:
                    was_ended = True  # the idle connections are closed by now, so the next one is new
                    continue
                tries -= 1
                if not tries or not is_victim(getattr(error, "sqlstate", None)):
                    raise self._typed(error, nothing_stands=in_transaction and not is_committing) from error
            else:
                self.connection_pool.give_back(connection)
                return result

    def _typed(self, error: Exception, *, nothing_stands: bool) -> BackendError:
        """Returns the typed error: ``NotConnected`` if the connection was lost before COMMIT was sent."""
        problem = typed(error, self._schema)
        return before_sending(problem) if nothing_stands and type(problem) is BackendUnavailable else problem

    def _fetch(self, connection: Any, operation: Operation[T]) -> Awaitable[T]:
        return _fetch(connection, self._quieted(operation))

    def _send(self, connection: Any, operation: Operation[Any]) -> Awaitable[Rows]:
        return _send(connection, self._quieted(operation))

    def _quieted(self, operation: Operation[T]) -> Operation[T]:
        return self._quiet.of(operation, time.monotonic()) if self._quiet.was_ever else operation

    async def close(self) -> None:
        """Closes the connections."""
        await self.connection_pool.close()


def _tidied_within(error: BaseException) -> float:
    return CANCELLED_WITHIN if isinstance(error, asyncio.CancelledError) else TIDY_WITHIN


async def watched(
    connection: Any, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None, *, in_transaction: bool
) -> T:
    """Does ``work`` under the guard if that is on; if not, tells the guard how long the work took."""
    began = time.monotonic()
    if guard is not None and guard.is_on(began):
        async with connection.transaction():
            return await guarded(connection, work, guard)
    try:
        if in_transaction:
            async with connection.transaction():
                result = await work(connection)
        else:
            result = await work(connection)
    except asyncpg.QueryCanceledError:  # most likely by its timeout
        if guard is not None:
            log_if_slow(logger, guard.timed_out, began, time.monotonic())
        raise
    if guard is not None:
        log_if_slow(logger, guard.observe, began, time.monotonic())
    return result


async def guarded(connection: Any, work: Callable[[Any], Awaitable[T]], guard: PlanGuard) -> T:
    """Does ``work`` with the guard's settings, in a transaction that has begun; tells the guard how long that took."""
    await connection.execute(guard.settings)
    began = time.monotonic()
    result = await work(connection)
    guard.compare(time.monotonic() - began)
    return result


async def run_on(connection: Any, operation: Operation[T]) -> T:
    """Runs one operation on one of Fang's own connections."""
    return await _fetch(connection, operation)


async def _pipeline(send: Callable[[Operation[Any]], Awaitable[Rows]], pipeline: Pipeline[T]) -> T:
    last: Operation[Any] | None = None
    in_flight: asyncio.Task[Rows] | None = None
    answer = None
    try:
        while True:
            try:
                operation = pipeline.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            rows = () if in_flight is None else await in_flight
            answered, last, in_flight = last, operation, None
            if operation is not None:
                in_flight = asyncio.ensure_future(send(operation))
                await asyncio.sleep(0)  # so that it is under way
            answer = None if answered is None else answered.decode(rows)
    except GeneratorExit:  # nothing can be awaited now
        raise
    except BaseException:
        if in_flight is not None:  # the connection is free only when it has ended
            in_flight.cancel()
            await asyncio.gather(in_flight, return_exceptions=True)
        raise


async def _fetch(connection: Any, operation: Operation[T]) -> T:
    return operation.decode(await _send(connection, operation))


def _send(connection: Any, operation: Operation[Any]) -> Awaitable[Rows]:
    statement = operation.statement
    rows: Awaitable[Rows] = connection.fetch(statement.text, *statement.arguments(operation.params))
    return rows


def typed(error: Exception, schema: str) -> BackendError:
    """Returns the typed error for an error of asyncpg or of the system."""
    if isinstance(error, NotSent):
        return NotConnected(str(error))
    if type(error) is asyncpg.DataError:  # asyncpg's, which quotes the value; the server's are subclasses
        return StatementRefused("the driver refused a value of the statement")
    if isinstance(error, asyncpg.PostgresError):
        severity = getattr(error, "severity_en", None)
        return diagnose(error.sqlstate, error.message or str(error), schema=schema, severity=severity)
    if isinstance(error, TimeoutError | asyncio.TimeoutError) and not isinstance(error, Unanswered):
        return BackendUnavailable("the database does not answer in time")
    return BackendUnavailable(f"the database does not answer: {error}")


def driver_error(error: BaseException, schema: str) -> BackendError | None:
    """Returns the typed error for an error of asyncpg or of the system, and None for any other error."""
    return typed(error, schema) if isinstance(error, (*DRIVER, *CANNOT_CONNECT)) else None
