"""The wait of an asyncio task for SIGTERM or SIGINT."""

import asyncio
from collections.abc import Callable
from typing import Self

from fang_core.signals import StopSignals


class Signals(StopSignals):
    """The first signal ends ``wait()``."""

    def __init__(self, on_first: Callable[[], None] = lambda: None, *, shares: bool = True) -> None:
        super().__init__(on_first, shares=shares)
        self._woken = asyncio.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return super().__enter__()

    def wake(self) -> None:
        """Ends ``wait()``, also without a signal."""
        self._loop.call_soon_threadsafe(self._woken.set)

    async def wait(self) -> None:
        """Waits for the first signal, or until it is woken."""
        await self._woken.wait()
