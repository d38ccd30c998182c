"""A pool's sign of life on Postgres: one connection of its own, and the lock that lives and dies with it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Final, TypeVar
from uuid import UUID

import asyncpg

from fang_async.bounded import DRIVER
from fang_async.runner import converse_on, run_on, typed
from fang_core.errors import NotificationsFull
from fang_core.liveness import Beat, Pulse
from fang_core.store import Rescued
from fang_postgres import conversations
from fang_postgres.connecting import RESCUE_WAITS
from fang_postgres.diagnosis import is_repeatable
from fang_postgres.operations import Operations
from fang_postgres.statement import Conversation
from fang_postgres.waking import Quiet

T = TypeVar("T")

ANSWER_WITHIN: Final = 5.0
"""Seconds for a beat or a rescue; after that the connection is taken for dead and replaced."""


class AsyncPostgresHeart:
    """An ``AsyncHeart``; all of its calls must come from one event loop.

    Args:
        connect: makes a connection of its own, in bounded time.
        locks: whether to hold an advisory lock; not behind a pooler, which keeps no session.
    """

    def __init__(
        self, operations: Operations, connect: Callable[[], Awaitable[asyncpg.Connection]], *, locks: bool
    ) -> None:
        self._operations = operations
        self._connect = connect
        self._locks = locks
        self._quiet = Quiet()
        self._connection: asyncpg.Connection | None = None

    async def beat(self, pool_id: UUID, stopping: bool, /) -> Beat:
        """See ``Heart.beat``."""
        operation = self._operations.beat(pool_id, locks=self._locks, stopping=stopping)

        async def work(connection: asyncpg.Connection) -> Beat:
            # Where others share the session, a transaction is the least that has settings of its own.
            async with nullcontext() if self._locks else connection.transaction():
                return await run_on(connection, operation)

        former = self._connection
        beat = await self._on_connection(work)
        # Without a lock it may be a pooler's connection, which outlives sessions.
        return beat._replace(continues=self._locks and self._connection is former)

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """See ``Heart.rescue``."""
        return await self._transact(conversations.rescue(self._operations, dead))

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """See ``Heart.rescue_orphans``."""
        return await self._transact(conversations.rescue_orphans(self._operations, max_crashes))

    async def close(self) -> None:
        """See ``Heart.close``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _transact(self, conversation: Conversation[T]) -> T:
        async def work(connection: asyncpg.Connection) -> T:
            async with connection.transaction():
                await connection.execute(RESCUE_WAITS)
                return await converse_on(connection, self._quiet.of_all(conversation, time.monotonic()))

        try:
            return await self._on_connection(work)
        except NotificationsFull:
            self._quiet.begin(time.monotonic())  # for the next one, after the next beat
            raise

    async def _on_connection(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Whatever fails: the next one begins on a new connection, but where only others were at the same rows, since
        with the connection goes the lock."""
        try:
            if self._connection is None:
                self._connection = await self._connect()
            async with asyncio.timeout(ANSWER_WITHIN):
                return await work(self._connection)
        except BaseException as error:
            if not (isinstance(error, asyncpg.PostgresError) and is_repeatable(error.sqlstate)):
                await self.close()
            if isinstance(error, (*DRIVER, OSError, TimeoutError)):
                raise typed(error, self._operations.schema) from error
            raise
