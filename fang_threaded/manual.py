"""What a queue is to others while tasks are fetched by hand: a pool of its own, whose heart beats until it closes."""

import threading
from contextlib import suppress
from functools import partial
from uuid import UUID, uuid4

from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.errors import BackendError
from fang_core.events import Dispatcher
from fang_core.forks import in_child
from fang_core.store import manual_pool
from fang_postgres.operations import Operations
from fang_threaded.connections import Connections
from fang_threaded.heart import PostgresHeart
from fang_threaded.heartbeat import Heartbeat


class ManualPool:
    """Begins with the first fetch, and ends with the queue. Under a new id where others took it for dead."""

    def __init__(self, operations: Operations, connections: Connections) -> None:
        self._operations = operations
        self._connections = connections
        self._begin()
        in_child(self, ManualPool._begin)

    def _begin(self) -> None:
        """Not begun; also in a child: what the parent has fetched is the parent's."""
        self._heartbeat: Heartbeat | None = None
        self._changing = threading.Lock()
        self._id: UUID | None = None

    def begin(self) -> UUID:
        """Registers and has its heart beat, where that is not so already; the id under which tasks are held."""
        with self._changing:
            pool_id = self._id
            if pool_id is None:
                pool_id = uuid4()
                registering = self._operations.register(manual_pool(pool_id))
                self._connections.call(lambda writes: writes.run(registering))
                self._beat(pool_id)
                self._id = pool_id  # not before its heart beats: others would take what is fetched under it
            return pool_id

    def doubt(self, pool_id: UUID) -> None:
        """A fetch did not find its record: looks whether it is gone."""
        learning = self._operations.learn(pool_id, ())
        if not self._connections.call(lambda writes: writes.run(learning)):
            self._declared_dead(pool_id)

    def end(self) -> None:
        """Signs off. What was fetched and not ended is given back, uncharged."""
        pool_id, self._id = self._id, None
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is None:
            return
        with suppress(BackendError):
            if pool_id is not None:
                writes = self._connections.writes()
                writes.run(self._operations.reconcile(pool_id, ()))
                writes.run(self._operations.unregister(pool_id))
        heartbeat.close(1.0)

    def _beat(self, pool_id: UUID) -> None:
        if self._heartbeat is not None:
            self._heartbeat.pool_id = pool_id
            return
        keeps_session = self._connections.keeps_session
        connect = partial(self._connections.dedicated, keeps_session=keeps_session)
        heartbeat = Heartbeat(
            PostgresHeart(
                self._operations,
                connect,
                self._connections.run_on_dedicated,
                locks=keeps_session,
                connects_within=self._connections.connects_within,
            ),
            pool_id,
            lease=DEFAULT_LEASE.total_seconds(),
            max_crashes=DEFAULT_MAX_CRASHES,
            events=Dispatcher(()),
            on_declared_dead=self._declared_dead,
        )
        heartbeat.start()
        self._heartbeat = heartbeat

    def _declared_dead(self, dead: UUID) -> None:
        """What was fetched is lost; the next fetch registers anew."""
        if dead == self._id:
            self._id = None
