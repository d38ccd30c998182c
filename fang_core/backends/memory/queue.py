"""Defines the queue in memory for threaded code."""

from typing import Any, TypeVar
from uuid import UUID

from fang_core.backends.memory.base import MemoryQueueBase
from fang_core.backends.memory.store import MemoryStore
from fang_core.backends.queue import BaseQueue
from fang_core.backends.verbs import Call

T = TypeVar("T")


class MemoryQueue(MemoryQueueBase, BaseQueue[Any]):
    """A ``Queueable`` in memory, for threaded code: what it holds is gone when the process ends."""

    def open(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing: the tasks stay."""

    def store(self) -> MemoryStore:
        """Returns a store for one pool."""
        return MemoryStore(self.state)

    def _do(self, call: Call[T], connection: object, /) -> T:
        return self._done(call)

    def _begin_to_hold(self) -> UUID:
        return self._held_by()

    def _doubt(self, pool_id: UUID) -> None:
        """Does nothing: no other pool takes it for dead."""
