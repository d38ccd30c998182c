"""Has an asyncio task wait for SIGTERM or SIGINT."""

import asyncio
from typing import Self

from fang_core.pool.signals import StopSignals


class Signals(StopSignals):
    """Ends ``wait()`` at the first signal."""

    def __enter__(self) -> Self:
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        return super().__enter__()

    def wake(self) -> None:
        """See ``StopSignals.wake``."""
        self._loop.call_soon_threadsafe(self._woken.set)

    async def wait(self) -> None:
        """See ``StopSignals.wait``."""
        await self._woken.wait()
