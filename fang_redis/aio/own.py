"""A connection of its own, for a heart or a listener, on an event loop."""

from typing import TypeVar

from fang_redis.aio.links import AsyncLink
from fang_redis.aio.runner import AsyncRunner
from fang_redis.connections.connecting import Server
from fang_redis.operations import Verb

T = TypeVar("T")


class AsyncConnection:
    """Implements ``OwnConnection``."""

    def __init__(self, link: AsyncLink) -> None:
        self._link = link
        self._runner = AsyncRunner(link)

    @classmethod
    async def connected(cls, server: Server, answer_within: float) -> "AsyncConnection":
        """Returns one that is connected. Raises ``BackendError``."""
        return cls(await AsyncLink.connected(server, answer_within))

    async def run(self, verb: Verb[T], /) -> T:
        """See ``OwnConnection.run``."""
        return await self._runner.run(verb)

    async def subscribe(self, channel: str, /) -> None:
        """See ``OwnConnection.subscribe``."""
        await self._link.subscribe(channel)

    async def hear(self, seconds: float, /) -> list[str]:
        """See ``OwnConnection.hear``."""
        return await self._link.hear(seconds)

    def interrupt(self) -> None:
        """See ``OwnConnection.interrupt``."""
        self._link.close()

    async def close(self) -> None:
        """See ``OwnConnection.close``."""
        self._link.close()
        await self._link.ended()
