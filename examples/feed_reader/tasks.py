"""Defines the reader's tasks. Two are light and wait for the network; the third computes, so threads run it."""

from datetime import datetime, timedelta

import asyncpg
from sqlalchemy import Engine

from examples.feed_reader import database
from examples.feed_reader.fetching import get
from examples.feed_reader.parsing import parse
from fang_core import AsyncQueueable, AsyncRunnable, Constant, Cron, Queueable, Runnable, TaskConfig


class Application:
    """Holds the database connections of each pool, set when its workers start."""

    pool: asyncpg.Pool
    engine: Engine


class SyncFeeds(AsyncRunnable):
    """Inserts a fetch of every feed; unique, so that two syncs do not overlap."""

    task_config = TaskConfig(task_type="feeds", uniq=True, cron=Cron("*/2 * * * * *"))

    async def run(self, queue: AsyncQueueable) -> None:
        fetches = [FetchFeed(url=url) for url in await database.urls(Application.pool)]
        async with Application.pool.acquire() as connection, connection.transaction():
            tasks = await queue.insert_tasks(fetches, connection=connection)
            await database.begin_sync(connection, sum(not task.conflict for task in tasks))


class FetchFeed(AsyncRunnable):
    """Fetches one feed; unique, so that a slow feed is not fetched twice at once, however often syncs come."""

    task_config = TaskConfig(task_type="feeds", uniq=True, max_retries=5, backoff=Constant(delay=timedelta(seconds=1)))

    url: str

    async def run(self, queue: AsyncQueueable) -> None:
        known = await database.known(Application.pool, self.url)
        response = await get(self.url, known.etag, within=10)
        match response.status:
            case 200:
                parsing = ParseFeed(url=self.url, etag=response.etag, fetched_at=known.at, body=response.body)
                await queue.insert_task(parsing)
            case 304:
                await database.write_unchanged(Application.pool, self.url, known.at)
            case status:
                raise ConnectionError(f"status {status}")


class ParseFeed(Runnable):
    """Parses a fetched feed and writes its entries."""

    task_config = TaskConfig(task_type="parse")

    url: str
    etag: str
    fetched_at: datetime
    body: bytes

    def run(self, queue: Queueable) -> None:
        entries = parse(self.body)
        with Application.engine.begin() as connection:
            database.write_entries(connection, self.url, self.etag, self.fetched_at, entries)
