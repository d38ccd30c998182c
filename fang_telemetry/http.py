"""Answers the probes of supervisors and the scrapes of Prometheus: a small HTTP server on threads of its own.

It serves nothing but what it is given, to GET and HEAD. Its threads are daemons, so that neither a slow client nor a
slow page holds up the end of the process.
"""

import io
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, NamedTuple, Self

from fang_core.errors import UsageError
from fang_core.logs import SafeLogger

logger = SafeLogger("fang_telemetry")

MOST_CONNECTIONS: Final = 16
"""How many clients are answered at once; more are turned away."""

MOST_OF_A_PAGE: Final = 4
"""How many clients are answered at once with the same page; more get a 503. A page that hangs, as one with a collector
of the application's that waits, must not keep the probes from being answered: supervisors kill for that."""

SLOWEST: Final = 5.0
"""Seconds that a client has to send its request, and to read the answer."""

_PAUSE: Final = 0.1  # seconds, if no connection can be accepted, as when the process has too many files open


class Reply(NamedTuple):
    """One answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Reply]]
"""The pages by their paths. Each is called on a thread of its own, several at once."""


class TelemetryServer:
    """Listens from when it is made. Raises ``UsageError`` if it cannot.

    Args:
        host: the address of one interface, or ``0.0.0.0`` or ``::`` for all.
        port: 0 for any that is free.
    """

    def __init__(self, pages: Pages, host: str, port: int) -> None:
        self._pages = pages
        self._places = {path: threading.BoundedSemaphore(MOST_OF_A_PAGE) for path in pages}
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._listener = socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
        except OSError as error:
            why = (error.strerror or str(error)).partition(" (while")[0]  # create_server says the address again
            raise UsageError(f"no port to listen on at {host}:{port}: {why}") from None
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        """The port that it listens on."""
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._ending = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="fang-http", daemon=True)

    def start(self) -> Self:
        """Begins to answer; returns itself."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stops listening, at once. Answers that are under way go on, on their threads. Idempotent."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._wake.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._listener.close()
        self._woken.close()

    def reply(self, path: str) -> Reply:
        """Makes the answer to a request for this path; never raises."""
        path = path.partition("?")[0]
        page = self._pages.get(path)
        if page is None:
            return Reply(404, "".join(f"{known}\n" for known in self._pages).encode())
        if not self._places[path].acquire(blocking=False):
            return Reply(503, b"others wait for this page already\n")
        try:
            return page()
        except Exception:
            logger.exception("the answer to %s could not be made", path)
            return Reply(500, b"see the log\n")
        finally:
            self._places[path].release()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._ending.is_set():
                selector.select()
                if not self._ending.is_set():
                    self._accept()

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._ending.wait(_PAUSE)
            return
        if not self._free.acquire(blocking=False):
            connection.close()
            return
        try:
            threading.Thread(target=self._answer, args=(connection, address), name="fang-http", daemon=True).start()
        except RuntimeError:  # the process can have no more threads
            self._free.release()
            connection.close()

    def _answer(self, connection: socket.socket, address: Any) -> None:
        try:
            with connection, suppress(OSError):
                _Request(connection, address, self)
        finally:
            self._free.release()


class Incoming(io.RawIOBase):
    """Reads from a client until a time of the monotonic clock, however slowly it sends; then raises
    ``TimeoutError``."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection = connection
        self._until = until

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads what has come, or waits for something."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Request(BaseHTTPRequestHandler):
    """Reads one request and answers it. HTTP/1.0, so that the end of the answer is the end of the connection."""

    server: TelemetryServer  # type: ignore[assignment]

    def __init__(self, connection: socket.socket, address: Any, server: TelemetryServer) -> None:
        super().__init__(connection, address, server)  # type: ignore[arg-type]

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(Incoming(self.connection, time.monotonic() + SLOWEST))

    def do_GET(self) -> None:
        status, body, content_type = self.server.reply(self.path)
        self.connection.settimeout(SLOWEST)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def version_string(self) -> str:
        return "fang"

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: probes come every few seconds."""
