"""Takes the transport of a connection over from redis-py, once the server has let it in: no task stands between what is
sent and the socket, nor between the server's reply and the caller that waits for it.

redis-py's streams cost two turns of the event loop for each command, and as much CPU again as the command.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
from redis.exceptions import InvalidResponse

CLOSED: Final = "Connection closed by server."
"""What redis-py says when the other end has gone."""

_MORE: Final = object()


class Wire(asyncio.Protocol):
    """Writes commands, and reads replies and messages; it takes the transport of ``connection`` over at once.

    Args:
        connection: a connection of redis-py's, which is connected and has read all replies.
        on_reply: gets each reply; a refusal is a ``ResponseError``.
        on_lost: gets the reason why nothing more can be read or written.
    """

    def __init__(
        self, connection: Any, on_reply: Callable[[Any], None], on_lost: Callable[[BaseException], None]
    ) -> None:
        self._on_reply = on_reply
        self._on_lost = on_lost
        encoder = connection.encoder
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            encoding=encoder.encoding,
            errors=encoder.encoding_errors,
            notEnoughData=_MORE,
        )
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._is_flushing = False
        self.ended = asyncio.Event()
        """Set when the transport has ended."""
        self._transport: asyncio.WriteTransport = connection._writer.transport
        if self._transport.is_closing():
            raise ConnectionError(CLOSED)
        self._transport.set_protocol(self)

    def send(self, commands: Sequence[bytes]) -> None:
        """Sends commands at once; what else is sent in this turn of the event loop goes together behind them."""
        if self._is_flushing:
            self._unsent += commands
            return
        self._write(commands)
        self._is_flushing = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self._write(unsent)

    def _write(self, commands: Sequence[bytes]) -> None:
        """Writes, unless the connection is lost.

        From Python 3.12 on, a lost transport would have the event loop wait until its socket, which is closed, can be
        written to; the next connection has the number of that socket, and would never be read.
        """
        if not self._transport.is_closing():
            self._transport.writelines(commands)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                self._on_reply(reply)
        except (InvalidResponse, UnicodeError, hiredis.HiredisError) as error:
            self._on_lost(error)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See ``asyncio.Protocol``."""
        self.ended.set()
        self._on_lost(exc or ConnectionError(CLOSED))
