"""Implements as much HTTP as the example needs: one GET, with the known ETag. An application uses a real client."""

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit


class Response(NamedTuple):
    status: int
    etag: str
    body: bytes


async def get(url: str, known_etag: str | None, *, within: float) -> Response:
    """Fetches a URL. Raises ``OSError`` or ``TimeoutError``."""
    async with asyncio.timeout(within):
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            condition = f"If-None-Match: {known_etag}\r\n" if known_etag else ""
            writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{condition}\r\n".encode())
            raw = await reader.read()  # the server closes the connection after its answer
        finally:
            writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Response(int(status.split()[1]), headers.get("etag", ""), body)
