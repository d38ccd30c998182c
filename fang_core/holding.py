"""Holds the tasks that are fetched by hand from a queue whose backend has a store of threads, such as SQLite and Redis.

The queue's own pool, ``fang_core.pool.manual``, has a heart on a thread, in both modes: so that other pools take the
tasks back if the process dies, and not because an event loop stood still.
"""

from uuid import UUID

from fang_core.driving import drive
from fang_core.pool.manual import ManualPool, ManualStore
from fang_core.pool.threads import ThreadLock, ThreadRuntime


class Holder:
    """Is the pool that holds tasks fetched by hand. Its methods block: call them on a thread in asyncio.

    Args:
        store: a store whose methods never suspend. The holder does not close it.
    """

    def __init__(self, store: ManualStore) -> None:
        self._pool = ManualPool(ThreadRuntime, ThreadLock, store=store, last_store=store)

    def begin(self) -> UUID:
        """Returns the pool's id; registers it, and starts its heart, unless that was done. For ``_begin_to_hold``."""
        return drive(self._pool.begin())

    def doubt(self, pool_id: UUID) -> None:
        """Checks whether the pool's record is gone, after a fetch did not find it. For ``_doubt``."""
        drive(self._pool.doubt(pool_id))

    def end(self) -> None:
        """Gives back fetched tasks that have not ended, uncharged, and ends the heart. For ``close`` of the queue."""
        drive(self._pool.end())
