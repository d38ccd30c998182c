"""Defines the queue in a SQLite file, for asyncio code."""

from functools import partial
from typing import TypeVar
from uuid import UUID

from fang_core.backends.async_queue import AsyncBaseQueue
from fang_core.backends.verbs import Call
from fang_sqlite.aio.access import HoppingAccess
from fang_sqlite.aio.callers import CallersConnection, is_in_transaction, run_for_caller
from fang_sqlite.base import SqliteQueueBase
from fang_sqlite.store import SqliteStore
from fang_sqlite.verbs import completes, done

T = TypeVar("T")


class AsyncSqliteQueue(SqliteQueueBase, AsyncBaseQueue[CallersConnection]):
    """An ``AsyncQueueable`` in a SQLite file; see ``SqliteQueue``, whose options it takes.

    What blocks goes on in threads of the queue's, so that event loops never wait; any of them may use it.
    """

    _access: HoppingAccess

    async def open(self) -> None:
        """See ``SqliteQueue.open``."""
        await self._access.run(self._open_file)

    async def close(self) -> None:
        """See ``SqliteQueue.close``."""
        await self._access.finish(self._close_file)

    async def store(self) -> SqliteStore:
        """See ``SqliteQueue.store``."""
        return await self._access.run(self._lend)

    @staticmethod
    def _make_access() -> HoppingAccess:
        return HoppingAccess()

    async def _do(self, call: Call[T], connection: CallersConnection | None, /) -> T:
        if connection is not None:
            if not self.is_open:  # else the thread may be waiting for the caller's own transaction
                is_within = await is_in_transaction(connection)
                await self._access.run(partial(self._file.check_made, in_transaction=is_within))
                await self.open()
            verb = partial(done, call=call)
            return await run_for_caller(self._file, connection, verb, reads=call.reads, completes=completes(call))
        if call.reads:
            return await self._access.look(self._done, call)
        return await self._access.run(self._done, call)

    async def _begin_to_hold(self) -> UUID:
        return await self._access.run(self._held_by)

    async def _doubt(self, pool_id: UUID) -> None:
        """Does nothing: a fetch writes the record if it is gone."""
