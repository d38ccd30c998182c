"""Defines the lock of the coroutines of one event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class LoopLock:
    """Implements ``Lock`` for one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def hold(self, work: Callable[[], Awaitable[T]]) -> T:
        """See ``Lock.hold``."""
        async with self._lock:
            return await work()
