"""How verbs are run, and connections made, on an event loop."""

from functools import partial

from fang_redis.aio.links import AsyncLinks
from fang_redis.aio.listening import AsyncEar
from fang_redis.aio.own import AsyncConnection
from fang_redis.aio.runner import AsyncRunner
from fang_redis.connections.connecting import Server
from fang_redis.connections.own import OwnConnection
from fang_redis.pools.listening import ANSWER_WITHIN, Ear


class AsyncDriver:
    """Implements ``Driver``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.links = AsyncLinks(server)
        self.run = AsyncRunner(self.links).run

    async def connect(self, answer_within: float, /) -> OwnConnection:
        """See ``Driver.connect``."""
        return await AsyncConnection.connected(self._server, answer_within)

    async def close(self) -> None:
        """See ``Driver.close``."""
        await self.links.close()

    def new_ear(self) -> Ear:
        """Returns an ear for the listener of a queue."""
        return AsyncEar(partial(self.connect, ANSWER_WITHIN))
