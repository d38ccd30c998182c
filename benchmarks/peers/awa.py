"""Runs awa (awa-pg): a core in Rust, handlers in Python."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from awa import AsyncClient

QUEUE = "bench"


@dataclass
class Noop:
    n: int


class Peer:
    def __init__(self, url: str, *, workers: int, options: dict[str, Any] | None = None) -> None:
        self.version = version("awa-pg")
        # Its driver refuses a URL with a user and no host, so the user moves to the query with the socket's directory.
        parts = urlsplit(url)
        self._url = f"postgresql://{parts.path}?{parts.query}&user={parts.username}"
        self._queue = {"name": QUEUE, "max_workers": workers, **(options or {})}

    async def install(self) -> None:
        async with AsyncClient(self._url) as client:
            await client.migrate()
        async with self.working(lambda _: None):
            pass  # the first worker switches a fresh database to the faster of its two engines

    async def insert(self, numbers: Sequence[int]) -> None:
        async with AsyncClient(self._url) as client:
            await client.enqueue_many_copy([Noop(number) for number in numbers], queue=QUEUE)

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], object]]:
        async with AsyncClient(self._url) as client:

            @client.task(Noop, queue=QUEUE)
            async def noop(job: Any) -> None:
                ran(job.args.n)

            await client.start([self._queue])
            yield lambda number: client.insert(Noop(number), queue=QUEUE)
            await client.shutdown()
