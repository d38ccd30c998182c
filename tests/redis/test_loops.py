"""An ``AsyncRedisQueue`` serves one event loop at a time, and begins anew on the next one."""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fang_async import AsyncQueueable, AsyncRunnable, AsyncWorkerPool
from fang_core.errors import UsageError
from fang_redis import AsyncRedisQueue
from tests.patience import PATIENT
from tests.redisserver import RedisServer, wait_for

RAN: list[int] = []


class OnLoopOfRedis(AsyncRunnable):
    n: int

    async def run(self, queue: AsyncQueueable) -> None:
        RAN.append(self.n)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def queue(server: RedisServer) -> AsyncRedisQueue:
    RAN.clear()
    return AsyncRedisQueue(server.url)


async def patiently(call: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(call, PATIENT)


async def insert(queue: AsyncRedisQueue, n: int) -> int:
    task = await queue.insert_task(OnLoopOfRedis(n=n))
    found = await queue.find_task_by_id(task.id)
    assert found is not None
    return int(found.metadata["n"])


@contextmanager
def running_loop() -> Iterator[Callable[[Any], Any]]:
    """An event loop that runs on another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda call: asyncio.run_coroutine_threadsafe(call, loop).result(PATIENT)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENT)
        loop.close()


def connections(server: RedisServer) -> int:
    with server.client() as client:
        return len(client.client_list()) - 1


def test_each_loop_of_several_connects_again_and_nothing_is_left_of_the_former_ones(
    queue: AsyncRedisQueue, server: RedisServer
) -> None:
    for n in range(3):
        assert asyncio.run(patiently(insert(queue, n))) == n
        wait_for(lambda: connections(server) == 0, "the connection of a loop that has ended is still there")
    asyncio.run(patiently(AsyncWorkerPool(queue).drain()))
    asyncio.run(patiently(queue.close()))
    assert RAN == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_was_closed_or_stands_still_is_left_behind(queue: AsyncRedisQueue, server: RedisServer) -> None:
    still, closed = asyncio.new_event_loop(), asyncio.new_event_loop()
    for n, loop in enumerate((still, closed)):
        assert loop.run_until_complete(patiently(insert(queue, n))) == n
    closed.close()
    assert asyncio.run(patiently(insert(queue, 2))) == 2
    assert still.run_until_complete(patiently(insert(queue, 3))) == 3
    still.run_until_complete(patiently(queue.close()))
    still.close()
    wait_for(lambda: connections(server) == 0, "a connection is left behind")
    del still, closed, loop
    gc.collect()  # here, where it may say what was never closed


def test_a_call_on_another_loop_than_the_one_that_runs_is_refused(queue: AsyncRedisQueue) -> None:
    with running_loop() as elsewhere:
        assert elsewhere(insert(queue, 1)) == 1
        for call in (lambda: insert(queue, 2), queue.open, queue.close, AsyncWorkerPool(queue).start):
            with pytest.raises(UsageError, match=r"in use on another event loop.*one AsyncRedisQueue for each loop"):
                asyncio.run(patiently(call()))
        assert elsewhere(insert(queue, 3)) == 3
        elsewhere(queue.close())
        assert asyncio.run(patiently(insert(queue, 4))) == 4
        assert elsewhere(insert(queue, 5)) == 5
        elsewhere(queue.close())


def test_pools_are_woken_though_a_former_loop_has_ended_without_stopping_its_pool(
    queue: AsyncRedisQueue, server: RedisServer
) -> None:
    def listeners() -> int:
        with server.client() as client:
            return int(client.pubsub_numsub(queue.keys.channel)[0][1])

    async def until_it_listens() -> AsyncWorkerPool:
        pool = AsyncWorkerPool(queue)
        await pool.start()
        await asyncio.to_thread(wait_for, lambda: listeners() == 1, "the pool is not woken")
        return pool

    async def stopped() -> None:
        await (await until_it_listens()).stop()
        await queue.close()

    asyncio.run(patiently(until_it_listens()))
    wait_for(lambda: listeners() == 0, "a loop that has ended still listens")
    asyncio.run(patiently(stopped()))
