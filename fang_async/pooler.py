"""Runs operations behind a transaction pooler, such as PgBouncer, which may use another session for each transaction.

So every operation is a transaction that begins with Fang's settings. asyncpg sends a statement in two halves, which
must reach the same server: within a transaction they do. The first half gives the statement no name, which would stay
on the server.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fang_async.connection import CANNOT_CONNECT, DRIVER, Connection
from fang_async.database import Database, guarded, typed, watched
from fang_core.errors import BackendUnavailable
from fang_postgres.connections.connecting import BEGIN_PINNED
from fang_postgres.connections.diagnosis import before_sending
from fang_postgres.planner_guard import PlanGuard
from fang_postgres.pool.store import TRIES

T = TypeVar("T")


class PoolerConnection(Connection):
    """Begins its transactions with Fang's settings, in the same round trip. Make it without a statement cache."""

    BEGIN = BEGIN_PINNED

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Before asyncpg looks up types it turns jit off for the session, and then back to the value that it found. In
        # Fang's transactions that is off, and the session would keep it.
        self._server_caps: Any = self._server_caps._replace(jit=False)

    async def lift_transaction_timeout(self) -> None:
        """Does nothing: each transaction turns the timeout off for itself."""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own
        """Waits for the cancelled statement, and rolls back. The session stays as it is: another client may use it."""
        async with asyncio.timeout(timeout):
            await self.roll_back()


class PoolerDatabase(Database):
    """Runs each operation in a transaction. Until its COMMIT is sent nothing can have been written, so if the
    connection is lost before, also while it waits for a server, it raises ``NotConnected``."""

    async def _on_connection(
        self, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None, *, in_transaction: bool, tries: int = TRIES
    ) -> T:
        async def pinned(connection: Any) -> T:
            is_committing = False
            try:
                async with connection.transaction():
                    result = await _guarded(connection, work, guard)
                    is_committing = True
            except (*DRIVER, *CANNOT_CONNECT) as error:
                problem = typed(error, self._schema)
                if is_committing or type(problem) is not BackendUnavailable:
                    raise
                raise before_sending(problem) from error
            return result

        return await super()._on_connection(pinned, None, in_transaction=False, tries=tries)


async def _guarded(connection: Any, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None) -> T:
    if guard is not None and guard.is_on(time.monotonic()):
        return await guarded(connection, work, guard)
    return await watched(connection, work, guard, in_transaction=False)
