"""What a pool does once in a while, beside its work: pruning rows whose life ended long ago."""

import asyncio
import logging
from typing import Final

from fang_async.completer import wait_for
from fang_core.config import PoolOptions
from fang_core.errors import FangError
from fang_core.store import AsyncStore, PruneRequest

logger = logging.getLogger("fang_async")

EVERY: Final = 60.0
"""Seconds between two rounds."""

BATCH: Final = 1_000


class Maintenance:
    """One asyncio task, asleep nearly always."""

    def __init__(self, store: AsyncStore, options: PoolOptions) -> None:
        self._store = store
        self._request = PruneRequest(options.keep_finished, options.keep_failed, BATCH)
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Starts the task."""
        self._task = asyncio.create_task(self._loop(), name="fang-maintenance")

    async def close(self, within: float) -> None:
        """Ends it, in so many seconds."""
        self._closing.set()
        await asyncio.wait([self._task], timeout=within)
        self._task.cancel()

    async def _loop(self) -> None:
        while not await wait_for(self._closing, EVERY):
            try:
                await self.prune()
            except FangError as error:
                logger.warning("pruning failed and will be tried again: %s", error)
            except Exception:
                logger.exception("pruning failed and will be tried again")

    async def prune(self) -> int:
        """Deletes batch after batch until none is full; how many rows."""
        total = 0
        while not self._closing.is_set():
            count = await self._store.prune(self._request)
            total += count
            if count < BATCH:
                break
        return total
