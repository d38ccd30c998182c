"""Makes calls part of a caller's transaction in asyncio, on the thread that the caller's connection has."""

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from fang_core.errors import UsageError
from fang_core.interpreter.imported import is_of
from fang_sqlite.connections.callers import Verb, check_dialect, connection_of, refusal, run_on
from fang_sqlite.connections.file import File

if TYPE_CHECKING:
    import aiosqlite
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

    CallersConnection: TypeAlias = (
        aiosqlite.Connection | AsyncConnection | AsyncSession | async_scoped_session[AsyncSession]
    )
    """What ``connection=`` takes in asyncio."""
else:
    CallersConnection = Any

T = TypeVar("T")

_TAKEN: Final = "an aiosqlite.Connection, an AsyncSession or an AsyncConnection"


async def run_for_caller(file: File, connection: Any, verb: Verb[T], *, reads: bool, completes: bool) -> T:
    """See ``fang_sqlite.connections.callers.run_for_caller``."""
    lent = await _driver_connection(connection)

    def run(own: sqlite3.Connection) -> T:
        return run_on(file, own, verb, reads=reads, completes=completes)

    try:
        # aiosqlite has no public way to run a whole function: statement by statement would take a hop for each.
        result: T = await lent._execute(run, lent._conn)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise UsageError("connection= has been closed") from None
    return result


async def is_in_transaction(connection: Any) -> bool:
    """See ``fang_sqlite.connections.callers.is_in_transaction``; False if the connection has been closed."""
    lent = await _driver_connection(connection)
    with suppress(ValueError):
        result: bool = lent.in_transaction
        return result
    return False


async def _driver_connection(connection: Any) -> Any:
    alchemy = "sqlalchemy.ext.asyncio"
    if is_of(connection, alchemy, "async_scoped_session"):
        connection = connection()
    if is_of(connection, alchemy, "AsyncSession"):
        connection = await connection_of(connection)
    if is_of(connection, alchemy, "AsyncConnection"):
        check_dialect(connection.dialect.name)
        if not connection.in_transaction():
            await connection.begin()  # as its own first statement would, so that its commit() commits
        connection = (await connection.get_raw_connection()).driver_connection
    if not is_of(connection, "aiosqlite", "Connection"):
        raise refusal(connection, _TAKEN)
    return connection
