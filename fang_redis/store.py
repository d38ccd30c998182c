"""Defines the store of a pool on Redis: the same in both modes, apart from how an operation is sent."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest, HandOver, LaneClaim, LaneRequest, ReadyClaim, Serves
from fang_core.backends.pools import Declaration, Live, PoolRecord, PruneRequest
from fang_core.backends.store import Heart
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import OnListenLost, OnTold, OnWake
from fang_core.lifecycle import Outcome
from fang_core.monitoring.history import Flush, Flushed
from fang_core.schedules.stored import Verdict
from fang_redis.connections.driver import Driver
from fang_redis.connections.handing import Offer, Offers
from fang_redis.connections.ready import Ready
from fang_redis.layout import Keys
from fang_redis.pools.heart import ANSWER_WITHIN, RedisHeart
from fang_redis.pools.listening import Listener
from fang_redis.verbs import PoolVerbs


class RedisStore:
    """A ``Store``: each method makes a verb, and the driver runs it."""

    def __init__(self, verbs: PoolVerbs, keys: Keys, driver: Driver, listener: Listener, offers: Offers) -> None:
        self._verbs = verbs
        self._keys = keys
        self._driver = driver
        self._run = driver.run
        self._listener = listener
        self._offers = offers

    def heart(self, locks: bool, /) -> Heart:
        """See ``PoolStore.heart``."""
        return RedisHeart(self._keys, partial(self._driver.connect, ANSWER_WITHIN), locks=locks)

    def listen(
        self, task_types: Sequence[str], on_wake: OnWake, on_told: OnTold, on_listen_lost: OnListenLost, /
    ) -> None:
        """See ``WakeStore.listen``."""
        self._listener.subscribe(self, task_types, on_wake, on_told, on_listen_lost)

    async def close(self) -> None:
        """See ``Store.close``."""
        self._offers.remove(self)
        await self._listener.unsubscribe(self)
        await self._driver.close()

    # Claims and outcomes ----------------------------------------------------------------------------------------------

    def ready(self, request: ClaimRequest, /) -> ReadyClaim:
        """See ``ClaimStore.ready``."""
        return self._driver.ready(partial(self._verbs.claim, request), partial(self._offer, request))

    def _offer(self, request: ClaimRequest, ready: Ready[Claim], hand_over: HandOver) -> None:
        self._offers.put(self, Offer(request, ready, hand_over))

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``ClaimStore.claim``."""
        return await self._run(self._verbs.claim(request))

    async def claim_lanes(self, request: LaneRequest, /) -> LaneClaim:
        """See ``FlowStore.claim_lanes``."""
        return await self._run(self._verbs.claim_lanes(request))

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``OutcomeStore.complete``; no row is ever locked."""
        return await self._run(self._verbs.complete(pool_id, outcomes))

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``ClaimStore.reconcile``."""
        return await self._run(self._verbs.reconcile(pool_id, known))

    async def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``ClaimStore.has_taker``."""
        return await self._run(self._verbs.has_taker(pool_id, tasks))

    async def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``ClaimStore.waiting_types``."""
        return await self._run(self._verbs.waiting_types(most))

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``ClaimStore.next_due``."""
        return await self._run(self._verbs.next_due(task_types, kinds))

    # Pools ------------------------------------------------------------------------------------------------------------

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``PoolStore.register``."""
        await self._run(self._verbs.register(pool))

    async def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str] = (), /) -> bool:
        """See ``PoolStore.update_kinds``."""
        return await self._run(self._verbs.update_kinds(pool_id, kinds, isolated_kinds))

    async def declare(self, declarations: Sequence[Declaration], /) -> None:
        """See ``PoolStore.declare``."""
        await self._run(self._verbs.declare(declarations))

    async def tell_live(self, pool_id: UUID, live: Live, /) -> None:
        """See ``PoolStore.tell_live``."""
        await self._run(self._verbs.tell_live(pool_id, live))

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``PoolStore.unregister``."""
        await self._run(self._verbs.unregister(pool_id))

    async def set_waiting(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``WakeStore.set_waiting``."""
        await self._run(self._verbs.set_waiting(pool_id, waiting))

    # Task types with limits -------------------------------------------------------------------------------------------

    async def adopt(self, task_types: Sequence[str], limit: int, /) -> bool:
        """See ``FlowStore.adopt``: here a task without a lane counts as one of lane ``''``."""
        return True

    async def adopt_all(self, task_type: str, /) -> None:
        """See ``FlowStore.adopt_all``."""

    async def tell_types(self, task_types: Sequence[str], /) -> None:
        """See ``FlowStore.tell_types``."""
        await self._run(self._verbs.tell_types(task_types))

    # Schedules --------------------------------------------------------------------------------------------------------

    async def declare_schedules(
        self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False, /
    ) -> None:
        """See ``ScheduleStore.declare_schedules``."""
        await self._run(self._verbs.declare_schedules(declared, dropped, again))

    async def read_schedules(
        self, names: Sequence[str], task_types: Sequence[str] = (), known: str = "", /
    ) -> ScheduleState:
        """See ``ScheduleStore.read_schedules``."""
        return await self._run(self._verbs.read_schedules(names, task_types, known))

    async def tick(self, tick: Tick, /) -> bool | None:
        """See ``ScheduleStore.tick``."""
        return await self._run(self._verbs.tick(tick))

    async def tick_stored(self, tick: Tick, /) -> Verdict:
        """See ``ScheduleStore.tick_stored``."""
        return await self._run(self._verbs.tick_stored(tick))

    # Upkeep and history -----------------------------------------------------------------------------------------------

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``UpkeepStore.prune``."""
        return await self._run(self._verbs.prune(request))

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``UpkeepStore.unknown_kinds``."""
        return await self._run(self._verbs.unknown_kinds(task_types))

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``UpkeepStore.unserved_types``."""
        return await self._run(self._verbs.unserved_types(due_for))

    async def tell_time(self) -> datetime:
        """See ``HistoryStore.tell_time``."""
        return await self._run(self._verbs.clock())

    async def flush_stats(self, writer: UUID, flush: Flush, /) -> Flushed:
        """See ``HistoryStore.flush_stats``."""
        return await self._run(self._verbs.flush_stats(writer, flush))

    async def fold_stats(self, keep: timedelta | None, limit: int, /) -> int:
        """See ``HistoryStore.fold_stats``."""
        return await self._run(self._verbs.fold_stats(keep, limit))
