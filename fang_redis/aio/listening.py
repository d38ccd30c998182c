"""Listens in an asyncio task."""

import asyncio
from contextlib import suppress

from fang_redis.pools.listening import ENDED_WITHIN, Ear, Subscribers


class AsyncEar(Ear):
    """Listens in a task of the event loop on which it was started."""

    def start(self, channel: str, subscribers: Subscribers) -> None:
        """See ``Ear.start``."""
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self.listen(channel, subscribers), name="fang-redis-listener")

    def close(self) -> None:
        """See ``Ear.close``."""
        super().close()
        self._closing.set()

    @property
    def has_ended(self) -> bool:
        """See ``Ear.has_ended``."""
        return self._task.done() or self._task.get_loop().is_closed()

    async def ended(self) -> None:
        """See ``Ear.ended``."""
        if self._task is asyncio.current_task():
            return
        try:
            await asyncio.wait([self._task], timeout=ENDED_WITHIN)
        finally:
            self._task.cancel()

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
