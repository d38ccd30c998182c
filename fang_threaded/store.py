"""A pool's access to Postgres, from threads."""

from collections.abc import Sequence
from uuid import UUID

from fang_core.lifecycle import Outcome
from fang_core.store import Claim, ClaimRequest, PoolRecord, PruneRequest
from fang_postgres.operations import Operations
from fang_threaded.runner import Runner


class PostgresStore:
    """A ``Store``. Claims have sessions of their own, so that they go side by side with completions."""

    def __init__(self, operations: Operations, claims: Runner, writes: Runner) -> None:
        self._operations = operations
        self._claims = claims
        self._writes = writes

    def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        self._claims.run(self._operations.register(pool))

    def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        self._claims.run(self._operations.unregister(pool_id))

    def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        return self._claims.run(self._operations.claim(request))

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /) -> set[UUID]:
        """See ``Store.complete``."""
        return set().union(*self._writes.run_all(self._operations.complete(pool_id, outcomes)))

    def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        return sum(self._writes.run(operation) for operation in self._operations.prune(request))

    def close(self) -> None:
        """The queue owns the connections."""
