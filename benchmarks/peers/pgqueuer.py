"""Runs pgqueuer, on asyncpg and uvloop, as its own command does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

new_event_loop = uvloop.new_event_loop


class Peer:
    def __init__(self, url: str, *, batch_size: int) -> None:
        self.version = version("pgqueuer")
        self._url = url
        self._batch_size = batch_size

    async def install(self) -> None:
        async with self._connection() as connection:
            await Queries(AsyncpgDriver(connection)).install()

    async def insert(self, numbers: Sequence[int]) -> None:
        async with self._connection() as connection:
            payloads: list[bytes | None] = [b"%d" % number for number in numbers]
            many = len(payloads)
            await Queries(AsyncpgDriver(connection)).enqueue(["noop"] * many, payloads, [0] * many)

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], object]]:
        async with self._connection() as worker, self._connection() as producer:
            pgq = PgQueuer.from_asyncpg_connection(worker)

            @pgq.entrypoint("noop")
            async def noop(job: Job) -> None:
                assert job.payload is not None
                ran(int(job.payload))

            queries = Queries(AsyncpgDriver(producer))
            # The manager of the queue alone: there are no schedules.
            running = asyncio.create_task(pgq.qm.run(batch_size=self._batch_size))
            yield lambda number: queries.enqueue("noop", b"%d" % number)
            pgq.shutdown.set()
            await running

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self._url)
        try:
            yield connection
        finally:
            await connection.close()
