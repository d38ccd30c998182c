"""Does the part of a queue's and a store's work that depends on the mode: runs verbs, and makes connections."""

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from fang_redis.connections.connecting import Server
from fang_redis.connections.handing import Offers, ThreadHanding
from fang_redis.connections.links import Links
from fang_redis.connections.own import OwnConnection, ThreadedConnection
from fang_redis.connections.ready import OnOffer, Ready, ThreadPost
from fang_redis.connections.runner import Runner
from fang_redis.operations import Verb
from fang_redis.pools.listening import ANSWER_WITHIN, Ear, ThreadedEar

T = TypeVar("T")


class Driver(Protocol):
    """Has its own connections. Its methods raise ``BackendError``; in threads they never suspend. A queue's driver
    knows the ``offers`` of its pools, and sends claims along with inserts.
    """

    async def run(self, verb: Verb[T], /) -> T:
        """Returns what the verb returns."""
        ...

    def ready(self, verb: Callable[[], Verb[T]], on_offer: OnOffer | None = None, /) -> Ready[T]:
        """Prepares a verb, whose first step then only has to be sent; the function makes the verb. See ``Ready``."""
        ...

    async def connect(self, answer_within: float, /) -> OwnConnection:
        """Returns a connection for one user alone."""
        ...

    async def close(self) -> None:
        """Closes the connections on which verbs are run; another verb makes new ones."""
        ...


class ThreadDriver:
    """Implements ``Driver`` for threads."""

    def __init__(self, server: Server, offers: Offers | None = None) -> None:
        self._server = server
        self.links = Links(server)
        self.runner = Runner(self.links, None if offers is None else ThreadHanding(self.links, offers))

    async def run(self, verb: Verb[T], /) -> T:
        """See ``Driver.run``."""
        return self.runner.run(verb)

    def ready(self, verb: Callable[[], Verb[T]], on_offer: OnOffer | None = None, /) -> Ready[T]:
        """See ``Driver.ready``."""
        return Ready(verb, ThreadPost(self.links), on_offer)

    async def connect(self, answer_within: float, /) -> OwnConnection:
        """See ``Driver.connect``."""
        return await ThreadedConnection.connected(self._server, answer_within)

    async def close(self) -> None:
        """See ``Driver.close``."""
        self.links.close()

    def new_ear(self) -> Ear:
        """Returns an ear for the listener of a queue."""
        return ThreadedEar(partial(self.connect, ANSWER_WITHIN))
