"""Runs procrastinate, on psycopg 3."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import procrastinate


class Peer:
    def __init__(self, url: str, *, concurrency: int) -> None:
        self.version = version("procrastinate")
        self._url = url
        self._concurrency = concurrency

    async def install(self) -> None:
        async with self._app(lambda _: None) as app:
            await app.schema_manager.apply_schema_async()

    async def insert(self, numbers: Sequence[int]) -> None:
        async with self._app(lambda _: None) as app:
            await app.tasks["noop"].batch_defer_async(*({"n": number} for number in numbers))

    @asynccontextmanager
    async def working(self, ran: Callable[[int], None]) -> AsyncIterator[Callable[[int], object]]:
        async with self._app(ran) as app:
            # Rows of successful jobs are deleted, as the other systems do.
            worker = app.run_worker_async(
                concurrency=self._concurrency, delete_jobs="successful", install_signal_handlers=False
            )
            running = asyncio.create_task(worker)
            yield lambda number: app.tasks["noop"].defer_async(n=number)
            running.cancel()  # the documented way to stop it; it waits for running jobs
            with suppress(asyncio.CancelledError):
                await running

    @asynccontextmanager
    async def _app(self, ran: Callable[[int], None]) -> AsyncIterator[procrastinate.App]:
        connector = procrastinate.PsycopgConnector(conninfo=self._url, max_size=20)
        app = procrastinate.App(connector=connector)

        @app.task(name="noop")
        async def noop(n: int) -> None:
            ran(n)

        async with app.open_async():
            yield app
