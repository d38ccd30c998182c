"""Connections of asyncio tasks: all tasks of an event loop share one.

What they send is written in its order, and each reply goes to the oldest command that waits. A caller that is
cancelled, or waits for too long, just goes away: no cancellation ever reaches redis-py, which on Python 3.11 loses one
of four of them while it connects, and no reply can be taken for that of another command.
"""

import asyncio
import socket
from asyncio import AbstractEventLoop, Future, Task
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, TypeVar

from hiredis import PushNotification
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from fang_core.driving import NO_LOOP
from fang_core.errors import UsageError
from fang_core.interpreter.forks import ForkWatch, in_child
from fang_redis.aio.wire import Wire
from fang_redis.connections.connecting import ANSWER_WITHIN, CONNECT_WITHIN, Server, sever
from fang_redis.connections.diagnosis import ELSEWHERE, lost, not_connected, word_of
from fang_redis.connections.exchange import carried_out
from fang_redis.connections.links import Command, packed
from fang_redis.connections.own import OnMessage
from fang_redis.operations import Verb

T = TypeVar("T")

ENDED_WITHIN: Final = 2.0
"""The longest, in seconds, that closing waits for the end of a connection."""

LOOKS: Final = 4
"""How often it looks for a reply, or a connection, before it gives up."""

IN_USE_ELSEWHERE: Final = (
    "this AsyncRedisQueue is in use on another event loop, which still runs: make one AsyncRedisQueue for each loop, or"
    " close it there first; one RedisQueue serves threads that each run a loop of their own"
)


class AsyncLink:
    """One connection; make it with ``connected``."""

    def __init__(self, server: Server, answer_within: float) -> None:
        self._server = server
        self._look_every = answer_within / LOOKS
        self._connection = server.connection(None, None)
        self._wire: Wire | None = None
        self._waiting: deque[Sequence[Future[Any]]] = deque()  # for each command those that share its reply
        self._answered = 0
        self._messages: list[str] = []  # that have come while nothing listened
        self._on_message: OnMessage | None = None
        self._has_heard = asyncio.Event()
        self._cause: BaseException | None = None  # why it is closed
        self._is_retired = False
        self._watching: Task[None] | None = None
        self._next_look: asyncio.TimerHandle | None = None

    @classmethod
    async def connected(cls, server: Server, answer_within: float = ANSWER_WITHIN) -> "AsyncLink":
        """Returns one that is connected. Raises ``BackendError``."""
        link = cls(server, answer_within)
        connecting = asyncio.create_task(link._connect(), name="fang-redis-connect")
        try:
            for _ in range(LOOKS):
                if (await asyncio.wait([connecting], timeout=CONNECT_WITHIN / LOOKS))[0]:
                    connecting.result()
                    return link
            raise TimeoutError(f"no connection within {CONNECT_WITHIN:g} s")
        except (RedisError, OSError, TimeoutError) as error:
            link.close()
            server.lose(link._connection)
            raise not_connected(error, server) from error
        except BaseException:  # the caller is cancelled
            link.close()
            raise
        finally:
            connecting.cancel()

    async def _connect(self) -> None:
        watch = ForkWatch()
        try:
            await self._connection.connect()
            if watch.has_forked():  # a child has a copy of the socket, and would hide our death from the server
                await self._connection.disconnect(nowait=True)
                await self._connection.connect()
            if self._cause is None:  # else it was closed meanwhile
                self._wire = Wire(self._connection, self._replied, self._fail)
                self._watching = asyncio.create_task(self._watch(self._wire), name="fang-redis")
                inherited = self._connection._writer.get_extra_info("socket")
                in_child(self, lambda _: sever(inherited.fileno()))
        finally:
            if self._wire is None:
                await self._disconnect()
            await self._leave_sentinels()

    @property
    def is_good(self) -> bool:
        """Returns whether it can be used."""
        return self._cause is None and not self._is_retired

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Sends commands at once; returns the reply to each, which is a ``ResponseError`` if that one was refused.

        Raises ``BackendUnavailable`` if the replies do not come, and then is closed.
        """
        return await self.end(self.begin(packed(commands)))

    def begin(self, commands: Sequence[bytes]) -> list[Future[Any]]:
        """Sends commands, and returns their replies to come. Raises ``BackendUnavailable``."""
        loop = asyncio.get_running_loop()
        replies: list[Future[Any]] = [loop.create_future() for _ in commands]
        self._begin(commands, [(reply,) for reply in replies])
        return replies

    def begin_pair(self, commands: Sequence[bytes]) -> tuple[Future[Any], Future[Any]]:
        """Sends one command, whose reply is a pair, and returns both parts to come: None and the error if it is one.
        Raises ``BackendUnavailable``."""
        loop = asyncio.get_running_loop()
        pair = loop.create_future(), loop.create_future()
        self._begin(commands, [pair])
        return pair

    def _begin(self, commands: Sequence[bytes], waiting: Sequence[Sequence[Future[Any]]]) -> None:
        if self._cause is not None or self._wire is None:
            raise not_connected(self._cause or ConnectionError("closed"), self._server) from self._cause
        self._waiting += waiting
        self._wire.send(commands)
        if self._next_look is None:
            self._look_later(self._answered, LOOKS)

    async def end(self, replies: Sequence[Future[Any]]) -> list[Any]:
        """Returns the replies once they have come. Raises ``BackendUnavailable`` if they do not."""
        answers = [await reply for reply in replies]
        self._server.follow(answers)
        return answers

    async def run(self, verb: Verb[T]) -> T:
        """Runs a verb, for a coroutine that has the connection for itself."""
        return await carried_out(verb, self.send)

    def _look_later(self, answered: int, left: int) -> None:
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(self._look_every, self._look, answered, left - 1)

    def _look(self, answered: int, left: int) -> None:
        """Gives the connection up if no reply has come for too long.

        It counts looks: an application that blocks the loop for as long has heard of no reply that came meanwhile.
        """
        self._next_look = None
        if not self._waiting:
            return
        if self._answered != answered:
            left = LOOKS
        if left:
            self._look_later(self._answered, left)
        else:
            self._fail(TimeoutError(f"no answer within {self._look_every * LOOKS:g} s"))

    async def _watch(self, wire: Wire) -> None:
        """Waits for the end of the connection, or of the event loop, which cancels all tasks and tells no transport."""
        try:
            await wire.ended.wait()
        finally:
            self._fail(ConnectionError("the event loop has ended"))

    def _replied(self, reply: Any) -> None:
        if isinstance(reply, PushNotification):
            self._pushed(reply)
        elif isinstance(reply, ConnectionError | RedisConnectionError):  # a server that reads its data, or has no room
            self._fail(reply)
        else:
            self._answer(reply)

    def _answer(self, reply: Any) -> None:
        self._answered += 1
        if self._waiting:
            waiting = self._waiting.popleft()
            parts = [None, reply] if isinstance(reply, ResponseError) else reply
            for each, part in zip(waiting, parts if len(waiting) > 1 else [reply], strict=True):
                if not each.done():  # it was cancelled
                    each.set_result(part)
        if self._is_retired and not self._waiting:
            self.close()

    # Messages ---------------------------------------------------------------------------------------------------------

    async def subscribe(self, channel: str, command: str = "SUBSCRIBE") -> None:
        """Returns when the server sends what is published there. Raises ``BackendError``."""
        (reply,) = await self.send([(command, channel)])
        if isinstance(reply, ResponseError):
            self.close()
            raise not_connected(reply, self._server) from reply

    async def hear(self, seconds: float, on_message: OnMessage) -> bool:
        """See ``OwnConnection.hear``. Messages are passed on before anything that this turn of the event loop has made
        ready: a task that was woken for them would come after all that."""
        for message in self._messages:
            on_message(message)
        self._messages.clear()
        self._on_message = on_message
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._has_heard.wait()
        finally:
            self._on_message = None
        if self._cause is not None:
            raise lost(self._cause, self._server.where) from self._cause
        has_heard = self._has_heard.is_set()
        self._has_heard.clear()
        return has_heard

    def _pushed(self, push: Any) -> None:
        if push[0] in ("subscribe", "ssubscribe"):
            self._answer(push)
        elif push[0] in ("message", "smessage"):
            if self._on_message is None:
                self._messages.append(push[2])
            else:
                self._on_message(push[2])
            self._has_heard.set()

    # The end ----------------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Makes ``hear`` fail at once."""
        self.close()

    def close(self) -> None:
        """Closes it at once; callers that wait for a reply get an error. Idempotent."""
        self._fail(ConnectionError("closed"))

    def retire(self) -> None:
        """Closes it once all replies have come: other callers wait for theirs. From now on it is not good."""
        self._is_retired = True
        if not self._waiting:
            self.close()

    def abandon(self) -> None:
        """Ends the session, from another event loop than its own, which may be closed; if not, it hears of that."""
        if self._connection._writer is not None:
            with suppress(OSError):
                self._connection._writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    async def ended(self) -> None:
        """Waits a moment for its end, once it is closed."""
        if self._watching is not None:
            await asyncio.wait([self._watching], timeout=ENDED_WITHIN)

    def _fail(self, cause: BaseException) -> None:
        if self._cause is not None:
            return
        self._cause = cause
        for waiting in chain.from_iterable(self._waiting):
            if not waiting.done():
                waiting.set_exception(lost(cause, self._server.where))
                waiting.exception()  # a caller that sent several commands waits for the first reply alone
        self._waiting.clear()
        self._has_heard.set()
        if self._next_look is not None:
            self._next_look.cancel()
        if self._connection._writer is not None:
            self._connection._writer.transport.abort()  # at once, whatever waits to be written
            self._connection._close()

    async def _disconnect(self) -> None:
        with suppress(Exception):
            await self._connection.disconnect(nowait=True)

    async def _leave_sentinels(self) -> None:
        """Closes the connections on which it has asked for the primary: see ``Server.asks``."""
        if isinstance(self._connection, SentinelManagedConnection):
            for sentinel in self._connection.connection_pool.sentinel_manager.sentinels:
                with suppress(Exception):
                    await sentinel.aclose()


def keep(link: AsyncLink, replies: Sequence[Any]) -> None:
    """Gives a connection up if its replies say that another one is needed."""
    if any(isinstance(reply, ResponseError) and word_of(reply) in ELSEWHERE for reply in replies):
        link.retire()


def running_loop() -> AbstractEventLoop:
    """Returns the running event loop. Raises ``UsageError`` if none of asyncio's runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(NO_LOOP) from None


class AsyncLinks:
    """The connection of a queue, which is made when it is needed, and made again when it has broken.

    It belongs to one event loop. Once that has ended, or stands still, it is made again on the next one.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._link: AsyncLink | None = None
        self._connecting: Task[AsyncLink] | None = None
        self._loop: AbstractEventLoop | None = None
        self._apart: AsyncLinks | None = None  # for what waits for replicas: all that is sent later waits behind it

    def enter(self) -> None:
        """Moves to the running event loop. Raises ``UsageError`` if the former one still runs, and needs it."""
        loop, former = running_loop(), self._loop
        if loop is former:
            return
        link = self._link
        if former is not None and former.is_running() and (self._connecting or (link is not None and link.is_good)):
            raise UsageError(IN_USE_ELSEWHERE)
        self._loop, self._link, self._connecting = loop, None, None
        if link is not None:
            link.abandon()

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Does as ``AsyncLink.send``. Raises ``BackendError``."""
        self.enter()
        if commands[-1][0] == "WAIT" and self._apart is not self:
            if self._apart is None:
                self._apart = AsyncLinks(self.server)
                self._apart._apart = self._apart
            return await self._apart.send(commands)
        link = self._link
        if link is None or not link.is_good:
            link = await self._connected()
        return await self._settled(link, await link.send(commands), commands)

    @property
    def is_here(self) -> bool:
        """See ``Post.is_here``."""
        return self._loop is asyncio.get_running_loop()

    @property
    def ready_one(self) -> AsyncLink | None:
        """The connection, if there is one that can be used here and now."""
        link = self._link
        return link if link is not None and link.is_good and self.is_here else None

    def begin(self, commands: Sequence[bytes]) -> tuple[AsyncLink, Sequence[Future[Any]]] | None:
        """Sends commands if there is a connection; see ``Post.begin``."""
        link = self.ready_one
        return None if link is None else (link, link.begin(commands))

    async def end(self, begun: tuple[AsyncLink, Sequence[Future[Any]]], commands: Sequence[Command]) -> Sequence[Any]:
        """Returns the replies to these commands, which ``begin`` has sent. Raises ``BackendError``."""
        link, replies = begun
        return await self._settled(link, await link.end(replies), commands)

    async def _settled(self, link: AsyncLink, replies: list[Any], commands: Sequence[Command]) -> list[Any]:
        """Returns these replies, or those of another node."""
        if self.server.follow(replies):
            link.retire()
            link = self._link or link
            if not link.is_good:  # else another caller has followed
                link = await self._connected()
            replies = await link.send(commands)
        keep(link, replies)
        return replies

    async def _connected(self) -> AsyncLink:
        """Returns the connection; callers that come meanwhile wait for the same connect."""
        connecting = self._connecting
        if connecting is None:
            connecting = self._connecting = asyncio.create_task(self._connect(), name="fang-redis-connect")
            connecting.add_done_callback(_heard)
        await asyncio.wait([connecting])
        if connecting.cancelled():
            raise not_connected(ConnectionError("the queue was closed"), self.server)
        return connecting.result()

    async def _connect(self) -> AsyncLink:
        try:
            link = await AsyncLink.connected(self.server)
            if self._connecting is asyncio.current_task():  # else another event loop has the queue by now
                self._link = link
            return link
        finally:
            if self._connecting is asyncio.current_task():
                self._connecting = None

    async def close(self) -> None:
        """Closes it; the next call makes another one. Never waits for long. Raises ``UsageError`` like ``enter``."""
        self.enter()
        apart, self._apart = self._apart, None
        if apart is not None and apart is not self:
            await apart.close()
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait([connecting], timeout=ENDED_WITHIN)
        link, self._link = self._link, None
        if link is not None:
            link.close()
            await link.ended()


def _heard(connecting: Task[AsyncLink]) -> None:
    """Hears of a connect that failed, since all who waited for it may be gone."""
    if not connecting.cancelled():
        connecting.exception()
