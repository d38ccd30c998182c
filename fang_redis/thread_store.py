"""The store of a pool of threads, on connections of its own."""

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from fang_core.backends.store import Heart, OnListenLost, OnTold, OnWake
from fang_redis import heart, listening
from fang_redis.connecting import Server
from fang_redis.layout import Keys
from fang_redis.links import Links
from fang_redis.listening import Listener, ThreadedEar
from fang_redis.operations import Verb
from fang_redis.own import ThreadedConnection
from fang_redis.runner import Runner
from fang_redis.store import RedisStore
from fang_redis.verbs import PoolVerbs

T = TypeVar("T")


class ThreadStore(RedisStore):
    """A ``Store`` whose methods never suspend."""

    def __init__(self, verbs: PoolVerbs, keys: Keys, server: Server, listener: Listener) -> None:
        super().__init__(verbs)
        self._keys = keys
        self._links = Links(server)
        self._runner = Runner(self._links)
        self._listener = listener
        self._connect_heart = partial(ThreadedConnection.connected, server, heart.ANSWER_WITHIN)

    async def _run(self, verb: Verb[T]) -> T:
        return self._runner.run(verb)

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
        self._links.close()


def thread_listener(keys: Keys, server: Server) -> Listener:
    """Returns the listener of a queue of threads."""
    connect = partial(ThreadedConnection.connected, server, listening.ANSWER_WITHIN)
    return Listener(keys.channel, lambda: ThreadedEar(connect))
