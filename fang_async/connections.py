"""Manages a queue's own connections for asyncio, which live on its event loop."""

import asyncio
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, TypeVar

from fang_async.connection import Connection
from fang_async.connection_pool import ConnectionPool
from fang_async.connector import Connector, Password
from fang_async.database import Database, driver_error
from fang_async.dedicated_connection import DedicatedConnection
from fang_async.locks import LoopLock
from fang_async.loop_binding import LoopBinding
from fang_async.pooler import PoolerDatabase
from fang_async.runtime import AsyncioRuntime
from fang_core.errors import BackendError
from fang_core.logs import SafeLogger
from fang_postgres.connections.base import BaseConnections
from fang_postgres.connections.connecting import ASK_AFTER, UNUSED_FOR
from fang_postgres.operations import Operations
from fang_postgres.pool.store import Database as StoreDatabase

if TYPE_CHECKING:
    from sqlalchemy import URL

T = TypeVar("T")


class Connections(BaseConnections[Database]):
    """Opens connections on one event loop, and on another one once that has ended."""

    _logger: ClassVar = SafeLogger("fang_async")
    _make_runtime: ClassVar = AsyncioRuntime
    _make_lock: ClassVar = LoopLock
    _make_guard: ClassVar = nullcontext

    def __init__(
        self,
        url: "str | URL",
        max_pool_size: int,
        operations: Operations,
        loop_binding: LoopBinding,
        *,
        behind_pooler: bool = False,
        password: Password | None = None,
        wait_for_database: timedelta = timedelta(0),
    ) -> None:
        self.dedicated = Connector(url, password, operations.schema, keeps_session=not behind_pooler)
        """Makes a connection outside of the pools, on whatever loop runs: for a listener or a heart."""
        self._loop_binding = loop_binding
        super().__init__(max_pool_size, operations, behind_pooler=behind_pooler, wait_for_database=wait_for_database)

    @property
    def is_open(self) -> bool:
        """Returns whether the connections were opened on a loop that has not ended, and not closed since."""
        return super().is_open and not self._loop_binding.has_ended

    @property
    def connects_within(self) -> float:
        """Returns how many seconds a connect may take."""
        return self.dedicated.connects_within

    @property
    def are_lent(self) -> bool:
        """Returns whether pools use the connections."""
        return self._pools > 0

    async def end(self) -> None:
        """Closes the connections even if pools use them, since their event loop ends."""
        self._pools = 0
        await self.close()

    def abandon(self) -> None:
        """Drops the connections, as their event loop has ended or stands still. Does not wait."""
        for database in self._databases or ():
            database.connection_pool.abandon()
        listening = self.listener.connection
        if isinstance(listening, DedicatedConnection):
            listening.abandon()
        self._begin()

    # What ``BaseConnections`` asks of a mode --------------------------------------------------------------------------

    def _enter(self) -> None:
        self._loop_binding.enter()

    def _left(self) -> None:
        self._loop_binding.leave()

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _make_databases(self) -> tuple[Database, Database]:
        make = Database if self.keeps_session else PoolerDatabase
        # Behind a pooler the BEGIN of each operation is a ping already, and a paused pooler would not answer this one.
        lives = Connection.lives if self.keeps_session else None
        # Two pools, so that a claim never waits until a run of the application gives a connection back.
        claims = ConnectionPool(self.dedicated, 1, UNUSED_FOR)
        writes = ConnectionPool(self.dedicated, self._max_pool_size, UNUSED_FOR, lives=lives, ask_after=ASK_AFTER)
        return make(claims, self._operations.schema), make(writes, self._operations.schema)

    def _as_coroutines(self, database: Database) -> StoreDatabase:
        return database

    async def _close_database(self, database: Database) -> None:
        await database.close()

    async def _dedicate(self, *, keeps_session: bool = True) -> DedicatedConnection:
        return DedicatedConnection(await self.dedicated())

    def _typed(self, error: BaseException) -> BackendError | None:
        return driver_error(error, self._operations.schema)
