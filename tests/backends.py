"""The backends of the conformance suite: each mode in memory, on Postgres, on SQLite and on Redis."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
import psycopg
import pytest
import redis

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core import AsyncMemoryQueue, MemoryQueue
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.stats_rows import Key
from fang_core.conformance import Backend
from fang_core.monitoring.history import Flush
from fang_core.record import TaskState
from fang_postgres.operations import Operations
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_redis.connections.connecting import server_of
from fang_redis.connections.links import Links
from fang_redis.connections.runner import Runner
from fang_redis.connections.sending import Sending, Write
from fang_redis.layout import Keys
from fang_redis.operations import Verb
from fang_redis.reading.history import History
from fang_redis.records import microseconds
from fang_threaded import Queue, WorkerPool
from fang_threaded.database import run_on
from tests.sqlitefiles import async_on_sqlite, threaded_on_sqlite

# In memory ------------------------------------------------------------------------------------------------------------


def _set_crashes_in(state: MemoryState, task_id: UUID, crashes: int) -> None:
    task = state.tasks[task_id]
    state.tasks[task_id] = task._replace(crashes=crashes, state=TaskState.RETRIED if crashes else task.state)


def _write_stats_in(state: MemoryState, writer: UUID, flush: Flush) -> None:
    state.stats.rows.update({Key(60, flush.minute, writer, pair): row for pair, row in flush.rows.items()})


def _backdate_live_in(state: MemoryState, pool_id: UUID, by: timedelta) -> None:
    pool = state.pools[pool_id]
    assert pool.told_at is not None
    pool.told_at -= by


def threaded_in_memory() -> Backend:
    state = MemoryState()
    return Backend(
        "threaded",
        queue=partial(MemoryQueue, state=state),
        pool=WorkerPool,
        set_crashes=partial(_set_crashes_in, state),
        write_stats=partial(_write_stats_in, state),
        backdate_live=partial(_backdate_live_in, state),
    )


def async_in_memory() -> Backend:
    state = MemoryState()
    return Backend(
        "async",
        queue=partial(AsyncMemoryQueue, state=state),
        pool=AsyncWorkerPool,
        set_crashes=partial(_set_crashes_in, state),
        write_stats=partial(_write_stats_in, state),
        backdate_live=partial(_backdate_live_in, state),
    )


# On Postgres ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def transaction(url: str, **options: Any) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of asyncpg's on a connection of its own."""
    connection = await asyncpg.connect(url, **options)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


def set_crashes_on(url: str, task_id: UUID, crashes: int) -> None:
    """Writes that a task has crashed so often."""
    with psycopg.connect(url, prepare_threshold=None) as connection:
        connection.execute(
            "UPDATE fang.fang_tasks SET crashes = %s, state = CASE WHEN %s > 0 THEN 'retried' ELSE state END"
            " WHERE id = %s",
            (crashes, crashes, task_id),
        )


def write_stats_on(url: str, writer: UUID, flush: Flush) -> None:
    """Writes rows of history, however long ago their minute is."""
    operation = Operations("fang").flush_stats(writer, flush)
    with psycopg.connect(url, prepare_threshold=None) as connection:
        run_on(connection, replace(operation, params={**operation.params, "p_latest": timedelta(days=36_500)}))


def backdate_live_on(url: str, pool_id: UUID, by: timedelta) -> None:
    """Has a pool have told what it does so much earlier."""
    with psycopg.connect(url, prepare_threshold=None) as connection:
        found = connection.execute("UPDATE fang.fang_live SET at = at - %s WHERE pool_id = %s", (by, pool_id))
        assert found.rowcount == 1


def threaded_on_postgres(url: str, **options: Any) -> Backend:
    return Backend(
        "threaded",
        queue=partial(Queue, url, **options),
        pool=WorkerPool,
        transaction=partial(psycopg.connect, url, prepare_threshold=None),
        set_crashes=partial(set_crashes_on, url),
        write_stats=partial(write_stats_on, url),
        backdate_live=partial(backdate_live_on, url),
    )


def async_on_postgres(url: str, **options: Any) -> Backend:
    return Backend(
        "async",
        queue=partial(AsyncQueue, url, **options),
        pool=AsyncWorkerPool,
        transaction=partial(transaction, url, statement_cache_size=0),
        set_crashes=partial(set_crashes_on, url),
        write_stats=partial(write_stats_on, url),
        backdate_live=partial(backdate_live_on, url),
    )


# On Redis -------------------------------------------------------------------------------------------------------------


def _set_crashes_of(url: str, task_id: UUID, crashes: int) -> None:
    """Writes that a waiting task has crashed so often."""

    def changed(sending: Sending) -> Verb[None]:
        read = yield from sending.read([task_id])
        task = read.tasks[task_id]
        after = task._replace(crashes=crashes, state=TaskState.RETRIED if crashes else task.state)
        written = yield from sending.write([Write(task, after)])
        assert written.is_done

    _run_on_redis(url, changed)


def _write_stats_of(url: str, writer: UUID, flush: Flush) -> None:
    """Writes rows of history, however long ago their minute is."""

    def written(sending: Sending) -> Verb[None]:
        yield from History(sending).flush(writer, flush, timedelta(days=36_500))

    _run_on_redis(url, written)


def _backdate_live_of(url: str, pool_id: UUID, by: timedelta) -> None:
    """Has a pool have told what it does so much earlier."""
    live, pool = Keys("fang")("live"), str(pool_id)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        at, told = str(client.hget(live, pool)).split(" ", 1)
        client.hset(live, pool, f"{int(at) - microseconds(by)} {told}")


def _run_on_redis(url: str, verb: Callable[[Sending], Verb[None]]) -> None:
    links = Links(server_of(url))
    Runner(links).run(verb(Sending(Keys("fang", links.server.database))))
    links.close()


def threaded_on_redis(url: str, **options: Any) -> Backend:
    return Backend(
        "threaded",
        queue=partial(RedisQueue, url, **options),
        pool=WorkerPool,
        set_crashes=partial(_set_crashes_of, url),
        write_stats=partial(_write_stats_of, url),
        backdate_live=partial(_backdate_live_of, url),
    )


def async_on_redis(url: str, **options: Any) -> Backend:
    return Backend(
        "async",
        queue=partial(AsyncRedisQueue, url, **options),
        pool=AsyncWorkerPool,
        set_crashes=partial(_set_crashes_of, url),
        write_stats=partial(_write_stats_of, url),
        backdate_live=partial(_backdate_live_of, url),
    )


# All of them ----------------------------------------------------------------------------------------------------------

IN_MEMORY: Final[dict[str, Callable[[], Backend]]] = {
    "memory-threaded": threaded_in_memory,
    "memory-async": async_in_memory,
}
ON_POSTGRES: Final[dict[str, Callable[..., Backend]]] = {
    "postgres-threaded": threaded_on_postgres,
    "postgres-async": async_on_postgres,
}
ON_SQLITE: Final[dict[str, Callable[..., Backend]]] = {
    "sqlite-threaded": threaded_on_sqlite,
    "sqlite-async": async_on_sqlite,
}
ON_REDIS: Final[dict[str, Callable[..., Backend]]] = {
    "redis-threaded": threaded_on_redis,
    "redis-async": async_on_redis,
}

_PLACES: Final = {
    **dict.fromkeys(ON_POSTGRES, "emptied_url"),
    **dict.fromkeys(ON_SQLITE, "sqlite_path"),
    **dict.fromkeys(ON_REDIS, "redis_url"),
}
"""The fixture with the place of an empty backend."""


@pytest.fixture(params=[*IN_MEMORY, *ON_SQLITE, *ON_POSTGRES, *ON_REDIS])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every backend, empty."""
    name = request.param
    if name in IN_MEMORY:
        made = IN_MEMORY[name]()
    else:
        made = {**ON_SQLITE, **ON_POSTGRES, **ON_REDIS}[name](request.getfixturevalue(_PLACES[name]))
    yield made
    made.close()
