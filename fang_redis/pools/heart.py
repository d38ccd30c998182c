"""Beats for a pool on Redis: on one connection of its own, whose subscription is the pool's lock.

A subscription ends with its connection, and that with its process. The script of a beat counts the subscribers of each
pool's channel at the moment in which it reads the counters.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

from fang_core.backends.pools import Rescued
from fang_core.errors import BackendError
from fang_core.liveness import Beat, BeatRequest, Pulse
from fang_redis.connections.own import OwnConnection
from fang_redis.connections.sending import Sending
from fang_redis.layout import Keys
from fang_redis.operations import Verb
from fang_redis.pools.liveness import Liveness

T = TypeVar("T")

ANSWER_WITHIN: Final = 5.0
"""Seconds for a beat or a rescue; after that the connection is taken for dead and replaced."""

DATA_LOST: Final = (
    "the keys of queue {name!r} on Redis were removed, and with them all its tasks (FLUSHALL, FLUSHDB, or a server that"
    " began without its data): running pools register again"
)


class RedisHeart:
    """Implements ``Heart``; in asyncio all of its calls must come from one event loop.

    Args:
        connect: makes a connection for this heart alone, in bounded time.
        locks: whether to subscribe to a channel of the pool's.
    """

    def __init__(self, keys: Keys, connect: Callable[[], Awaitable[OwnConnection]], *, locks: bool) -> None:
        self._keys = keys
        self._liveness = Liveness(Sending(keys))
        self._connect = connect
        self._locks = locks
        self._connection: OwnConnection | None = None
        self._subscribed: set[UUID] = set()  # the ids of the pool whose channels the connection hears
        self._epoch: str | None = None

    async def beat(self, request: BeatRequest, /) -> Beat:
        """See ``Heart.beat``. Raises ``BackendError`` once if all keys of the queue were removed."""
        former = self._connection

        async def work(connection: OwnConnection) -> Beat:
            if self._locks and request.pool_id not in self._subscribed:
                await connection.subscribe(self._keys.alive(request.pool_id))
                self._subscribed.add(request.pool_id)
            answer = await connection.run(self._liveness.beat(request, locks=self._locks))
            self._look(answer.epoch)
            return answer.beat

        beat = await self._on_connection(work)
        return beat._replace(continues=self._connection is former)

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """See ``Heart.rescue``."""
        told: list[Rescued] = []
        for pulse in dead:
            told += await self._run(self._liveness.rescue(pulse))
        return told

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """See ``Heart.rescue_orphans``."""
        return await self._run(self._liveness.rescue_orphans(max_crashes))

    async def close(self) -> None:
        """See ``Heart.close``."""
        connection, self._connection = self._connection, None
        self._subscribed.clear()
        if connection is not None:
            connection.close()
            await connection.ended()

    def _look(self, epoch: str) -> None:
        former, self._epoch = self._epoch, epoch
        if former is not None and former != epoch:
            raise BackendError(DATA_LOST.format(name=self._keys.name))

    async def _run(self, verb: Verb[T]) -> T:
        return await self._on_connection(lambda connection: connection.run(verb))

    async def _on_connection(self, work: Callable[[OwnConnection], Awaitable[T]]) -> T:
        """Does the work in bounded time. A failure closes the connection, and the next call makes a new one."""
        try:
            if self._connection is None:
                self._connection = await self._connect()
            return await work(self._connection)
        except BaseException:
            await self.close()
            raise
