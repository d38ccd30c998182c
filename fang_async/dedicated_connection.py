"""An asyncpg connection that only one heart or one listener uses."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import asyncpg

from fang_async.connection import bury
from fang_async.database import run_on
from fang_async.runtime import wait_for
from fang_postgres.statement import Operation

T = TypeVar("T")


class DedicatedConnection:
    """Implements ``HeartConnection`` and ``ListeningConnection`` on the event loop that made the connection."""

    def __init__(self, driver_connection: asyncpg.Connection) -> None:
        self.driver_connection = driver_connection
        self._is_over = asyncio.Event()

    async def run(self, operation: Operation[T], /) -> T:
        return await run_on(self.driver_connection, operation)

    async def execute(self, statement: str, /) -> None:
        await self.driver_connection.execute(statement)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        begun: AbstractAsyncContextManager[Any] = self.driver_connection.transaction()
        return begun

    def within(self, seconds: float, /) -> AbstractAsyncContextManager[Any]:
        return asyncio.timeout(seconds)

    async def listen(self, channel: str, on_heard: Callable[[str], None], /) -> None:
        self.driver_connection.add_termination_listener(lambda _: self._is_over.set())
        await self.driver_connection.add_listener(channel, lambda *heard: on_heard(str(heard[-1])))

    async def hear(self, seconds: float, /) -> None:
        if await wait_for(self._is_over, seconds):
            raise ConnectionError("the connection was closed")

    def interrupt(self) -> None:
        self._is_over.set()

    def close(self) -> None:
        self.driver_connection.terminate()

    def abandon(self) -> None:
        """Ends the session, even if the connection's event loop has ended or stands still."""
        bury(self.driver_connection)
