"""Defines the connection of a heart or a listener, as a coroutine sees it in either mode: see also ``AsyncLink``."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from fang_redis.connections.connecting import Server
from fang_redis.connections.links import Link
from fang_redis.connections.runner import Runner
from fang_redis.operations import Verb

T = TypeVar("T")

OnMessage: TypeAlias = Callable[[str], None]
"""Called with a message that was published; it returns at once, and never raises."""


class OwnConnection(Protocol):
    """A connection that one coroutine has for itself. Its methods raise ``BackendError``."""

    async def run(self, verb: Verb[T], /) -> T:
        """Runs a verb."""
        ...

    async def subscribe(self, channel: str, /) -> None:
        """Returns when the server sends what is published there."""
        ...

    async def hear(self, seconds: float, on_message: OnMessage, /) -> bool:
        """Waits for messages for so long at most, and passes them on; returns whether any have come."""
        ...

    def interrupt(self) -> None:
        """Makes ``hear`` fail at once; in threads, any thread may call this."""
        ...

    def close(self) -> None:
        """Closes it at once. Idempotent."""
        ...

    async def ended(self) -> None:
        """Waits a moment for its end, once it is closed."""
        ...


class ThreadedConnection:
    """Implements ``OwnConnection`` where there is no event loop: nothing here ever suspends."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._runner = Runner(link)

    @classmethod
    async def connected(cls, server: Server, answer_within: float) -> "ThreadedConnection":
        """Returns one that is connected. Raises ``BackendError``."""
        return cls(Link(server, answer_within))

    async def run(self, verb: Verb[T], /) -> T:
        """See ``OwnConnection.run``."""
        return self._runner.run(verb)

    async def subscribe(self, channel: str, /) -> None:
        """See ``OwnConnection.subscribe``."""
        self._link.subscribe(channel)

    async def hear(self, seconds: float, on_message: OnMessage, /) -> bool:
        """See ``OwnConnection.hear``."""
        messages = self._link.hear(seconds)
        for message in messages:
            on_message(message)
        return bool(messages)

    def interrupt(self) -> None:
        """See ``OwnConnection.interrupt``."""
        self._link.interrupt()

    def close(self) -> None:
        """See ``OwnConnection.close``."""
        self._link.close()

    async def ended(self) -> None:
        """See ``OwnConnection.ended``."""
