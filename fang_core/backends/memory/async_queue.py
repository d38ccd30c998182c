"""Defines the queue in memory for asyncio code."""

from typing import Any, TypeVar
from uuid import UUID

from fang_core.backends.async_queue import AsyncBaseQueue
from fang_core.backends.memory.base import MemoryQueueBase
from fang_core.backends.memory.store import MemoryStore
from fang_core.backends.verbs import Call

T = TypeVar("T")


class AsyncMemoryQueue(MemoryQueueBase, AsyncBaseQueue[Any]):
    """An ``AsyncQueueable`` in memory: what it holds is gone when the process ends."""

    async def open(self) -> None:
        """Does nothing."""

    async def close(self) -> None:
        """Does nothing: the tasks stay."""

    async def store(self) -> MemoryStore:
        """Returns a store for one pool."""
        return MemoryStore(self.state)

    async def _do(self, call: Call[T], connection: object, /) -> T:
        return self._done(call)

    async def _begin_to_hold(self) -> UUID:
        return self._held_by()

    async def _doubt(self, pool_id: UUID) -> None:
        """Does nothing: no other pool takes it for dead."""
