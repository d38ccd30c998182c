"""A pool's access to Postgres, from asyncio."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from fang_async.connections import Connections
from fang_async.heart import AsyncPostgresHeart
from fang_async.runner import Runner
from fang_core.errors import RowsLocked
from fang_core.guard import AlwaysOn, PlanGuard, Unjudged
from fang_core.lifecycle import Outcome
from fang_core.store import Claim, ClaimRequest, OnSilence, OnWake, PoolRecord, PruneRequest, Serves, Sighting, Tick
from fang_postgres import conversations
from fang_postgres.operations import Operations


class AsyncPostgresStore:
    """An ``AsyncStore``. Claims have a connection of their own, so that they go side by side with completions."""

    def __init__(self, operations: Operations, claims: Runner, writes: Runner, connections: Connections) -> None:
        self._operations = operations
        self._claims = claims
        self._writes = writes
        self._connections = connections
        self._is_open = True
        self._waits = False
        self._guard_of_claims = PlanGuard()
        self._guard_of_look_backs = Unjudged(self._guard_of_claims)
        self._guard_of_outcomes = PlanGuard()
        self._guard_of_pruning = AlwaysOn()
        self._guard_of_types = AlwaysOn()

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        await self._claims.run(self._operations.register(pool))

    async def learn(self, pool_id: UUID, kinds: Sequence[str], /) -> None:
        """See ``Store.learn``."""
        await self._claims.run(self._operations.learn(pool_id, kinds))

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        await self._claims.run(self._operations.unregister(pool_id))

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        guard = self._guard_of_look_backs if request.looks_back else self._guard_of_claims
        return await self._claims.run(self._operations.claim(request), guard)

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``Store.complete``."""
        if waits and not any(outcome.completed_by_run for outcome in outcomes):
            operations = self._operations.complete(pool_id, outcomes)
            try:
                return set().union(*await self._writes.run_all(operations, self._guard_of_outcomes, tries=1))
            except RowsLocked:
                pass  # nothing was written
        begin = partial(conversations.complete_unlocked, self._operations, pool_id, outcomes)
        written, locked = await self._writes.transact(begin, self._guard_of_outcomes)
        if locked:
            raise conversations.some_locked(written, locked)
        return written

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``Store.reconcile``."""
        return await self._claims.run(self._operations.reconcile(pool_id, known))

    def heart(self, locks: bool, /) -> AsyncPostgresHeart:
        """See ``Store.heart``."""
        return AsyncPostgresHeart(self._operations, self._connections.dedicated, locks=locks)

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        operations = self._operations.prune(request)
        return sum([await self._spare.run(operation, self._guard_of_pruning) for operation in operations])

    def listen(self, task_types: Sequence[str], on_wake: OnWake, on_silence: OnSilence, /) -> None:
        """See ``Store.listen``."""
        self._connections.listener.subscribe(self, tuple(task_types), on_wake, on_silence)

    async def announce(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``Store.announce``."""
        await self._claims.run(self._operations.announce(pool_id, waiting))
        self._waits = waiting

    @property
    def _spare(self) -> Runner:
        """For what is done once in a while: by the connection for claims, while these are rare, so that an idle process
        keeps none for writes."""
        return self._claims if self._waits else self._writes

    async def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``Store.has_taker``."""
        return await self._claims.run(self._operations.has_taker(pool_id, tasks))

    async def sight(self, names: Sequence[str], /) -> Sighting:
        """See ``Store.sight``."""
        return await self._writes.run(self._operations.sight(names))

    async def tick(self, tick: Tick, /) -> bool:
        """See ``Store.tick``."""
        raised, _ = await self._writes.run(self._operations.tick(tick, notify=True))
        return raised

    async def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``Store.waiting_types``."""
        return await self._claims.run(self._operations.waiting_types(most), self._guard_of_types)

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``Store.next_due``."""
        return await self._claims.run(self._operations.next_due(task_types, kinds))

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``Store.unknown_kinds``."""
        return await self._spare.run(self._operations.unknown_kinds(task_types))

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``Store.unserved_types``."""
        return await self._spare.run(self._operations.unserved_types(due_for))

    async def close(self) -> None:
        """Ends listening, and gives the connections back."""
        if self._is_open:
            self._is_open = False
            await self._connections.listener.unsubscribe(self)
            await self._connections.give_back()
