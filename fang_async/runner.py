"""Runs operations on connections of our own. (On a caller's: see ``handed``.) All errors become typed here."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from logging import INFO, WARNING
from typing import Any, Final, Self, TypeVar

import asyncpg

from fang_async.bounded import CANNOT_CONNECT, DRIVER, NotSent, Unanswered
from fang_async.reserve import TIDY_WITHIN, Reserve
from fang_core.errors import (
    BackendError,
    BackendUnavailable,
    FangError,
    NotConnected,
    NotificationsFull,
    StatementRefused,
)
from fang_core.guard import FELT, GUARDED_FOR, PlanGuard
from fang_core.logs import SafeLogger
from fang_postgres.connecting import SET_GUARD, SLOW_STATEMENT
from fang_postgres.diagnosis import READ_ONLY, before_sending, diagnose, is_victim
from fang_postgres.statement import Conversation, Operation, Pipeline, Rows
from fang_postgres.waking import NOBODY_IS_WOKEN, QUIET_FOR, Quiet

T = TypeVar("T")

logger = SafeLogger("fang_async")

TRIES: Final = 5  # of a statement that was the victim of a deadlock or a serialization failure

CANCELLED_WITHIN: Final = 1.0
"""Seconds for which a call that was cancelled waits until its connection is in no transaction any more."""


class Runner:
    """Runs operations on connections of our own."""

    def __init__(self, reserve: Reserve, schema: str, *, of_pool: bool = False) -> None:
        self.reserve = reserve
        self._schema = schema
        self._of_pool = of_pool
        self._quiet = Quiet()

    def for_pool(self) -> Self:
        """Returns one for what a pool writes, on the same connections; see ``Places``."""
        return type(self)(self.reserve, self._schema, of_pool=True)

    async def run(self, operation: Operation[T], guard: PlanGuard | None = None) -> T:
        """One operation, committed when this returns; under a guard, where that is on.

        Raises ``BackendUnavailable`` where nobody knows whether it took effect, ``NotConnected`` or another
        ``BackendError`` where it did not.
        """
        # Outside of a transaction a single statement commits by itself, in one round trip.
        return await self._on_connection(
            lambda connection: self._fetch(connection, operation), guard, in_transaction=False
        )

    async def run_all(
        self, operations: Sequence[Operation[T]], guard: PlanGuard | None = None, *, tries: int = TRIES
    ) -> list[T]:
        """Several operations in one transaction; see ``run``. So many tries where it is the victim of others."""

        async def work(connection: Any) -> list[T]:
            return [await self._fetch(connection, operation) for operation in operations]

        return await self._on_connection(work, guard, in_transaction=len(operations) > 1, tries=tries)

    async def converse(self, conversation: Conversation[T], guard: PlanGuard | None = None) -> T:
        """A conversation, each of whose operations is committed by itself; see ``run``."""
        return await converse(partial(self.run, guard=guard), conversation)

    async def transact(self, begin: Callable[[], Conversation[T]], guard: PlanGuard | None = None) -> T:
        """A conversation in one transaction, begun anew where that was the victim of a deadlock; see ``run``."""

        async def work(connection: Any) -> T:
            return await converse(partial(self._fetch, connection), begin())

        return await self._on_connection(work, guard, in_transaction=True)

    async def pipeline(self, begin: Callable[[], Pipeline[T]]) -> T:
        """A pipeline in one transaction; see ``transact``."""
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
            if refused is not None:  # and then the transaction could not be rolled back, the connection being lost
                raise refused from None
            raise

    async def _on_connection(
        self, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None, *, in_transaction: bool, tries: int = TRIES
    ) -> T:
        try:
            return await self._insist(work, guard, in_transaction, tries)
        except NotificationsFull as error:
            logger.warning(NOBODY_IS_WOKEN, QUIET_FOR, error)
            self._quiet.begin(time.monotonic())
            return await self._insist(work, guard, in_transaction, tries)

    async def _insist(
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
                connection = await self.reserve.take(of_pool=self._of_pool)
            except (*DRIVER, *CANNOT_CONNECT) as error:
                raise before_sending(typed(error, self._schema)) from error
            try:
                is_committing = False
                noted = noting_its_end if in_transaction else work
                result = await watched(connection, noted, guard, in_transaction=in_transaction)
            except GeneratorExit:  # nothing can be awaited any more
                self.reserve.drop(connection)
                raise
            except BaseException as error:
                if getattr(error, "sqlstate", None) == READ_ONLY:
                    self.reserve.drop(connection)
                else:
                    await self.reserve.tidy(connection, within=_tidied_within(error))
                if not isinstance(error, (*DRIVER, *CANNOT_CONNECT)):
                    raise
                if isinstance(error, NotSent) and not was_ended:
                    was_ended = True  # and what was idle beside it is closed by now: the next connection is a new one
                    continue
                tries -= 1
                if not tries or not is_victim(getattr(error, "sqlstate", None)):
                    raise self._typed(error, nothing_stands=in_transaction and not is_committing) from error
            else:
                self.reserve.give_back(connection)
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
        await self.reserve.close()


def _tidied_within(error: BaseException) -> float:
    return CANCELLED_WITHIN if isinstance(error, asyncio.CancelledError) else TIDY_WITHIN


async def watched(
    connection: Any, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None, *, in_transaction: bool
) -> T:
    """Under the guard, where it is on; else told to it how long it took, without waiting for a connection."""
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
            _tell(guard.timed_out, began)
        raise
    if guard is not None:
        _tell(guard.observe, began)
    return result


async def guarded(connection: Any, work: Callable[[Any], Awaitable[T]], guard: PlanGuard) -> T:
    """With the guard's settings, in a transaction that has begun; told to it how long that took."""
    await connection.execute(SET_GUARD)
    began = time.monotonic()
    result = await work(connection)
    guard.compare(time.monotonic() - began)
    return result


def _tell(judge: Callable[[float, float], bool], began: float) -> None:
    now = time.monotonic()
    if judge(now - began, now):
        logger.log(WARNING if now - began >= FELT else INFO, SLOW_STATEMENT, now - began, GUARDED_FOR)


async def run_on(connection: Any, operation: Operation[T]) -> T:
    """One operation on a connection of our own."""
    return await _fetch(connection, operation)


async def converse_on(connection: Any, conversation: Conversation[T]) -> T:
    """A conversation on a connection of our own."""
    return await converse(partial(_fetch, connection), conversation)


async def converse(run: Callable[[Operation[Any]], Awaitable[Any]], conversation: Conversation[T]) -> T:
    """Holds a conversation by what runs one operation."""
    answer = None
    while True:
        try:
            operation = conversation.send(answer)
        except StopIteration as end:  # perhaps before anything was asked
            result: T = end.value
            return result
        answer = await run(operation)


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
                await asyncio.sleep(0)  # now it is under way
            answer = None if answered is None else answered.decode(rows)
    except GeneratorExit:  # nothing can be awaited any more
        raise
    except BaseException:
        if in_flight is not None:  # the connection is not free before it has ended
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
    """The typed error of a driver's error."""
    if isinstance(error, NotSent):
        return NotConnected(str(error))
    if type(error) is asyncpg.DataError:  # the driver's own, which quotes the value; the server's are derived from it
        return StatementRefused("the driver refused a value of the statement")
    if isinstance(error, asyncpg.PostgresError):
        severity = getattr(error, "severity_en", None)
        return diagnose(error.sqlstate, error.message or str(error), schema=schema, severity=severity)
    if isinstance(error, TimeoutError | asyncio.TimeoutError) and not isinstance(error, Unanswered):
        return BackendUnavailable("the database does not answer in time")
    return BackendUnavailable(f"the database does not answer: {error}")
