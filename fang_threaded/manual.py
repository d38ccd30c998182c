"""What a queue is to others while tasks are fetched by hand: a pool of its own, whose heart beats until it closes."""

from contextlib import suppress
from uuid import UUID, uuid4

from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.errors import BackendError
from fang_core.events import Dispatcher
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
        self._heartbeat: Heartbeat | None = None
        self._holds = False
        self.id = uuid4()

    def begin(self) -> None:
        """Registers, on a connection of its own, and has its heart beat; where that is not so already."""
        if not self._holds:
            writes = self._connections.writes()
            writes.run(self._operations.register(manual_pool(self.id)))
            self._holds = True
        if self._heartbeat is None:
            self._heartbeat = Heartbeat(
                PostgresHeart(self._operations, self._connections.dedicated, locks=True),
                self.id,
                lease=DEFAULT_LEASE.total_seconds(),
                max_crashes=DEFAULT_MAX_CRASHES,
                events=Dispatcher(()),
                on_declared_dead=self._declared_dead,
            )
            self._heartbeat.start()

    def end(self) -> None:
        """Signs off. What was fetched and not ended is taken back by others."""
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is None:
            return
        heartbeat.close(1.0)
        with suppress(BackendError):
            self._connections.writes().run(self._operations.unregister(self.id))
        self._holds, self.id = False, uuid4()

    def _declared_dead(self, dead: UUID) -> None:
        """What was fetched is lost; the next fetch registers anew."""
        if self._holds and dead == self.id and self._heartbeat is not None:
            self._holds, self.id = False, uuid4()
            self._heartbeat.pool_id = self.id
