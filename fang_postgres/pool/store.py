"""Gives pools access to Postgres, written once for both modes."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest, Serves
from fang_core.backends.pools import Declaration, Live, PoolRecord, PruneRequest
from fang_core.backends.store import Heart
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import OnListenLost, OnTold, OnWake
from fang_core.errors import BackendError, RowsLocked
from fang_core.lifecycle import Outcome
from fang_core.monitoring.history import Flush, Flushed
from fang_core.schedules.stored import Verdict
from fang_postgres import scripts
from fang_postgres.managing import adopt, declare
from fang_postgres.monitoring.folding import fold_next, merge_next
from fang_postgres.operations import Operations
from fang_postgres.operations.managing import Place
from fang_postgres.planner_guard import AlwaysOn, Monitoring, PlanGuard, Unjudged
from fang_postgres.statement import Operation, Script

T = TypeVar("T")

TRIES: Final = 5
"""How often a statement is tried that is the victim of a deadlock or a serialization failure."""


LOOK_AT_ALL: Final = 60
"""One in this many looks for minutes to merge begins at the first minute that is kept: if the database's clock was set
back, rows have come behind the last minute that was merged."""


class Database(Protocol):
    """Runs operations on connections; what a call does is committed when it returns."""

    async def run(self, operation: Operation[T], guard: PlanGuard | None = None) -> T:
        """Runs one operation, under the guard if that is on; it is committed when this returns.

        Raises ``BackendUnavailable`` if it is not known whether it took effect, ``NotConnected`` or another
        ``BackendError`` if it did not.
        """
        ...

    async def run_all(
        self, operations: Sequence[Operation[T]], guard: PlanGuard | None = None, *, tries: int = TRIES
    ) -> list[T]:
        """Runs several operations in one transaction; tries again if that is the victim of another one."""
        ...

    async def run_script(self, script: Script[T], guard: PlanGuard | None = None) -> T:
        """Runs a script, each of whose operations is committed by itself."""
        ...

    async def in_transaction(self, begin: Callable[[], Script[T]], guard: PlanGuard | None = None) -> T:
        """Runs a script in one transaction, and again from its beginning if that is the victim of a deadlock."""
        ...


class IndirectDatabase:
    """A ``Database`` that has each of its calls made for it.

    Args:
        call: calls what it is given with a ``Database``, and returns the result.
    """

    def __init__(self, call: Callable[[Callable[[Any], Any]], Awaitable[Any]]) -> None:
        self._call = call

    async def run(self, operation: Operation[T], guard: PlanGuard | None = None) -> T:
        """See ``Database.run``."""
        result: T = await self._call(lambda database: database.run(operation, guard))
        return result

    async def run_all(
        self, operations: Sequence[Operation[T]], guard: PlanGuard | None = None, *, tries: int = TRIES
    ) -> list[T]:
        """See ``Database.run_all``."""
        results: list[T] = await self._call(lambda database: database.run_all(operations, guard, tries=tries))
        return results

    async def run_script(self, script: Script[T], guard: PlanGuard | None = None) -> T:
        """See ``Database.run_script``."""
        result: T = await self._call(lambda database: database.run_script(script, guard))
        return result

    async def in_transaction(self, begin: Callable[[], Script[T]], guard: PlanGuard | None = None) -> T:
        """See ``Database.in_transaction``."""
        result: T = await self._call(lambda database: database.in_transaction(begin, guard))
        return result


class Connections(Protocol):
    """Lends a store what it takes from its queue."""

    def heart(self, locks: bool, /) -> Heart:
        """Makes a heart with a connection of its own."""
        ...

    def subscribe(
        self,
        subscriber: object,
        task_types: tuple[str, ...],
        on_wake: OnWake,
        on_told: OnTold,
        on_listen_lost: OnListenLost,
        /,
    ) -> None:
        """Has the queue's listener call these."""
        ...

    async def give_back(self, subscriber: object, /) -> None:
        """Ends the subscription, if there is one, and gives back what the queue has lent."""
        ...


class PostgresStore:
    """A ``Store``. Claims have sessions of their own, so that they go side by side with completions."""

    def __init__(self, operations: Operations, claims: Database, writes: Database, connections: Connections) -> None:
        self._operations = operations
        self._claims = claims
        self._writes = writes
        self._connections = connections
        self._is_open = True
        self._waits = False
        self._guard_of_claims = PlanGuard()
        self._guard_of_look_backs = Unjudged(self._guard_of_claims)
        self._guard_of_lanes = PlanGuard()
        self._guard_of_outcomes = PlanGuard()
        self._guard_of_pruning = AlwaysOn()
        self._guard_of_types = AlwaysOn()
        self._guard_of_monitoring = Monitoring()
        self._has_told_live = False
        self._to_adopt: dict[str, Place] = {}
        self._rated: set[str] = set()  # the types that had rates when they were claimed from last
        self._folds = 0
        self._merged: datetime | None = None  # the last minute that this pool has merged

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``PoolStore.register``."""
        await self._claims.run_script(scripts.register(self._operations, pool))

    async def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str] = (), /) -> bool:
        """See ``PoolStore.update_kinds``."""
        return await self._claims.run_script(scripts.update_kinds(self._operations, pool_id, kinds, isolated_kinds))

    async def tell_live(self, pool_id: UUID, live: Live, /) -> None:
        """See ``PoolStore.tell_live``."""
        self._has_told_live = True
        await self._spare.run(self._operations.tell_live(pool_id, live), self._guard_of_monitoring)

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``PoolStore.unregister``."""
        await self._claims.run(self._operations.unregister(pool_id))
        if self._has_told_live:
            # By itself, since a pool must end even if the table is locked; maintenance does it again.
            with suppress(BackendError):
                await self._claims.run(self._operations.forget_live(), self._guard_of_monitoring)

    def ready(self, request: ClaimRequest, /) -> None:
        """See ``ClaimStore.ready``."""

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``ClaimStore.claim``."""
        guard = self._guard_of_look_backs if request.looks_back else self._guard_of_claims
        return await self._claims.run(self._operations.claim(request), guard)

    async def claim_lanes(self, request: LaneRequest, /) -> LaneClaim:
        """See ``FlowStore.claim_lanes``.

        It claims in the form that the type needed last, and again in the other one if the type has got a rate since.
        """
        rated = request.task_type in self._rated
        operation = self._operations.claim_lanes(request, rated=rated)
        claim, is_rated = await self._claims.run(operation, self._guard_of_lanes)
        if is_rated == rated:
            return claim
        if rated:
            self._rated.discard(request.task_type)
            return claim
        self._rated.add(request.task_type)
        claim, _ = await self._claims.run(self._operations.claim_lanes(request), self._guard_of_lanes)
        return claim

    async def declare(self, declarations: Sequence[Declaration], /) -> None:
        """See ``PoolStore.declare``."""
        held = set(self._operations.unheld.without([each.task_type for each in declarations]))
        wanted = [each for each in declarations if each.task_type in held]
        await self._claims.run_script(declare(self._operations, wanted))

    async def adopt(self, task_types: Sequence[str], limit: int, /) -> bool:
        """See ``FlowStore.adopt``."""
        if not self._to_adopt:
            self._to_adopt = dict.fromkeys(task_types, Place())
        task_type, place = next(iter(self._to_adopt.items()))
        _, reached = await self._spare.run(self._operations.adopt_waiting(task_type, place, limit, notify=True))
        if reached is None:
            del self._to_adopt[task_type]
        else:
            self._to_adopt[task_type] = reached
        return not self._to_adopt

    async def adopt_all(self, task_type: str, /) -> None:
        """See ``FlowStore.adopt_all``."""
        await self._claims.run_script(adopt(self._operations, task_type))

    async def tell_types(self, task_types: Sequence[str], /) -> None:
        """See ``FlowStore.tell_types``."""
        await self._claims.run(self._operations.tell_types(task_types))

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``OutcomeStore.complete``."""
        if waits and not any(outcome.completed_by_run for outcome in outcomes):
            operations = self._operations.complete(pool_id, outcomes)
            try:
                return set().union(*await self._writes.run_all(operations, self._guard_of_outcomes, tries=1))
            except RowsLocked:
                pass  # nothing was written
        begin = partial(scripts.complete_unlocked, self._operations, pool_id, outcomes)
        written, locked = await self._writes.in_transaction(begin, self._guard_of_outcomes)
        if locked:
            raise scripts.some_locked(written, locked)
        return written

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``ClaimStore.reconcile``."""
        return await self._claims.run(self._operations.reconcile(pool_id, known))

    def heart(self, locks: bool, /) -> Heart:
        """See ``PoolStore.heart``."""
        return self._connections.heart(locks)

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``UpkeepStore.prune``."""
        operations = self._operations.prune(request)
        pruned = sum([await self._spare.run(operation, self._guard_of_pruning) for operation in operations])
        if pruned < request.limit:  # once a round
            await self._spare.run(self._operations.prune_lanes(request.task_types))
            await self._spare.run(self._operations.forget_messages())
            await self._spare.run(self._operations.forget_live(), self._guard_of_monitoring)
        return pruned

    def listen(
        self, task_types: Sequence[str], on_wake: OnWake, on_told: OnTold, on_listen_lost: OnListenLost, /
    ) -> None:
        """See ``WakeStore.listen``."""
        self._connections.subscribe(self, tuple(task_types), on_wake, on_told, on_listen_lost)

    async def set_waiting(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``WakeStore.set_waiting``."""
        await self._claims.run(self._operations.set_waiting(pool_id, waiting))
        self._waits = waiting

    @property
    def _spare(self) -> Database:
        """Runs operations that come once in a while: on the connection for claims while these are rare, so that an idle
        process keeps none for writes."""
        return self._claims if self._waits else self._writes

    async def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``ClaimStore.has_taker``."""
        return await self._claims.run(self._operations.has_taker(pool_id, tasks))

    async def declare_schedules(
        self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False, /
    ) -> None:
        """See ``ScheduleStore.declare_schedules``."""
        await self._spare.run_all(self._operations.declare_schedules(declared, dropped, again))

    async def read_schedules(
        self, names: Sequence[str], task_types: Sequence[str] = (), known: str = "", /
    ) -> ScheduleState:
        """See ``ScheduleStore.read_schedules``."""
        last_ticks = {} if not names else (await self._spare.run(self._operations.read_schedules(names))).last_ticks
        stored = await self._spare.run(self._operations.read_stored(names, task_types, known))
        return ScheduleState(stored.now, last_ticks, stored.infos, stored.version)

    async def tick(self, tick: Tick, /) -> bool | None:
        """See ``ScheduleStore.tick``."""
        raised, _ = await self._writes.run(self._operations.tick(tick, notify=True))
        return raised

    async def tick_stored(self, tick: Tick, /) -> Verdict:
        """See ``ScheduleStore.tick_stored``."""
        return await self._writes.run(self._operations.tick_stored(tick, notify=True))

    async def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``ClaimStore.waiting_types``."""
        return await self._claims.run(self._operations.waiting_types(most), self._guard_of_types)

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``ClaimStore.next_due``."""
        return await self._claims.run(self._operations.next_due(task_types, kinds))

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``UpkeepStore.unknown_kinds``."""
        return await self._spare.run(self._operations.unknown_kinds(task_types))

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``UpkeepStore.unserved_types``."""
        return await self._spare.run(self._operations.unserved_types(due_for))

    async def tell_time(self) -> datetime:
        """See ``HistoryStore.tell_time``."""
        return await self._spare.run(self._operations.tell_time())

    async def flush_stats(self, writer: UUID, flush: Flush, /) -> Flushed:
        """See ``HistoryStore.flush_stats``."""
        return await self._spare.run(self._operations.flush_stats(writer, flush), self._guard_of_monitoring)

    async def fold_stats(self, keep: timedelta | None, limit: int, /) -> int:
        """See ``HistoryStore.fold_stats``."""
        self._folds = (self._folds + 1) % LOOK_AT_ALL
        if not self._folds:
            self._merged = None
        done, guard = 0, self._guard_of_monitoring
        while done < limit:
            at = await self._spare.in_transaction(partial(merge_next, self._operations, self._merged), guard)
            if at is None:
                break
            self._merged = at
            done += 1
        while (
            done < limit and await self._spare.in_transaction(partial(fold_next, self._operations), guard) is not None
        ):
            done += 1
        await self._spare.run(self._operations.prune_stats(keep), guard)
        return done

    async def close(self) -> None:
        """Ends listening, and gives the connections back."""
        if self._is_open:
            self._is_open = False
            await self._connections.give_back(self)
