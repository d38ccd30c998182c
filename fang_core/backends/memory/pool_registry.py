"""Keeps the records of pools in the memory backend, their reports, and the messages to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic_core import from_json

from fang_core.backends.claims import Serves
from fang_core.backends.pools import Live, PoolRecord
from fang_core.liveness import Beat, BeatRequest, CancelRequest
from fang_core.messages import Delivery
from fang_core.record import PoolInfo

if TYPE_CHECKING:
    from fang_core.backends.memory.state import MemoryState


@dataclass(slots=True)
class MemoryPool:
    """A registered pool, and the messages that it has not handled."""

    record: PoolRecord
    started_at: datetime
    stopping: bool = False
    runs: Mapping[str, Any] = field(default_factory=dict)
    messages: list[Delivery] = field(default_factory=list)
    live: Live | None = None
    told_at: datetime | None = None


class MemoryPoolRegistry:
    """Keeps the records of pools, under the lock of the state."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def register(self, pool: PoolRecord) -> None:
        """Makes a pool known."""
        with self._state.lock:
            self._state.pools.setdefault(pool.id, MemoryPool(pool, self._state.clock()))

    def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str]) -> bool:
        """Writes these kinds into a pool's record; returns whether there is one."""
        with self._state.lock:
            pool = self._state.pools.get(pool_id)
            if pool is not None:
                pool.record = pool.record._replace(kinds=tuple(kinds), isolated_kinds=tuple(isolated_kinds))
            return pool is not None

    def unregister(self, pool_id: UUID) -> None:
        """Forgets a pool."""
        with self._state.lock:
            self._state.pools.pop(pool_id, None)
            self._state.waiting.discard(pool_id)

    def set_waiting(self, pool_id: UUID, waiting: bool) -> None:
        """Remembers whether a pool waits to be woken."""
        with self._state.lock:
            if waiting:
                self._state.waiting.add(pool_id)
            else:
                self._state.waiting.discard(pool_id)

    def has_taker(self, pool_id: UUID, tasks: Collection[Serves]) -> bool:
        """Returns whether another pool waits for one of these."""
        with self._state.lock:
            others = [
                self._state.pools[other].record
                for other in self._state.waiting & self._state.pools.keys()
                if other != pool_id
            ]
        return any(task_type in pool.task_types and kind in pool.kinds for pool in others for task_type, kind in tasks)

    def list_pools(self) -> list[PoolInfo]:
        """Returns the registered pools, in the order in which they started."""
        with self._state.lock:
            pools = sorted(self._state.pools.values(), key=lambda pool: (pool.started_at, pool.record.id))
            return [_info_of(pool) for pool in pools]

    def tell_live(self, pool_id: UUID, live: Live) -> None:
        """Notes what a pool does now."""
        with self._state.lock:
            pool = self._state.pools.get(pool_id)
            if pool is not None:
                pool.live, pool.told_at = live, self._state.clock()

    def send(self, pool_id: UUID, kind: str, body: Mapping[str, Any], sender: str) -> bool:
        """Leaves a message for a pool, and wakes its heart; returns whether there is such a pool."""
        with self._state.lock:
            pool = self._state.pools.get(pool_id)
            if pool is None:
                return False
            self._state.last_message += 1
            pool.messages.append(Delivery(self._state.last_message, kind, body, sender))
        self._state.listeners.tell(pool_id)
        return True

    def beat(self, request: BeatRequest) -> Beat:
        """Stores what a pool says with a beat, and returns the answer."""
        with self._state.lock:
            pool = self._state.pools.get(request.pool_id)
            if pool is None:
                return Beat(False, inf, [])
            pool.stopping = request.stopping
            if request.runs is not None:
                pool.runs = from_json(request.runs)
            if request.workers is not None:
                pool.record = pool.record._replace(workers=request.workers)
            handled = set(request.handled)
            pool.messages = [each for each in pool.messages if each.id not in handled]
            held = {(task.id, task.attempt): task for task in self._state.held_by(request.pool_id)}
            lost = [task_id for task_id, attempt in request.held if (task_id, attempt) not in held]
            cancels = [
                CancelRequest(task.id, task.cancel_request.get("reason") or "", task.cancel_request.get("by") or "")
                for task in map(held.get, request.held)
                if task is not None and task.cancel_request is not None
            ]
            return Beat(True, inf, [], True, lost, cancels, list(pool.messages))


def _info_of(pool: MemoryPool) -> PoolInfo:
    info = PoolInfo(*pool.record[:7], pool.started_at, pool.stopping, pool.runs)
    if pool.live is None:
        return info
    return info._replace(busy=pool.live.busy, waiting=pool.live.waiting, seen_at=pool.told_at, live=pool.live.runs)
