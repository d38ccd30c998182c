"""Runs verbs, and makes connections, on an event loop."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fang_redis.aio.handing import AsyncHanding
from fang_redis.aio.links import AsyncLink, AsyncLinks
from fang_redis.aio.listening import AsyncEar
from fang_redis.connections.connecting import Server
from fang_redis.connections.exchange import carried_out
from fang_redis.connections.handing import Offers
from fang_redis.connections.own import OwnConnection
from fang_redis.connections.ready import OnOffer, Ready
from fang_redis.operations import Verb
from fang_redis.pools.listening import ANSWER_WITHIN, Ear

T = TypeVar("T")


class AsyncDriver:
    """Implements ``Driver``."""

    def __init__(self, server: Server, offers: Offers | None = None) -> None:
        self._server = server
        self.links = AsyncLinks(server)
        self._hand = None if offers is None else AsyncHanding(self.links, offers)

    async def run(self, verb: Verb[T], /) -> T:
        """See ``Driver.run``."""
        return await carried_out(verb, self.links.send, self._hand)

    def ready(self, verb: Callable[[], Verb[T]], on_offer: OnOffer | None = None, /) -> Ready[T]:
        """See ``Driver.ready``."""
        return Ready(verb, self.links, on_offer)

    async def connect(self, answer_within: float, /) -> OwnConnection:
        """See ``Driver.connect``."""
        return await AsyncLink.connected(self._server, answer_within)

    async def close(self) -> None:
        """See ``Driver.close``."""
        await self.links.close()

    def new_ear(self) -> Ear:
        """Returns an ear for the listener of a queue."""
        return AsyncEar(partial(self.connect, ANSWER_WITHIN))
