"""Defines the pool that a queue registers while tasks are fetched by hand: its heart beats until the queue closes."""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol
from uuid import UUID, uuid4

from fang_core.backends.pools import manual_pool
from fang_core.backends.store import ClaimStore, PoolStore
from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.errors import BackendError
from fang_core.events import EventBus
from fang_core.interpreter.forks import in_child
from fang_core.pool.heartbeat import Heartbeat
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.runtime import Lock, Runtime


class ManualStore(PoolStore, ClaimStore, Protocol):
    """The part of a backend that a manual pool uses."""


class ManualPool:
    """Begins with the first fetch, and ends with the queue. It goes on under a new id if it was declared dead.

    Args:
        make_runtime: makes the runtime of the heart, when the pool begins.
        store: serves its calls; while the database is away, they wait as the queue's other calls do.
        last_store: serves its last calls, which do not wait.
    """

    def __init__(
        self,
        make_runtime: Callable[[], Runtime],
        make_lock: Callable[[], Lock],
        *,
        store: ManualStore,
        last_store: ManualStore,
    ) -> None:
        self._make_runtime = make_runtime
        self._make_lock = make_lock
        self._store = store
        self._last_store = last_store
        self._begin()
        in_child(self, ManualPool._begin)

    def _begin(self) -> None:
        """Resets it to one that has not begun; in a forked child too, as fetched tasks remain the parent's."""
        self._heartbeat: Heartbeat | None = None
        self._changing = self._make_lock()
        self._identity = PoolIdentity()

    async def begin(self) -> UUID:
        """Registers and starts its heart, unless it has begun; returns the id under which tasks are held."""
        return await self._changing.hold(self._begun)

    async def doubt(self, pool_id: UUID) -> None:
        """Looks whether the pool's record is gone, after a fetch did not find it."""
        if not await self._store.update_kinds(pool_id, ()):
            self._identity.dead_id = pool_id

    async def end(self) -> None:
        """Gives back fetched tasks that have not ended, uncharged, and deregisters."""
        heartbeat, identity = self._heartbeat, self._identity
        self._heartbeat, self._identity = None, PoolIdentity()
        if heartbeat is None:
            return
        try:
            with suppress(BackendError):
                if not identity.is_dead:
                    await self._last_store.reconcile(identity.id, ())
                    await self._last_store.unregister(identity.id)
        finally:  # also if this is cancelled or interrupted: a heart that went on would hold the tasks
            await heartbeat.close(1.0)

    def abandon(self) -> None:
        """Ends its heart when its event loop has ended or stands still: pools then take back the fetched tasks."""
        if self._heartbeat is not None:
            self._heartbeat.end()
        self._begin()

    async def _begun(self) -> UUID:
        """Does what ``begin`` says; no other call does so meanwhile."""
        identity = self._identity
        if self._heartbeat is None:
            identity = PoolIdentity()  # new for each try: other pools may have declared the last one dead
            await self._store.register(manual_pool(identity.id))
            heartbeat = self._make_heartbeat(identity)
            await heartbeat.start()
            # Not before it beats: other pools would take tasks fetched under the id. Both, since the queue may have
            # been closed meanwhile.
            self._heartbeat, self._identity = heartbeat, identity
        elif identity.is_dead:
            successor = uuid4()
            await self._store.register(manual_pool(successor))
            identity.id = successor
        return identity.id

    def _make_heartbeat(self, identity: PoolIdentity) -> Heartbeat:
        def declared_dead(dead_id: UUID) -> None:
            identity.dead_id = dead_id  # fetched tasks are lost; the next fetch registers again

        return Heartbeat(
            self._make_runtime(),
            self._store.heart(True),
            identity,
            lease=DEFAULT_LEASE.total_seconds(),
            max_crashes=DEFAULT_MAX_CRASHES,
            events=EventBus(()),
            on_declared_dead=declared_dead,
        )
