"""Beats for a pool on Postgres: on one connection of its own, and with a lock that lives and dies with it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from fang_core.backends.pools import Rescued
from fang_core.errors import BackendError, NotificationsFull
from fang_core.liveness import Beat, BeatRequest, CancelRequest, Pulse
from fang_postgres import scripts
from fang_postgres.connections.connecting import ASKING_WAITS, RESCUE_WAITS
from fang_postgres.connections.diagnosis import TOOK_TOO_LONG, is_repeatable
from fang_postgres.operations import Operations
from fang_postgres.pool.waking import Quiet
from fang_postgres.statement import Operation, Script, run_script

T = TypeVar("T")

ANSWER_WITHIN: Final = 5.0
"""Seconds for a beat or a rescue; after that the connection is taken for dead and replaced."""


class HeartConnection(Protocol):
    """A connection that a heart has for itself, in autocommit. Its methods raise the driver's errors."""

    async def run(self, operation: Operation[T], /) -> T:
        """Runs one operation."""
        ...

    async def execute(self, statement: str, /) -> None:
        """Executes a statement without parameters."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Begins a transaction that ends with the block."""
        ...

    def within(self, seconds: float, /) -> AbstractAsyncContextManager[Any]:
        """Makes the block fail after this many seconds; the connection is then useless."""
        ...

    def close(self) -> None:
        """Closes it at once."""
        ...


class PostgresHeart:
    """Implements ``Heart``; in asyncio all of its calls must come from one event loop.

    Args:
        connect: makes a connection for this heart alone, in bounded time.
        typed: returns the typed error for a driver's error, and None for any other error.
        locks: whether to hold an advisory lock; False behind a pooler, which keeps no session.
    """

    def __init__(
        self,
        operations: Operations,
        connect: Callable[[], Awaitable[HeartConnection]],
        typed: Callable[[BaseException], BackendError | None],
        *,
        locks: bool,
    ) -> None:
        self._operations = operations
        self._connect = connect
        self._typed = typed
        self._locks = locks
        self._quiet = Quiet()
        self._connection: HeartConnection | None = None

    async def beat(self, request: BeatRequest, /) -> Beat:
        """See ``Heart.beat``."""
        operation = self._operations.beat(request, locks=self._locks)

        async def work(connection: HeartConnection) -> Beat:
            # If other clients share the session, only a transaction can have settings of its own.
            async with nullcontext() if self._locks else connection.transaction():
                beat = await connection.run(operation)
            if not request.held:
                return beat
            lost, cancels = await self._ask(connection, request)
            return beat._replace(lost=lost, cancels=cancels)

        former = self._connection
        beat = await self._on_connection(work)
        # Without a lock it may be a pooler's connection, which outlives the sessions behind it.
        return beat._replace(continues=self._locks and self._connection is former)

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """See ``Heart.rescue``."""
        return await self._in_transaction(scripts.rescue(self._operations, dead))

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """See ``Heart.rescue_orphans``."""
        return await self._in_transaction(scripts.rescue_orphans(self._operations, max_crashes))

    async def close(self) -> None:
        """See ``Heart.close``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _ask(
        self, connection: HeartConnection, request: BeatRequest
    ) -> tuple[Sequence[UUID], Sequence[CancelRequest]]:
        """Returns which of the held tasks are lost, and which are to be cancelled; nothing if that takes too long."""
        try:
            async with connection.transaction():
                await connection.execute(ASKING_WAITS)
                return await connection.run(self._operations.lost_or_cancelled(request))
        except Exception as error:
            if getattr(error, "sqlstate", None) in TOOK_TOO_LONG:
                return (), ()
            raise

    async def _in_transaction(self, script: Script[T]) -> T:
        async def work(connection: HeartConnection) -> T:
            async with connection.transaction():
                await connection.execute(RESCUE_WAITS)
                return await run_script(connection.run, self._quiet.of_all(script, time.monotonic()))

        try:
            return await self._on_connection(work)
        except NotificationsFull:
            self._quiet.begin(time.monotonic())  # for the next one, after the next beat
            raise

    async def _on_connection(self, work: Callable[[HeartConnection], Awaitable[T]]) -> T:
        """Does the work in bounded time. A failure closes the connection, and the next call makes a new one. It stays
        open only if other transactions had the same rows locked, since the pool's lock ends with the connection."""
        try:
            if self._connection is None:
                self._connection = await self._connect()
            async with self._connection.within(ANSWER_WITHIN):
                return await work(self._connection)
        except BaseException as error:
            if not is_repeatable(getattr(error, "sqlstate", None)):
                await self.close()
            problem = self._typed(error)
            if problem is not None:
                raise problem from error
            raise
