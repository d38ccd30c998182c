"""The lifespan of a pool, and middleware given to pools, in both modes on the memory backend."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from fang_async import AsyncMemoryQueue, AsyncRunnable, AsyncWorkerPool
from fang_threaded import MemoryQueue, Runnable, TaskConfig, UsageError, WorkerPool, current_run

SEEN: list[object] = []


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    SEEN.clear()


class Look(Runnable):
    task_config = TaskConfig(kind="lifespan.Look")

    def run(self, queue: Any) -> None:
        SEEN.append(current_run().state)


class LookAsync(AsyncRunnable):
    task_config = TaskConfig(kind="lifespan.LookAsync")

    async def run(self, queue: Any) -> None:
        SEEN.append(current_run().state)


@contextmanager
def resources() -> Iterator[dict[str, int]]:
    SEEN.append("up")
    yield {"connections": 3}
    SEEN.append("down")


@contextmanager
def of_pool(pool: Any) -> Iterator[object]:
    yield pool


@asynccontextmanager
async def resources_async() -> AsyncIterator[dict[str, int]]:
    await asyncio.sleep(0)
    with resources() as made:
        yield made
    await asyncio.sleep(0)


def in_threads(**options: Any) -> WorkerPool:
    queue = MemoryQueue()
    queue.insert_tasks([Look(), Look()])
    pool = WorkerPool(queue, **options)
    pool.drain()
    return pool


def in_asyncio(**options: Any) -> AsyncWorkerPool:
    async def main() -> AsyncWorkerPool:
        queue = AsyncMemoryQueue()
        await queue.insert_tasks([LookAsync(), LookAsync()])
        pool = AsyncWorkerPool(queue, **options)
        await pool.drain()
        return pool

    return asyncio.run(main())


both = pytest.mark.parametrize("drained", [in_threads, in_asyncio])


@both
def test_runs_get_its_value_between_its_two_ends(drained: Callable[..., Any]) -> None:
    pool = drained(lifespan=resources)
    assert SEEN == ["up", {"connections": 3}, {"connections": 3}, "down"]
    assert pool.is_clean


def test_asyncio_takes_an_async_one() -> None:
    in_asyncio(lifespan=resources_async)
    assert SEEN == ["up", {"connections": 3}, {"connections": 3}, "down"]


@both
def test_it_may_take_the_pool(drained: Callable[..., Any]) -> None:
    pool = drained(lifespan=of_pool)
    assert [pool, pool] == SEEN


@both
def test_without_one_there_is_no_state(drained: Callable[..., Any]) -> None:
    drained()
    assert SEEN == [None, None]


def test_each_start_enters_it_anew() -> None:
    pool = in_threads(lifespan=resources)
    SEEN.clear()
    pool.drain()
    assert SEEN == ["up", "down"]


@both
def test_a_pool_whose_lifespan_fails_does_not_start(drained: Callable[..., Any]) -> None:
    @contextmanager
    def failing() -> Iterator[None]:
        raise ConnectionError("no model server")
        yield

    with pytest.raises(ConnectionError, match="no model server"):
        drained(lifespan=failing)
    assert SEEN == []


@both
@pytest.mark.parametrize("error", [ConnectionError("gone already"), SystemExit(9)])
def test_one_that_fails_at_the_end_is_logged(
    drained: Callable[..., Any], caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    @contextmanager
    def failing() -> Iterator[None]:
        yield
        raise error

    with caplog.at_level(logging.ERROR):
        pool = drained(lifespan=failing)
    assert len(SEEN) == 2
    assert "lifespan failed at the end" in caplog.text
    assert pool.is_clean


def test_threads_take_no_async_one() -> None:
    with pytest.raises(UsageError, match="must return a context manager, not an async one in a pool of threads"):
        in_threads(lifespan=resources_async)


@pytest.mark.parametrize("wrong", [3, "text", lambda a, b: None, resources(), resources_async()])
def test_what_is_no_function_is_refused_when_the_pool_is_made(wrong: Any) -> None:
    for make, queue in ((WorkerPool, MemoryQueue()), (AsyncWorkerPool, AsyncMemoryQueue())):
        with pytest.raises(UsageError, match="lifespan is a function"):
            make(queue, lifespan=wrong)  # type: ignore[operator]


@both
def test_a_pool_puts_its_middleware_around_every_run(drained: Callable[..., Any]) -> None:
    @contextmanager
    def made() -> Iterator[str]:
        yield "made"

    @contextmanager
    def around(run: Any) -> Iterator[None]:
        SEEN.append((run.task.kind, run.state))
        yield
        SEEN.append("left")

    drained(middleware=[around], lifespan=made)
    kind = Look.__fang_options__.kind if drained is in_threads else LookAsync.__fang_options__.kind
    assert 2 * [(kind, "made"), "made", "left"] == SEEN


@both
def test_what_is_no_middleware_is_refused(drained: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="middleware is a list of functions"):
        drained(middleware=resources)
