"""A psycopg connection that only one heart or one listener uses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from fang_postgres.statement import Operation
from fang_threaded.connection_timeouts import cut, cut_after
from fang_threaded.database import run_on

T = TypeVar("T")


class DedicatedConnection:
    """Implements ``HeartConnection`` and ``ListeningConnection`` with coroutines that block.

    Args:
        driver_connection: a connection in autocommit.
        run: runs one operation on it and raises psycopg's errors; None for the usual way.
    """

    def __init__(
        self,
        driver_connection: psycopg.Connection[Any],
        run: Callable[[Operation[Any]], Awaitable[Any]] | None = None,
    ) -> None:
        self.driver_connection = driver_connection
        self._run = run

    async def run(self, operation: Operation[T], /) -> T:
        if self._run is None:
            return run_on(self.driver_connection, operation)
        result: T = await self._run(operation)
        return result

    async def execute(self, statement: str, /) -> None:
        self.driver_connection.execute(statement.encode())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        with self.driver_connection.transaction():
            yield

    @asynccontextmanager
    async def within(self, seconds: float, /) -> AsyncIterator[None]:
        with cut_after(self.driver_connection, seconds):
            yield

    async def listen(self, channel: str, on_heard: Callable[[str], None], /) -> None:
        self._on_heard = on_heard
        self.driver_connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    async def hear(self, seconds: float, /) -> None:
        for notification in self.driver_connection.notifies(timeout=seconds):
            self._on_heard(notification.payload)

    def interrupt(self) -> None:
        cut(self.driver_connection)

    def close(self) -> None:
        with suppress(psycopg.Error):
            self.driver_connection.close()
