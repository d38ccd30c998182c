"""A proxy before Postgres that loses the reply to the end of a transaction: it was committed, and nobody was told.

It reads the headers of messages, so that this is exact. A rule names a statement by its text; the reply that is lost is
the one that ends the transaction in which such a statement ran: that of COMMIT, or of the statement itself where it
commits by itself. Both are known by their ReadyForQuery, which says that no transaction is open. TLS is refused.

Source: PostgreSQL manual, 'Frontend/Backend Protocol', message formats.
"""

import asyncio
import re
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Final, Self

from sqlalchemy import make_url

from tests.proxy import end_of

_ENCRYPTION_REQUESTS: Final = {80_877_103, 80_877_104}
_CHUNK: Final = 65_536


class Frontend:
    """What a client sends, without I/O: the texts of the statements that it has run."""

    def __init__(self) -> None:
        self._unread = b""
        self._started = False
        self._prepared: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> tuple[bytes, list[bytes], bool]:
        """What to pass on, the texts of statements in it, and whether the client has asked for encryption."""
        self._unread += data
        if not self._started:
            if len(self._unread) < 8:
                return b"", [], False
            if struct.unpack("!i", self._unread[4:8])[0] in _ENCRYPTION_REQUESTS:
                self._unread = self._unread[8:]
                return b"", [], True
            length = struct.unpack("!i", self._unread[:4])[0]
            if len(self._unread) < length:
                return b"", [], False
            startup, self._unread, self._started = self._unread[:length], self._unread[length:], True
            passed, texts, _ = self.feed(b"")
            return startup + passed, texts, False
        messages, self._unread = split(self._unread)
        return b"".join(messages), [text for message in messages for text in self._texts(message)], False

    def _texts(self, message: bytes) -> Iterator[bytes]:
        body = message[5:]
        match message[:1]:
            case b"Q":
                yield body
            case b"P":
                name, text, _ = body.split(b"\0", 2)
                self._prepared[name] = text
            case b"B":
                _, name, _ = body.split(b"\0", 2)
                yield self._prepared.get(name, b"")


class Backend:
    """What the server answers, without I/O: where the reply to a watched transaction's end stands in it."""

    def __init__(self) -> None:
        self._unread = b""
        self._held: list[bytes] = []
        self._committed = True
        self.watched = False
        """A statement of the rule has run in the transaction that is open."""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """What to pass on, piece by piece, and whether this piece is the reply to the end of a watched transaction."""
        messages, self._unread = split(self._unread + data)
        for message in messages:
            if not self.watched:
                yield message, False
                continue
            self._held.append(message)
            kind, body = message[:1], message[5:]
            if kind == b"E" or (kind == b"C" and body.startswith(b"ROLLBACK")):
                self._committed = False
            elif kind == b"Z":
                ended = body == b"I"
                held, self._held = b"".join(self._held), []
                yield held, ended and self._committed
                if ended:
                    self.watched, self._committed = False, True


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole messages, each a type, a length and a body; and the rest."""
    messages = []
    while len(data) >= 5 and len(data) > (length := struct.unpack("!i", data[1:5])[0]):
        messages.append(data[: length + 1])
        data = data[length + 1 :]
    return messages, data


class ReplyDropper:
    """Listens while it is entered; ``url`` leads to the server at the URL that was given, through the proxy."""

    def __init__(self, url: str) -> None:
        self._server_url = make_url(url)
        self._rule: re.Pattern[bytes] | None = None
        self._left = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="reply-dropper", daemon=True)
        self.dropped = 0
        """Replies that were lost so far."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._server_url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(end_of(self._server))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop(self, statement: bytes, times: int) -> None:
        """Loses the next replies to the end of a transaction in which a statement ran that this expression finds."""
        self._rule, self._left = re.compile(statement), times

    def keep(self) -> None:
        """Loses none any more."""
        self._left = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            server_reader, server_writer = await self._server_streams()
            writers.append(server_writer)
            backend = Backend()
            pumps = [
                asyncio.create_task(self._pump_up(reader, writer, server_writer, backend)),
                asyncio.create_task(self._pump_down(server_reader, writer, backend)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _pump_up(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, server: asyncio.StreamWriter, backend: Backend
    ) -> None:
        frontend = Frontend()
        while data := await reader.read(_CHUNK):
            passed, texts, wants_encryption = frontend.feed(data)
            if wants_encryption:
                client.write(b"N")
            if self._left and self._rule and any(self._rule.search(text) for text in texts):
                backend.watched = True
            server.write(passed)
            await server.drain()

    async def _pump_down(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, backend: Backend) -> None:
        while data := await reader.read(_CHUNK):
            for piece, ends_watched in backend.feed(data):
                if ends_watched and self._left:
                    self._left -= 1
                    self.dropped += 1
                    return
                client.write(piece)
            await client.drain()

    async def _server_streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = self._server_url
        host = url.host or str(url.query["host"])
        port = url.port or int(str(url.query.get("port", 5432)))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
