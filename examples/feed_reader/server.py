"""Serves the feeds of the example as their publishers would: some are slow, some fail, most have not changed.

It runs in a process of its own, so that it takes no time from the reader: ``python -m examples.feed_reader.server``. It
prints its address, and ends with its input.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from functools import partial
from threading import Thread

PUBLISHING_SECONDS = 3.0
"""Seconds between two new entries of a feed that publishes; every fourth feed does."""

_RSS_ITEM = "<item><guid>{0}</guid><title>Entry {0}</title><link>http://feeds.example/{0}</link></item>"
_ATOM_ENTRY = '<entry><id>{0}</id><title>Entry {0}</title><link href="http://feeds.example/{0}"/></entry>'


def entries(number: int, version: int) -> Iterator[str]:
    """Yields the guids of a feed at some version: it begins with 1 to 20, and each version adds one."""
    yield from (f"{number}-{entry}" for entry in range(1 + number % 20 + version))


def is_slow(number: int) -> bool:
    return number % 20 == 7


def fails_at_first(number: int) -> bool:
    return number % 10 == 3


def document(number: int, version: int) -> str:
    """Returns RSS for feeds with an even number, Atom for the rest."""
    if number % 2 == 0:
        items = "".join(map(_RSS_ITEM.format, entries(number, version)))
        return f'<rss version="2.0"><channel><title>Feed {number}</title>{items}</channel></rss>'
    items = "".join(map(_ATOM_ENTRY.format, entries(number, version)))
    return f'<feed xmlns="http://www.w3.org/2005/Atom"><title>Feed {number}</title>{items}</feed>'


class FeedServer:
    """Serves HTTP/1.1, one request for each connection."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._asked: set[int] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads one request and answers it."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *headers = head.splitlines()
        number = int(request.split()[1].removeprefix("/"))
        known = next((line.partition(": ")[2] for line in headers if line.startswith("If-None-Match: ")), None)
        if is_slow(number):
            await asyncio.sleep(1)
        writer.write(self._response(number, known))
        await writer.drain()
        writer.close()

    def _response(self, number: int, known: str | None) -> bytes:
        is_first = number not in self._asked
        self._asked.add(number)
        if is_first and fails_at_first(number):
            return _response("500 Internal Server Error")
        version = int((time.monotonic() - self._began) / PUBLISHING_SECONDS) if number % 4 == 0 else 0
        etag = f'"{version}"'
        if known == etag:
            return _response("304 Not Modified", etag)
        return _response("200 OK", etag, document(number, version))


def _response(status: str, etag: str = '""', body: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nETag: {etag}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


async def serve() -> None:
    """Serves on a free port until the input ends."""
    over = asyncio.Event()
    server = await asyncio.start_server(FeedServer().answer, "127.0.0.1", 0, backlog=1000)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    end = partial(asyncio.get_running_loop().call_soon_threadsafe, over.set)
    Thread(target=lambda: (sys.stdin.read(), end()), daemon=True).start()
    async with server:
        await over.wait()


if __name__ == "__main__":
    asyncio.run(serve())
