"""A TCP proxy before a server, which does to connections what networks do.

It runs on an event loop of its own in a thread. A rule decides for each connection, and for all of them at once when it
changes: ``PASS`` forwards; ``BLACKHOLE`` forwards nothing more and keeps the sockets open, so that each side believes
in the other (half-open); ``HOLD`` does the same, and forwards what it has kept once all is well again, as TCP does
when a network heals; ``RESET`` ends a connection with RST, ``CLOSE`` with FIN; ``FORGET`` ends it with RST when the
client sends something next, as a NAT does that has forgotten it; ``REFUSE`` ends new ones before anything was
forwarded, and leaves those alone that stand. Bytes that a black hole has swallowed do not come out of it again.
``slow_down`` makes the way long, or narrow, or both.
"""

import asyncio
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum, auto
from math import inf
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sqlalchemy import make_url

from tests.patience import PATIENT

T = TypeVar("T")

CHUNK: Final = 65_536
SMALL_CHUNK: Final = 2_048


class Mode(Enum):
    """What becomes of a connection's bytes."""

    PASS = auto()
    BLACKHOLE = auto()
    HOLD = auto()
    RESET = auto()
    CLOSE = auto()
    FORGET = auto()
    REFUSE = auto()


class Way:
    """How long it takes, for all connections together. Each piece waits by itself, so that small ones overtake."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bytes_per_second = inf
        self._free_at = 0.0

    def wait(self, size: int) -> float:
        """Seconds until so many bytes have gone along."""
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + size / self.bytes_per_second
        return self._free_at - now + self.seconds


class Connection:
    """One client's connection, and ours to the server in its name."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ways: tuple[Way, Way]) -> None:
        self._client = (reader, writer)
        self.client = writer.get_extra_info("peername")
        self._writers = [writer]
        self._ways = ways
        self.swallows = False
        self._is_forgotten = False
        self._flows = asyncio.Event()
        self.sent = bytearray()
        """What the client has sent so far: says which connection this is."""

    async def forward(self, server: Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        """Until one side ends."""
        reader, writer = self._client
        try:
            await self._flows.wait()
        except asyncio.CancelledError:
            server.close()
            raise
        try:
            server_reader, server_writer = await server
        except OSError:
            if self.swallows:
                await asyncio.Event().wait()  # nor does it learn that nobody is there
            raise
        self._writers.append(server_writer)
        there, back = self._ways
        up = asyncio.create_task(self._pump(reader, server_writer, there, self.sent.extend))
        down = asyncio.create_task(self._pump(server_reader, writer, back, lambda data: None))
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (up, down):
                pump.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, see: Callable[[bytes], None]
    ) -> None:
        while data := await reader.read(CHUNK if way.bytes_per_second == inf else SMALL_CHUNK):
            see(data)
            if self._is_forgotten:
                self.reset()
                return
            if seconds := way.wait(len(data)):
                await asyncio.sleep(seconds)
            await self._flows.wait()
            if not self.swallows:
                writer.write(data)
                await writer.drain()
        await self._flows.wait()
        if self.swallows:
            await asyncio.Event().wait()  # the other side does not learn of the end either

    def obey(self, mode: Mode) -> None:
        """From now on."""
        self.swallows = mode is Mode.BLACKHOLE
        self._is_forgotten = mode is Mode.FORGET
        if mode is Mode.HOLD:
            self._flows.clear()
        else:
            self._flows.set()
        if mode is Mode.RESET:
            self.reset()
        if mode is Mode.CLOSE:
            self._abort()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def reset(self) -> None:
        """Ends both sides with RST."""
        for writer in self._writers:
            peer = writer.get_extra_info("socket")
            if peer.family != socket.AF_UNIX:
                with suppress(OSError):  # it may have ended by itself just now
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._abort()

    async def close(self) -> None:
        """Ends both sides."""
        self._abort()
        for writer in self._writers:
            with suppress(OSError):
                await writer.wait_closed()


async def end_of(server: asyncio.Server) -> None:
    """Closes a server that has its event loop to itself, and ends all that runs there."""
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    this = asyncio.current_task()
    while tasks := asyncio.all_tasks() - {this}:  # a connection that is being accepted makes another one
        await asyncio.sleep(0)  # one that was cancelled before it has begun would leave its connection open
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    server.close()  # not earlier: a connection of a closed server that is being accepted would stay open
    await server.wait_closed()
    await asyncio.sleep(0)  # transports that were aborted close in the loop's next round


class Proxy:
    """Listens while it is entered; ``url`` leads to the server at the URL that was given, through the proxy."""

    def __init__(self, url: str) -> None:
        self._server_url = make_url(url)
        self._mode = Mode.PASS
        self._ways = (Way(), Way())
        self._connections: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.accepted = 0
        """Connections that were made so far."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._server_url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._call(end_of(self._server))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, mode: Mode) -> None:
        """For every connection there is, and every one to come."""
        self._call(self._set(mode, None))

    def set_where(self, mode: Mode, sent: bytes) -> int:
        """For those connections whose client has sent what this expression finds; how many."""
        return self._call(self._set(mode, sent))

    def has_silenced(self, address: Any) -> bool:
        """Whether this is the client's end of a connection in a black hole; any thread may ask."""
        return any(each.swallows and each.client == address for each in tuple(self._connections))

    def lead_to(self, url: str) -> None:
        """Connections to come go to another server, as where an address has moved."""
        self._server_url = make_url(url)

    def slow_down(self, *, seconds: float = 0.0, bytes_per_second: float = inf) -> None:
        """Every piece takes so long, each way; and so many bytes pass in a second, each way, of all connections."""
        for way in self._ways:
            way.seconds, way.bytes_per_second = seconds, bytes_per_second

    async def _set(self, mode: Mode, sent: bytes | None) -> int:
        if sent is None:
            self._mode = mode
        chosen = [connection for connection in self._connections if sent is None or re.search(sent, connection.sent)]
        for connection in chosen:
            connection.obey(mode)
        return len(chosen)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = Connection(reader, writer, self._ways)
        if self._mode in {Mode.REFUSE, Mode.RESET}:
            connection.reset()
            return
        connection.obey(self._mode)
        self._connections.add(connection)
        try:
            await connection.forward(self._server_streams())
        except (OSError, asyncio.CancelledError):
            pass  # the server is not there, or the proxy ends
        finally:
            with suppress(asyncio.CancelledError):  # it was ending already when the proxy did
                await connection.close()
            self._connections.discard(connection)

    async def _server_streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = self._server_url
        host = url.host or str(url.query["host"])
        port = url.port or int(str(url.query.get("port", 5432)))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENT)
