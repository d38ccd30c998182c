"""The async mode of Fang: many light tasks in one event loop, over asyncpg."""

from typing import TYPE_CHECKING

from fang_core.interpreter.lazy import offering

if TYPE_CHECKING:
    from fang_async.pool import AsyncWorkerPool as AsyncWorkerPool
    from fang_async.queue import AsyncQueue as AsyncQueue
    from fang_core.public import *  # noqa: F403 - the list stands there
else:
    # Pools run on any backend: the driver is needed by those who use this mode's queue on Postgres. Commands that read
    # need no pool.
    __getattr__ = offering(__name__, {"AsyncQueue": "fang_async.queue", "AsyncWorkerPool": "fang_async.pool"})
