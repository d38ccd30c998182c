"""Runs taskiq on a Redis stream, whose messages are acknowledged (those of its list are lost with a worker)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from taskiq import AsyncTaskiqDecoratedTask
from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker


class Peer:
    def __init__(self, url: str, *, tasks: int) -> None:
        self.version = version("taskiq-redis")
        self._url = url
        self._tasks = tasks

    async def install(self) -> None:
        async with self._broker(lambda _: None):
            pass

    async def insert(self, numbers: Sequence[int]) -> None:
        async with self._broker(lambda _: None) as (_, noop):
            for number in numbers:  # it has no bulk insert
                await noop.kiq(number)

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], Any]]:
        async with self._broker(ran) as (broker, noop):
            broker.is_worker_process = True
            finish = asyncio.Event()
            with ThreadPoolExecutor(1) as executor:
                receiver = Receiver(broker, executor, max_async_tasks=self._tasks)
                running = asyncio.create_task(receiver.listen(finish))
                yield noop.kiq
                finish.set()
                # It goes on until one more message comes; its own command gives up on it after a while.
                await asyncio.wait({running}, timeout=0.2)

    @asynccontextmanager
    async def _broker(
        self, ran: Callable[[int], None]
    ) -> AsyncIterator[tuple[RedisStreamBroker, AsyncTaskiqDecoratedTask[[int], None]]]:
        broker = RedisStreamBroker(self._url, xread_block=100)  # ms that its stop waits at most

        @broker.task("noop")
        async def noop(n: int) -> None:
            ran(n)

        await broker.startup()
        yield broker, noop
        await broker.shutdown()
