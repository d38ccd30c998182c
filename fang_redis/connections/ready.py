"""Holds a verb whose first step is ready to be sent: its bytes are made, and the sender does not wait for the reply."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from fang_core.backends.claims import HandOver
from fang_core.errors import BackendError
from fang_redis.connections.exchange import carried_out
from fang_redis.connections.links import Command, Links, packed
from fang_redis.operations import Verb, sent

T = TypeVar("T")
Sent = TypeVar("Sent")


Reply: TypeAlias = Callable[[], Awaitable[Any]]
"""Returns the reply to a command that another caller has sent, or None if there is none. Raises ``BackendError``."""


OnOffer: TypeAlias = Callable[[Any, HandOver], None]
"""Called with a ``Ready``, and with what hands it over."""


class Post(Protocol[Sent]):
    """The connections of a queue, as far as a reply is not waited for."""

    @property
    def is_here(self) -> bool:
        """Returns whether they belong to the caller: to the running event loop, or to any thread."""
        ...

    def begin(self, commands: Sequence[bytes]) -> Sent | None:
        """Sends commands on a connection that is there; returns None, without waiting, if there is none.

        Raises ``BackendError`` if they may have been sent.
        """
        ...

    async def end(self, begun: Sent, commands: Sequence[Command]) -> Sequence[Any]:
        """Returns the replies to these commands, which were sent. Raises ``BackendError``."""
        ...

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Sends commands, and returns their replies. Raises ``BackendError``."""
        ...


class Ready(Generic[T]):
    """One verb, which a function makes; its first step is an operation. Call ``send`` or ``goes_along`` once, and then
    ``answer`` once, unless ``send`` has returned False.

    Args:
        on_offer: called with what ``offer`` gets, if something else may send it, and with this.
    """

    def __init__(
        self,
        verb: Callable[[], Verb[T]],
        post: Post[Any],
        on_offer: OnOffer | None = None,
    ) -> None:
        self._verb = verb
        self._post = post
        self._on_offer = on_offer
        self.first: Any = next(verb())
        """Its first step."""
        self._commands = packed(sent(self.first))
        self._begun: Any = None
        self._along: Reply | None = None
        self._error: BackendError | None = None

    def offer(self, hand_over: HandOver, /) -> None:
        """See ``ReadyClaim.offer``."""
        if self._on_offer is not None:
            self._on_offer(self, hand_over)

    @property
    def is_here(self) -> bool:
        """See ``Post.is_here``."""
        return self._post.is_here

    def goes_along(self, reply: Reply) -> None:
        """Notes that another call sends its first step, and how to get its reply; ``answer`` sends it again if
        there is none, since what it went with was refused."""
        self._along = reply

    def send(self) -> bool:
        """Sends it if a connection is there, and returns whether it was sent, as far as is known. Never waits."""
        try:
            self._begun = self._post.begin(self._commands)
        except BackendError as error:
            self._error = error
            return True
        return self._begun is not None

    async def answer(self) -> T:
        """Returns what the verb returns. Raises ``BackendError``."""
        return await carried_out(self._verb(), self._send)

    async def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        error, self._error = self._error, None
        if error is not None:
            raise error
        along, self._along = self._along, None
        if along is not None:
            reply = await along()
            if reply is not None:
                return [reply]
        begun, self._begun = self._begun, None
        if begun is None:  # a further step, or the server did not know the script, and gets its text
            return await self._post.send(commands)
        return await self._post.end(begun, commands)


class ThreadPost:
    """Implements ``Post`` for threads, where nothing ever suspends."""

    is_here = True

    def __init__(self, links: Links) -> None:
        self._links = links
        self.begin = links.begin

    async def end(self, begun: Any, commands: Sequence[Command]) -> Sequence[Any]:
        """See ``Post.end``."""
        return self._links.end(begun, commands)

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """See ``Post.send``."""
        return self._links.send(commands)
