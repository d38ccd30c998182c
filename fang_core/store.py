"""What a pool sees of a backend: a few verbs, in both colours. Pools import these and never a backend."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from fang_core.lifecycle import Outcome
from fang_core.queueable import AsyncQueueable, Queueable
from fang_core.record import ClaimedTask
from fang_core.registry import Mode


class PoolRecord(NamedTuple):
    """A pool as it registers itself. ``id`` is made anew for each start and never used again."""

    id: UUID
    mode: Mode
    host: str
    pid: int
    task_types: tuple[str, ...]
    kinds: tuple[str, ...]
    workers: int


class ClaimRequest(NamedTuple):
    """``task_types`` in the order in which they are to be served; within each by priority, then by due time."""

    pool_id: UUID
    task_types: tuple[str, ...]
    kinds: tuple[str, ...]
    limit: int


class Claim(NamedTuple):
    """What a claim returned.

    Attributes:
        tasks: now held by the pool, in the order in which they are to be run.
        now: the backend's clock.
        snapshot: the transactions that were running then, where the backend has such; else empty.
        registered: false where the pool's own record is gone; nothing is claimed then.
    """

    tasks: list[ClaimedTask]
    now: datetime
    snapshot: str
    registered: bool


class PruneRequest(NamedTuple):
    """Ages from which terminal rows are deleted; None keeps that sort for ever. At most ``limit`` rows at once."""

    keep_finished: timedelta | None
    keep_failed: timedelta | None
    limit: int


class Store(Protocol):
    """A pool's access to its backend, from threads. Claim and complete may be called at the same time."""

    def register(self, pool: PoolRecord, /) -> None:
        """Makes the pool known; it can claim from now on. Repeating it is harmless."""
        ...

    def unregister(self, pool_id: UUID, /) -> None:
        """Takes the pool's record away."""
        ...

    def claim(self, request: ClaimRequest, /) -> Claim:
        """Marks due tasks as in progress for this pool, raising each one's ``attempt``."""
        ...

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /) -> set[UUID]:
        """Writes outcomes, each one where its task is still held under the same attempt by this pool.

        Returns the ids of those written. One outcome for each id; the batch is one transaction. Raises
        ``StatementRefused`` where a value in it is at fault and none of it was written, another ``BackendError`` where
        it is to be repeated: it may have been written.
        """
        ...

    def prune(self, request: PruneRequest, /) -> int:
        """Deletes rows whose life ended long enough ago; how many."""
        ...

    def close(self) -> None:
        """Gives back what the store holds. Idempotent."""
        ...


class AsyncStore(Protocol):
    """See ``Store``."""

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        ...

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        ...

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        ...

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /) -> set[UUID]:
        """See ``Store.complete``."""
        ...

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        ...

    async def close(self) -> None:
        """See ``Store.close``."""
        ...


class Backend(Queueable, Protocol):
    """A queue that pools can run on."""

    @property
    def is_open(self) -> bool:
        """Whether the queue can be used now."""
        ...

    def open(self) -> None:
        """Connects and checks the schema. Idempotent."""
        ...

    def close(self) -> None:
        """Closes what the queue opened itself. Idempotent."""
        ...

    def store(self) -> Store:
        """A store for one pool."""
        ...


class AsyncBackend(AsyncQueueable, Protocol):
    """See ``Backend``."""

    @property
    def is_open(self) -> bool:
        """See ``Backend.is_open``."""
        ...

    async def open(self) -> None:
        """See ``Backend.open``."""
        ...

    async def close(self) -> None:
        """See ``Backend.close``."""
        ...

    def store(self) -> AsyncStore:
        """See ``Backend.store``."""
        ...
