"""The backends of the conformance suite that stand on Postgres."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import psycopg

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core.conformance import Backend
from fang_threaded import Queue, WorkerPool


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of asyncpg's on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


def threaded_on_postgres(url: str) -> Backend:
    return Backend("threaded", queue=partial(Queue, url), pool=WorkerPool, transaction=lambda: psycopg.connect(url))


def async_on_postgres(url: str) -> Backend:
    return Backend("async", queue=partial(AsyncQueue, url), pool=AsyncWorkerPool, transaction=lambda: transaction(url))
