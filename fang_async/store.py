"""A pool's access to Postgres, from asyncio."""

from collections.abc import Sequence
from uuid import UUID

from fang_async.runner import Runner
from fang_core.lifecycle import Outcome
from fang_core.store import Claim, ClaimRequest, PoolRecord, PruneRequest
from fang_postgres.operations import Operations


class AsyncPostgresStore:
    """An ``AsyncStore``. Claims have a connection of their own, so that they go side by side with completions."""

    def __init__(self, operations: Operations, claims: Runner, writes: Runner) -> None:
        self._operations = operations
        self._claims = claims
        self._writes = writes

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        await self._claims.run(self._operations.register(pool))

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        await self._claims.run(self._operations.unregister(pool_id))

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        return await self._claims.run(self._operations.claim(request))

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /) -> set[UUID]:
        """See ``Store.complete``."""
        return set().union(*await self._writes.run_all(self._operations.complete(pool_id, outcomes)))

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        return sum([await self._writes.run(operation) for operation in self._operations.prune(request)])

    async def close(self) -> None:
        """The queue owns the connections."""
