"""The threaded mode of Fang: one OS thread per worker, over SQLAlchemy sessions and psycopg 3."""

from typing import TYPE_CHECKING

from fang_core.interpreter.lazy import offering

if TYPE_CHECKING:
    from fang_core.public import *  # noqa: F403 - the list stands there
    from fang_threaded.pool import WorkerPool as WorkerPool
    from fang_threaded.queue import Queue as Queue
else:
    # Pools run on any backend: the driver is needed by those who use this mode's queue on Postgres. Commands that read
    # need no pool.
    __getattr__ = offering(__name__, {"Queue": "fang_threaded.queue", "WorkerPool": "fang_threaded.pool"})
