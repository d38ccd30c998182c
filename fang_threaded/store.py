"""A pool's access to Postgres, from threads."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from fang_core.errors import RowsLocked
from fang_core.guard import AlwaysOn, PlanGuard, Unjudged
from fang_core.lifecycle import Outcome
from fang_core.store import Claim, ClaimRequest, OnSilence, OnWake, PoolRecord, PruneRequest, Serves, Sighting, Tick
from fang_postgres import conversations
from fang_postgres.operations import Operations
from fang_threaded.connections import Connections
from fang_threaded.heart import PostgresHeart
from fang_threaded.runner import Runner


class PostgresStore:
    """A ``Store``. Claims have sessions of their own, so that they go side by side with completions."""

    def __init__(self, operations: Operations, claims: Runner, writes: Runner, connections: Connections) -> None:
        self._operations = operations
        self._claims = claims
        self._writes = writes
        self._connections = connections
        self._is_open = True
        self._guard_of_claims = PlanGuard()
        self._guard_of_look_backs = Unjudged(self._guard_of_claims)
        self._guard_of_outcomes = PlanGuard()
        self._guard_of_pruning = AlwaysOn()
        self._guard_of_types = AlwaysOn()

    def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        self._claims.run(self._operations.register(pool))

    def learn(self, pool_id: UUID, kinds: Sequence[str], /) -> None:
        """See ``Store.learn``."""
        self._claims.run(self._operations.learn(pool_id, kinds))

    def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        self._claims.run(self._operations.unregister(pool_id))

    def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        guard = self._guard_of_look_backs if request.looks_back else self._guard_of_claims
        return self._claims.run(self._operations.claim(request), guard)

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``Store.complete``."""
        if waits and not any(outcome.completed_by_run for outcome in outcomes):
            operations = self._operations.complete(pool_id, outcomes)
            try:
                return set().union(*self._writes.run_all(operations, self._guard_of_outcomes, tries=1))
            except RowsLocked:
                pass  # nothing was written
        begin = partial(conversations.complete_unlocked, self._operations, pool_id, outcomes)
        written, locked = self._writes.transact(begin, self._guard_of_outcomes)
        if locked:
            raise conversations.some_locked(written, locked)
        return written

    def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``Store.reconcile``."""
        return self._claims.run(self._operations.reconcile(pool_id, known))

    def heart(self, locks: bool, /) -> PostgresHeart:
        """See ``Store.heart``."""
        connect = partial(self._connections.dedicated, keeps_session=locks)
        return PostgresHeart(
            self._operations,
            connect,
            self._connections.run_on_dedicated,
            locks=locks,
            connects_within=self._connections.connects_within,
        )

    def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        operations = self._operations.prune(request)
        return sum(self._writes.run(operation, self._guard_of_pruning) for operation in operations)

    def listen(self, task_types: Sequence[str], on_wake: OnWake, on_silence: OnSilence, /) -> None:
        """See ``Store.listen``."""
        self._connections.listener.subscribe(self, tuple(task_types), on_wake, on_silence)

    def announce(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``Store.announce``."""
        self._claims.run(self._operations.announce(pool_id, waiting))

    def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``Store.has_taker``."""
        return self._claims.run(self._operations.has_taker(pool_id, tasks))

    def sight(self, names: Sequence[str], /) -> Sighting:
        """See ``Store.sight``."""
        return self._writes.run(self._operations.sight(names))

    def tick(self, tick: Tick, /) -> bool:
        """See ``Store.tick``."""
        raised, _ = self._writes.run(self._operations.tick(tick, notify=True))
        return raised

    def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``Store.waiting_types``."""
        return self._claims.run(self._operations.waiting_types(most), self._guard_of_types)

    def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``Store.next_due``."""
        return self._claims.run(self._operations.next_due(task_types, kinds))

    def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``Store.unknown_kinds``."""
        return self._writes.run(self._operations.unknown_kinds(task_types))

    def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``Store.unserved_types``."""
        return self._writes.run(self._operations.unserved_types(due_for))

    def close(self) -> None:
        """Ends listening, and gives the connections back."""
        if self._is_open:
            self._is_open = False
            self._connections.listener.unsubscribe(self)
            self._connections.give_back()
