"""The conformance suite behind PgBouncer."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import psycopg
import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core.conformance import Backend, ConformanceSuite
from fang_threaded import Queue, WorkerPool
from tests.pgbouncer import PgBouncer


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@pytest.fixture(params=["threaded", "async"])
def backend(request: pytest.FixtureRequest, bouncer: PgBouncer) -> Iterator[Backend]:
    url = bouncer.url
    if request.param == "threaded":
        connect = partial(psycopg.connect, url, prepare_threshold=None)
        queue = partial(Queue, url, behind_pooler=True)
        made = Backend("threaded", queue=queue, pool=WorkerPool, transaction=connect)
    else:
        begin = partial(transaction, url)
        made = Backend(
            "async", queue=partial(AsyncQueue, url, behind_pooler=True), pool=AsyncWorkerPool, transaction=begin
        )
    yield made
    made.close()


class TestBehindAPooler(ConformanceSuite):
    pass
