"""Runs operations: on connections of our own, or on one of the caller's. All errors become typed here."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import asyncpg

from fang_core.errors import BackendError, BackendUnavailable, StatementRefused, UsageError
from fang_postgres.diagnosis import diagnose, is_repeatable
from fang_postgres.statement import Operation

T = TypeVar("T")

_TRIES: Final = 5  # of a statement that was the victim of a deadlock or a serialization failure
# InternalClientError: what asyncpg raises where a connection dies between two of its own messages.
_DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_CANNOT_CONNECT: Final = (OSError, TimeoutError, asyncio.TimeoutError)


class Runner:
    """A pool of connections for one purpose."""

    def __init__(self, connections: asyncpg.Pool, schema: str) -> None:
        self._connections = connections
        self._schema = schema

    async def run(self, operation: Operation[T]) -> T:
        """One operation, committed when this returns.

        Raises ``BackendUnavailable`` where nobody knows whether it took effect, ``BackendError`` where it did not.
        """
        return (await self.run_all([operation]))[0]

    async def run_all(self, operations: Sequence[Operation[T]]) -> list[T]:
        """Several operations in one transaction; see ``run``."""
        for tries_left in reversed(range(_TRIES)):
            async with self._typed():
                try:
                    async with self._connections.acquire() as connection:
                        if len(operations) == 1:
                            return [await _fetch(connection, operations[0])]  # it commits by itself
                        async with connection.transaction():
                            return [await _fetch(connection, operation) for operation in operations]
                except asyncpg.PostgresError as error:
                    if not tries_left or not is_repeatable(error.sqlstate):
                        raise
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        """Closes the connections."""
        try:
            await asyncio.wait_for(self._connections.close(), 5)
        except (*_DRIVER, *_CANNOT_CONNECT):
            self._connections.terminate()

    @asynccontextmanager
    async def _typed(self) -> AsyncIterator[None]:
        try:
            yield
        except (*_DRIVER, *_CANNOT_CONNECT) as error:
            raise typed(error, self._schema) from error


async def run_on(connection: Any, operation: Operation[T]) -> T:
    """One operation in the caller's transaction; never commits.

    ``connection`` is an asyncpg connection, or an ``AsyncSession`` or ``AsyncConnection`` of SQLAlchemy on Postgres.
    Errors are left as these raise them: the caller handles them with its transaction.
    """
    if isinstance(connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return await _fetch(connection, operation)
    execute = await _sqlalchemy_execute(connection)
    result = await execute(operation.statement.core, dict(operation.params))
    return operation.decode(result.all() if result.returns_rows else ())


async def _fetch(connection: Any, operation: Operation[T]) -> T:
    statement = operation.statement
    return operation.decode(await connection.fetch(statement.text, *statement.arguments(operation.params)))


async def _sqlalchemy_execute(connection: Any) -> Callable[..., Awaitable[Any]]:
    """The public ``execute`` of a SQLAlchemy object. The raw asyncpg connection beneath must not be used: SQLAlchemy
    sends BEGIN with its own first statement only, so that a raw insert would survive a rollback."""
    # Whoever has such an object has imported the module: it needs greenlet, which we do not.
    sqlalchemy_asyncio = sys.modules.get("sqlalchemy.ext.asyncio")
    if sqlalchemy_asyncio is not None:
        dialect = None
        if isinstance(connection, sqlalchemy_asyncio.AsyncSession):
            dialect = (await connection.connection()).dialect.name
        elif isinstance(connection, sqlalchemy_asyncio.AsyncConnection):
            dialect = connection.dialect.name
        if dialect == "postgresql":
            execute: Callable[..., Awaitable[Any]] = connection.execute
            return execute
        if dialect is not None:
            raise UsageError(f"connection= must be on Postgres, not {dialect}")
    name = type(connection).__name__
    raise UsageError(f"connection= takes an asyncpg connection, an AsyncSession or an AsyncConnection, not {name}")


def typed(error: Exception, schema: str) -> BackendError:
    """The typed error of a driver's error."""
    if isinstance(error, asyncpg.PostgresError):
        return diagnose(error.sqlstate, error.message or str(error), schema=schema)
    if isinstance(error, asyncpg.DataError):
        return StatementRefused("the driver refused a value of the statement")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return BackendUnavailable("the database does not answer in time")
    return BackendUnavailable(f"the database does not answer: {error}")
