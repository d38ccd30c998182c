"""Runs the reader until every feed was synced a few times, prints how fast that was, and checks the written rows."""

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import Engine, create_engine, make_url

from examples.feed_reader import database, server
from examples.feed_reader.tasks import Application
from fang_async import AsyncQueue, AsyncWorkerPool
from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from fang_threaded import Queue, WorkerPool

GIVE_UP_SECONDS = 300.0


def main() -> int:
    """Returns the exit code: 0 if everything was synced and written once."""
    options = _options()
    # The publishers refuse a part of the requests on purpose; a warning for each retry would bury the report.
    logging.getLogger("fang_async").setLevel(logging.ERROR)
    if options.database_url:
        return run(options.database_url, options.feeds, options.times)
    with EmbeddedPostgres() as postgres:
        return run(postgres.url, options.feeds, options.times)


def run(url: str, feeds: int, times: int) -> int:
    """Syncs this many feeds this often."""
    migrate.upgrade(url)
    Application.engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with publishers() as address, Queue(url) as queue:
            for task_type in ("feeds", "parse"):
                queue.remove_tasks_type(task_type)  # left by an earlier run of the example
            database.create(Application.engine, [f"{address}/{number}" for number in range(feeds)])
            with WorkerPool(queue, number_of_workers=4, task_type="parse"):
                done = asyncio.run(sync(url, feeds, times))
        return report(Application.engine, feeds, times, done)
    finally:
        Application.engine.dispose()


async def sync(url: str, feeds: int, times: int) -> database.Progress:
    """Runs the asyncio pool until every feed was synced often enough; the schedule starts by itself."""
    queue = AsyncQueue(url)
    async with (
        asyncpg.create_pool(url) as Application.pool,
        AsyncWorkerPool(queue, number_of_workers=100, task_type="feeds"),
    ):
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while True:
            done = await asyncio.to_thread(look, Application.engine, times)
            if done.synced == feeds or time.monotonic() > deadline:
                return done
            await asyncio.sleep(0.2)


def look(engine: Engine, times: int) -> database.Progress:
    with engine.connect() as connection:
        return database.progress(connection, times)


@contextmanager
def publishers() -> Iterator[str]:
    """Starts the server of the feeds, which ends with its input; yields its address."""
    command = [sys.executable, "-m", server.__name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def report(engine: Engine, feeds: int, times: int, done: database.Progress) -> int:
    """Compares the written entries with the published ones."""
    with engine.connect() as connection:
        rows = database.written(connection)
    twice = sum(row.entries - row.guids for row in rows)
    wrong = [row.url for row in rows if row.guids != published(row)]
    rate = 60 * done.syncs / max(done.seconds, 0.001)
    print(f"{done.syncs} syncs in {done.seconds:.1f} s: {rate:,.0f} feeds a minute; {done.unchanged} had not changed")
    print(f"{done.synced} of {feeds} feeds synced {times} times or more; {len(wrong)} differ from what was published")
    print(f"{sum(row.entries for row in rows)} entries, {twice} of them twice")
    return 0 if done.synced == feeds and not twice and not wrong else 1


def published(row: database.Written) -> int:
    """Returns how many entries the feed had when it was fetched last."""
    if row.etag is None:
        return 0
    return len(list(server.entries(number=int(row.url.rpartition("/")[2]), version=int(row.etag.strip('"')))))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.feed_reader", description=__doc__)
    parser.add_argument("--feeds", type=int, default=2_000)
    parser.add_argument("--times", type=int, default=2, help="how often each feed is synced, at least")
    parser.add_argument(
        "--database-url",
        default=os.environ.get("FANG_DATABASE_URL"),
        help="of a database whose schema feed_reader is replaced; an embedded Postgres if not given",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
