"""Runs a waiting pool that knows none of the kinds that other processes insert: inserts wake it for nothing."""

import asyncio

from fang_async import AsyncQueue, AsyncQueueable, AsyncRunnable, AsyncWorkerPool


class NeverInserted(AsyncRunnable):
    async def run(self, queue: AsyncQueueable) -> None: ...


class Peer:
    def __init__(self, url: str) -> None:
        self._url = url

    async def stand_by(self) -> None:
        """Waits until its process is killed."""
        async with AsyncQueue(self._url) as queue, AsyncWorkerPool(queue):
            await asyncio.Event().wait()
