"""Connections of threads: one for one thread at a time, and those that the threads of a queue share.

A connection on which anything went wrong is closed: a reply that comes late, after its time or after a Ctrl-C, can
never be taken for that of the next command.
"""

import select
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from hiredis import PushNotification, pack_command
from redis.exceptions import RedisError, ResponseError

from fang_core.errors import StatementRefused
from fang_core.interpreter.forks import ForkWatch, in_child
from fang_redis.connections.connecting import ANSWER_WITHIN, CONNECT_WITHIN, Server, sever
from fang_redis.connections.diagnosis import ELSEWHERE, lost, not_connected, word_of
from fang_redis.operations import as_it_is

MOST_IDLE: Final = 8
"""How many connections wait to be used again."""

IDLE_FOR: Final = 60.0
"""Seconds after which a connection that waits is not used again: a firewall may have forgotten it by then."""

Command: TypeAlias = tuple[Any, ...]
"""Texts and integers."""


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Returns the bytes to send. Raises ``StatementRefused``, before anything is sent."""
    try:
        return [pack_command(command) for command in commands]
    except UnicodeEncodeError:
        raise StatementRefused("half of a surrogate pair stands alone in a text, which UTF-8 cannot hold") from None


class Link:
    """One connection, which is connected when this is made. Raises ``BackendError``."""

    def __init__(self, server: Server, answer_within: float = ANSWER_WITHIN) -> None:
        self._server = server
        self._connection = server.connection(CONNECT_WITHIN, answer_within)
        self._messages: deque[str] = deque()
        self._poll = select.poll()
        self._is_closed = False
        self.used_at = time.monotonic()
        self._connect()
        in_child(self, Link._forked)

    def _connect(self) -> None:
        watch = ForkWatch()
        try:
            self._connection.connect()
            if watch.has_forked():  # a child has a copy of the socket, and would hide our death from the server
                self._connection.disconnect()
                self._connection.connect()
            self._poll.register(self._connection._sock, select.POLLIN)
        except (RedisError, OSError) as error:
            self.close()
            self._server.lose(self._connection)
            raise not_connected(error, self._server) from error
        except BaseException:  # Ctrl-C
            self.close()
            raise

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Sends commands at once; returns the reply to each, which is a ``ResponseError`` if that one was refused.

        Raises ``BackendUnavailable`` if the replies do not come, and then is closed.
        """
        self.begin(packed(commands))
        return self.end(len(commands))

    def begin(self, commands: Sequence[bytes]) -> None:
        """Sends commands; ``end`` has to follow. Raises ``BackendUnavailable``, and then is closed."""
        if self._is_closed:  # redis-py would connect again
            raise not_connected(ConnectionError("closed"), self._server)
        try:
            self._connection.send_packed_command(commands, check_health=False)
        except BaseException as error:
            self._broke(error)
            raise

    def end(self, count: int) -> list[Any]:
        """Returns the replies to as many commands. Raises like ``send``."""
        try:
            replies = [self._reply() for _ in range(count)]
        except BaseException as error:
            self._broke(error)
            raise
        self._server.follow(replies)
        self.used_at = time.monotonic()
        return replies

    def _broke(self, error: BaseException) -> None:
        """Closes the connection, as something went wrong. Raises ``BackendUnavailable`` unless it is another matter."""
        self.close()
        if isinstance(error, RedisError | OSError):
            raise lost(error, self._server.where) from error

    def _reply(self) -> Any:
        while isinstance(reply := self._read(), PushNotification):
            self._pushed(reply)
        return reply

    def _read(self) -> Any:
        """Returns the next reply or message."""
        try:
            return self._connection.read_response(push_request=True)
        except ResponseError as error:  # the server's answer; connections and timeouts have other errors
            return error

    # Messages ---------------------------------------------------------------------------------------------------------

    def subscribe(self, channel: str, command: str = "SUBSCRIBE") -> None:
        """Returns when the server sends what is published there. Raises ``BackendError``."""
        try:
            self._connection.send_command(command, channel, check_health=False)
            reply = self._read()
        except (RedisError, OSError) as error:
            self.close()
            raise not_connected(error, self._server) from error
        if isinstance(reply, ResponseError):
            self.close()
            raise not_connected(reply, self._server) from reply
        self._connection._parser.set_pubsub_push_handler(as_it_is)  # redis-py's own writes a log, who reads it or not

    def hear(self, seconds: float) -> list[str]:
        """Waits for messages for so long at most, and returns those that have come."""
        if self._is_closed:
            raise not_connected(ConnectionError("closed"), self._server)
        try:
            if not self._messages and self._connection.can_read(timeout=seconds):
                self._pushed(self._read())
        except (RedisError, OSError, ValueError) as error:  # the last of a socket that another thread has closed
            self.close()
            raise lost(error, self._server.where) from error
        heard = list(self._messages)
        self._messages.clear()
        return heard

    def _pushed(self, push: Any) -> None:
        if isinstance(push, PushNotification) and push[0] in ("message", "smessage"):
            self._messages.append(push[2])

    # The end ----------------------------------------------------------------------------------------------------------

    def is_good(self) -> bool:
        """Returns whether it can be used again, as far as can be told without asking the server."""
        if self._is_closed or time.monotonic() - self.used_at > IDLE_FOR:
            return False
        try:
            # The end of the connection, or a reply without a command. redis-py takes several system calls to see none.
            return not self._poll.poll(0) or not self._connection.can_read(timeout=0)
        except (RedisError, OSError):
            return False

    def interrupt(self) -> None:
        """Makes ``hear`` fail at once; any thread may call this."""
        sock = self._connection._sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(2)

    def close(self) -> None:
        """Closes it at once. Idempotent."""
        self._is_closed = True
        with suppress(Exception):
            self._connection.disconnect()

    def _forked(self) -> None:
        """Leaves the connection to the parent."""
        if self._connection._sock is not None:
            sever(self._connection._sock.fileno())


class Links:
    """The connections of a queue. Threads may share it; each takes one for the time of a call."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._idle: deque[Link] = deque()
        self._is_closed = False
        in_child(self, Links._forked)

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Does as ``Link.send``, on a connection that it makes if none waits. Raises ``BackendError``."""
        link = self._take()
        return self._settled(link, link.send(commands), commands)

    def begin(self, commands: Sequence[bytes]) -> Link | None:
        """Sends commands on a connection that waits, and returns it; None, at once, if there is none.

        Raises ``BackendError`` if they may have been sent.
        """
        link = self.ready_one()
        if link is not None:
            link.begin(commands)
        return link

    def ready_one(self) -> Link | None:
        """Returns a connection that waits, if there is one, for the caller alone; ``keep`` gives it back."""
        link = self._waiting()
        if link is None or link.is_good():
            return link
        link.close()
        return None

    def keep(self, link: Link, replies: Sequence[Any] = ()) -> None:
        """Has a connection wait to be used again, unless these last replies say that another one is needed."""
        if any(isinstance(reply, ResponseError) and word_of(reply) in ELSEWHERE for reply in replies):
            link.close()
            self._drop_idle()
        else:
            self._put(link)

    def end(self, link: Link, commands: Sequence[Command]) -> list[Any]:
        """Returns the replies to these commands, which ``begin`` has sent. Raises ``BackendError``."""
        return self._settled(link, link.end(len(commands)), commands)

    def _settled(self, link: Link, replies: list[Any], commands: Sequence[Command]) -> list[Any]:
        """Returns these replies, or those of another node; the connection waits to be used again."""
        if self.server.follow(replies):
            link.close()
            self._drop_idle()
            link = Link(self.server)
            replies = link.send(commands)
        self.keep(link, replies)
        return replies

    def close(self) -> None:
        """Closes those that wait, and each other one after its call."""
        self._is_closed = True
        self._drop_idle()

    def open(self) -> None:
        """Keeps connections again."""
        self._is_closed = False

    def _take(self) -> Link:
        while (link := self._waiting()) is not None:
            if link.is_good():
                return link
            link.close()
        return Link(self.server)

    def _waiting(self) -> Link | None:
        try:
            return self._idle.pop()
        except IndexError:  # another thread may have taken the last one
            return None

    def _put(self, link: Link) -> None:
        if self._is_closed or len(self._idle) >= MOST_IDLE:
            link.close()
        else:
            self._idle.append(link)
            if self._is_closed:  # meanwhile
                self._drop_idle()

    def _drop_idle(self) -> None:
        while (link := self._waiting()) is not None:
            link.close()

    def _forked(self) -> None:
        self._idle = deque()
