"""Defines the store of pools on the memory backend."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest, Serves
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.pools import Declaration, Live, PoolRecord, PruneRequest, Rescued
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import OnListenLost, OnTold, OnWake
from fang_core.lifecycle import Outcome
from fang_core.liveness import Beat, BeatRequest, Pulse
from fang_core.monitoring.history import Flush, Flushed
from fang_core.schedules.stored import Verdict


class MemoryStore:
    """A ``Store`` over a ``MemoryState``."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``PoolStore.register``."""
        self._state.registry.register(pool)

    async def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str] = (), /) -> bool:
        """See ``PoolStore.update_kinds``."""
        return self._state.registry.update_kinds(pool_id, kinds, isolated_kinds)

    async def tell_live(self, pool_id: UUID, live: Live, /) -> None:
        """See ``PoolStore.tell_live``."""
        self._state.registry.tell_live(pool_id, live)

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``PoolStore.unregister``."""
        self._state.registry.unregister(pool_id)

    def ready(self, request: ClaimRequest, /) -> None:
        """See ``ClaimStore.ready``."""

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``ClaimStore.claim``."""
        return self._state.claim(request)

    async def claim_lanes(self, request: LaneRequest, /) -> LaneClaim:
        """See ``FlowStore.claim_lanes``."""
        return self._state.claim_lanes(request)

    async def declare(self, declarations: Sequence[Declaration], /) -> None:
        """See ``PoolStore.declare``."""
        self._state.managing.declare(declarations)

    async def adopt(self, task_types: Sequence[str], limit: int, /) -> bool:
        """See ``FlowStore.adopt``: here a task without a lane counts as one of lane ``''``."""
        return True

    async def adopt_all(self, task_type: str, /) -> None:
        """See ``FlowStore.adopt_all``."""

    async def tell_types(self, task_types: Sequence[str], /) -> None:
        """See ``FlowStore.tell_types``."""
        self._state.listeners.tell_types(task_types)

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``OutcomeStore.complete``."""
        return self._state.complete(pool_id, outcomes)

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``ClaimStore.reconcile``."""
        return self._state.reconcile(pool_id, known)

    def heart(self, locks: bool, /) -> "MemoryHeart":
        """See ``PoolStore.heart``."""
        return MemoryHeart(self._state)

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``UpkeepStore.prune``."""
        return self._state.prune(request)

    def listen(
        self, task_types: Sequence[str], on_wake: OnWake, on_told: OnTold, on_listen_lost: OnListenLost, /
    ) -> None:
        """See ``WakeStore.listen``."""
        self._state.listeners.add(self, task_types, on_wake, on_told)

    async def set_waiting(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``WakeStore.set_waiting``; every insert wakes who listens, announced or not."""
        self._state.registry.set_waiting(pool_id, waiting)

    async def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``ClaimStore.has_taker``; not known of pools that do not listen."""
        return self._state.registry.has_taker(pool_id, tasks)

    async def declare_schedules(
        self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False, /
    ) -> None:
        """See ``ScheduleStore.declare_schedules``."""
        self._state.schedules.declare(declared, dropped, again)

    async def read_schedules(
        self, names: Sequence[str], task_types: Sequence[str] = (), known: str = "", /
    ) -> ScheduleState:
        """See ``ScheduleStore.read_schedules``."""
        return self._state.schedules.read(names, task_types, known)

    async def tick(self, tick: Tick, /) -> bool:
        """See ``ScheduleStore.tick``."""
        return self._state.schedules.tick(tick)

    async def tick_stored(self, tick: Tick, /) -> Verdict:
        """See ``ScheduleStore.tick_stored``."""
        return self._state.schedules.tick_stored(tick)

    async def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``ClaimStore.waiting_types``."""
        return self._state.outlook.waiting_types(most)

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``ClaimStore.next_due``."""
        return self._state.outlook.next_due(task_types, kinds)

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``UpkeepStore.unknown_kinds``."""
        return self._state.outlook.unknown_kinds(task_types)

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``UpkeepStore.unserved_types``."""
        return self._state.outlook.unserved_types(due_for)

    async def tell_time(self) -> datetime:
        """See ``HistoryStore.tell_time``."""
        return self._state.clock()

    async def flush_stats(self, writer: UUID, flush: Flush, /) -> Flushed:
        """See ``HistoryStore.flush_stats``."""
        return self._state.stats.flush(writer, flush)

    async def fold_stats(self, keep: timedelta | None, limit: int, /) -> int:
        """See ``HistoryStore.fold_stats``."""
        return self._state.stats.fold(keep, limit)

    async def close(self) -> None:
        """Ends listening."""
        self._state.listeners.remove(self)


class MemoryHeart:
    """A ``Heart`` over a ``MemoryState``. It shows no other pools and rescues nothing: all pools share one process, and
    their tasks end with it."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    async def beat(self, request: BeatRequest, /) -> Beat:
        """See ``Heart.beat``."""
        return self._state.registry.beat(request)

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """See ``Heart.rescue``."""
        return []

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """See ``Heart.rescue_orphans``."""
        return []

    async def close(self) -> None:
        """See ``Heart.close``."""
