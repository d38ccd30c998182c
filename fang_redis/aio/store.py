"""The store of a pool of asyncio tasks, on a connection of its own."""

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from fang_core.backends.store import Heart, OnListenLost, OnTold, OnWake
from fang_redis import heart, listening
from fang_redis.aio.links import AsyncLinks
from fang_redis.aio.listening import AsyncEar
from fang_redis.aio.own import AsyncConnection
from fang_redis.aio.runner import AsyncRunner
from fang_redis.connecting import Server
from fang_redis.layout import Keys
from fang_redis.listening import Listener
from fang_redis.operations import Verb
from fang_redis.store import RedisStore
from fang_redis.verbs import PoolVerbs

T = TypeVar("T")


class AsyncStore(RedisStore):
    """A ``Store`` of one event loop."""

    def __init__(self, verbs: PoolVerbs, keys: Keys, server: Server, listener: Listener) -> None:
        super().__init__(verbs)
        self._keys = keys
        self._links = AsyncLinks(server)
        self._runner = AsyncRunner(self._links)
        self._listener = listener
        self._connect_heart = partial(AsyncConnection.connected, server, heart.ANSWER_WITHIN)

    async def _run(self, verb: Verb[T]) -> T:
        return await self._runner.run(verb)

    def heart(self, locks: bool, /) -> Heart:
        """See ``PoolStore.heart``."""
        return heart.RedisHeart(self._keys, self._connect_heart, locks=locks)

    def listen(
        self, task_types: Sequence[str], on_wake: OnWake, on_told: OnTold, on_listen_lost: OnListenLost, /
    ) -> None:
        """See ``WakeStore.listen``."""
        self._listener.subscribe(self, task_types, on_wake, on_told, on_listen_lost)

    async def close(self) -> None:
        """See ``Store.close``."""
        await self._listener.unsubscribe(self)
        await self._links.close()


def async_listener(keys: Keys, server: Server) -> Listener:
    """Returns the listener of a queue of an event loop."""
    connect = partial(AsyncConnection.connected, server, listening.ANSWER_WITHIN)
    return Listener(keys.channel, lambda: AsyncEar(connect))
