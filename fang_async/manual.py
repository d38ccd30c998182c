"""What a queue is to others while tasks are fetched by hand: a pool of its own, whose heart beats until it closes."""

import asyncio
from contextlib import suppress
from uuid import UUID, uuid4

from fang_async.connections import Connections
from fang_async.heart import AsyncPostgresHeart
from fang_async.heartbeat import Heartbeat
from fang_async.home import HomeLoop
from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.errors import BackendError
from fang_core.events import Dispatcher
from fang_core.forks import in_child
from fang_core.store import manual_pool
from fang_postgres.operations import Operations


class ManualPool:
    """Begins with the first fetch, and ends with the queue. Under a new id where others took it for dead."""

    def __init__(self, operations: Operations, connections: Connections, home: HomeLoop) -> None:
        self._operations = operations
        self._connections = connections
        self._home = home
        self._begin()
        in_child(self, ManualPool._begin)

    def _begin(self) -> None:
        """Not begun; also in a child: what the parent has fetched is the parent's."""
        self._heartbeat: Heartbeat | None = None
        self._changing = asyncio.Lock()
        self._id: UUID | None = None

    async def begin(self) -> UUID:
        """Registers and has its heart beat, where that is not so already; the id under which tasks are held."""
        self._home.enter()
        async with self._changing:
            pool_id = self._id
            if pool_id is None:
                pool_id = uuid4()
                registering = self._operations.register(manual_pool(pool_id))
                await self._connections.call(lambda writes: writes.run(registering))
                await self._beat(pool_id)
                self._id = pool_id  # not before its heart beats: others would take what is fetched under it
            return pool_id

    async def doubt(self, pool_id: UUID) -> None:
        """A fetch did not find its record: looks whether it is gone."""
        learning = self._operations.learn(pool_id, ())
        if not await self._connections.call(lambda writes: writes.run(learning)):
            self._declared_dead(pool_id)

    async def end(self) -> None:
        """Signs off. What was fetched and not ended is given back, uncharged."""
        pool_id, self._id = self._id, None
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is None:
            return
        with suppress(BackendError):
            if pool_id is not None:
                writes = await self._connections.writes()
                await writes.run(self._operations.reconcile(pool_id, ()))
                await writes.run(self._operations.unregister(pool_id))
        await heartbeat.close(1.0)

    def abandon(self) -> None:
        """Lets its heart end, whose event loop has ended or stands still: what was fetched is taken back by pools."""
        if self._heartbeat is not None:
            self._heartbeat.end()
        self._begin()

    async def _beat(self, pool_id: UUID) -> None:
        if self._heartbeat is not None:
            self._heartbeat.pool_id = pool_id
            return
        heartbeat = Heartbeat(
            AsyncPostgresHeart(self._operations, self._connections.dedicated, locks=self._connections.keeps_session),
            pool_id,
            lease=DEFAULT_LEASE.total_seconds(),
            max_crashes=DEFAULT_MAX_CRASHES,
            events=Dispatcher(()),
            on_declared_dead=self._declared_dead,
        )
        await heartbeat.start()
        self._heartbeat = heartbeat

    def _declared_dead(self, dead: UUID) -> None:
        """What was fetched is lost; the next fetch registers anew."""
        if dead == self._id:
            self._id = None
