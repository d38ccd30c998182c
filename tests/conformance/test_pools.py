"""The conformance suite over the four backends."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core import AsyncMemoryQueue, MemoryQueue
from fang_core.conformance import Backend, ConformanceSuite, QueueSuite
from fang_threaded import Queue, WorkerPool


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[asyncpg.Connection]:
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


@pytest.fixture(params=["memory-threaded", "memory-async", "postgres-threaded", "postgres-async"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    match request.param:
        case "memory-threaded":
            made = Backend("threaded", queue=MemoryQueue, pool=WorkerPool)
        case "memory-async":
            made = Backend("async", queue=AsyncMemoryQueue, pool=AsyncWorkerPool)
        case "postgres-threaded":
            made = threaded_on_postgres(request.getfixturevalue("url"))
        case _:
            made = async_on_postgres(request.getfixturevalue("url"))
    yield made
    made.close()


class TestEveryBackend(ConformanceSuite):
    pass


def test_no_group_hides_a_test_of_another() -> None:
    names = Counter(name for group in ConformanceSuite.__bases__ for name in vars(group) if name.startswith("test"))
    assert [name for name, times in names.items() if times > 1] == []


class Forgetful(MemoryQueue):
    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> None:
        return None


def test_a_backend_that_does_not_conform_fails_with_both_sides_shown() -> None:
    backend = Backend("threaded", queue=Forgetful, pool=WorkerPool)
    with pytest.raises(AssertionError, match=r"assert None == Task\("):
        QueueSuite().test_an_inserted_task_is_found_as_it_was_returned(backend)
    backend.close()
