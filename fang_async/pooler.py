"""Behind a transaction pooler, such as PgBouncer: nothing is left to a session, which is another's by the next
transaction.

So every operation is a transaction, which begins with our settings. asyncpg sends a statement in two halves, which must
meet on one server: within a transaction they do, and with the first half goes no name that would stay on the server.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fang_async.bounded import CANNOT_CONNECT, DRIVER, BoundedConnection
from fang_async.runner import TRIES, Runner, guarded, typed, watched
from fang_core.errors import BackendUnavailable
from fang_core.guard import PlanGuard
from fang_postgres.connecting import BEGIN_PINNED
from fang_postgres.diagnosis import before_sending

T = TypeVar("T")


class PoolerConnection(BoundedConnection):
    """One whose transactions begin with our settings, in the same round trip. To be made without a statement cache."""

    BEGIN = BEGIN_PINNED

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Before it looks up types asyncpg sets jit off for the session, and then back to what it was: in a transaction
        # of ours that is off as well, and the session would keep it.
        self._server_caps: Any = self._server_caps._replace(jit=False)

    async def lift_transaction_timeout(self) -> None:
        """Leaves the session's as it is: it is set for each transaction."""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own
        """Waits for what was cancelled, and rolls back. The session is another's by then: it is not reset."""
        async with asyncio.timeout(timeout):
            await self.roll_back()


class PoolerRunner(Runner):
    """Runs each operation in a transaction. Until its COMMIT is sent nothing can have been written, so what is lost
    before, such as the wait for a server, is ``NotConnected``."""

    async def _on_connection(
        self, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None, *, in_transaction: bool, tries: int = TRIES
    ) -> T:
        async def transact(connection: Any) -> T:
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

        return await super()._on_connection(transact, None, in_transaction=False, tries=tries)


async def _guarded(connection: Any, work: Callable[[Any], Awaitable[T]], guard: PlanGuard | None) -> T:
    if guard is not None and guard.is_on(time.monotonic()):
        return await guarded(connection, work, guard)
    return await watched(connection, work, guard, in_transaction=False)
