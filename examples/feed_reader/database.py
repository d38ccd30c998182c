"""Makes, reads and writes the reader's own tables, in a schema of their own.

A task can run again, and a newer fetch can be parsed before an older one. So an entry is written once, by its key, and
a feed's row changes only for a fetch that is newer than the one it records.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import asyncpg
from sqlalchemy import Connection, Engine, text

from examples.feed_reader.parsing import Entry

TABLES = text("""
    DROP SCHEMA IF EXISTS feed_reader CASCADE;
    CREATE SCHEMA feed_reader;
    CREATE TABLE feed_reader.feeds (
        url text PRIMARY KEY, etag text, fetched_at timestamptz NOT NULL DEFAULT '-infinity',
        syncs int NOT NULL DEFAULT 0, unchanged int NOT NULL DEFAULT 0
    );
    CREATE TABLE feed_reader.entries (
        feed text REFERENCES feed_reader.feeds, guid text, title text NOT NULL, link text NOT NULL,
        PRIMARY KEY (feed, guid)
    );
    CREATE TABLE feed_reader.syncs (began_at timestamptz NOT NULL, fetches int NOT NULL);
""")
_WRITE_ENTRIES = text("""
    INSERT INTO feed_reader.entries (feed, guid, title, link)
    SELECT :feed, unnest(CAST(:guids AS text[])), unnest(CAST(:titles AS text[])), unnest(CAST(:links AS text[]))
    ON CONFLICT (feed, guid) DO NOTHING
""")
_CHANGED = text("""
    UPDATE feed_reader.feeds SET etag = :etag, fetched_at = :fetched_at, syncs = syncs + 1
    WHERE url = :feed AND fetched_at < :fetched_at
""")
_UNCHANGED = """
    UPDATE feed_reader.feeds SET fetched_at = $2, syncs = syncs + 1, unchanged = unchanged + 1
    WHERE url = $1 AND fetched_at < $2
"""
_PROGRESS = text("""
    SELECT count(*) FILTER (WHERE syncs >= :times) AS synced, sum(syncs) AS syncs, sum(unchanged) AS unchanged,
        extract(epoch FROM clock_timestamp() - (SELECT min(began_at) FROM feed_reader.syncs)) AS seconds
    FROM feed_reader.feeds
""")
_WRITTEN = text("""
    SELECT url, etag, count(guid) AS entries, count(DISTINCT guid) AS guids
    FROM feed_reader.feeds LEFT JOIN feed_reader.entries ON feed = url GROUP BY url
""")


class Known(NamedTuple):
    """A feed's last ETag when it is fetched, and the time of the fetch by the database's clock."""

    etag: str | None
    at: datetime


# In asyncio -----------------------------------------------------------------------------------------------------------


async def urls(pool: asyncpg.Pool) -> list[str]:
    return [row["url"] for row in await pool.fetch("SELECT url FROM feed_reader.feeds")]


async def begin_sync(connection: asyncpg.Connection, fetches: int) -> None:
    await connection.execute("INSERT INTO feed_reader.syncs VALUES (clock_timestamp(), $1)", fetches)


async def known(pool: asyncpg.Pool, url: str) -> Known:
    query = "SELECT etag, clock_timestamp() AS at FROM feed_reader.feeds WHERE url = $1"
    row = await pool.fetchrow(query, url)
    if row is None:
        raise LookupError("this feed no longer exists")
    return Known(row["etag"], row["at"])


async def write_unchanged(pool: asyncpg.Pool, url: str, fetched_at: datetime) -> None:
    await pool.execute(_UNCHANGED, url, fetched_at)


# In threads -----------------------------------------------------------------------------------------------------------


def create(engine: Engine, feeds: Iterable[str]) -> None:
    """Makes the tables with these feeds, and drops those of an earlier run."""
    with engine.begin() as connection:
        connection.execute(TABLES)
        subscribe = text("INSERT INTO feed_reader.feeds (url) SELECT unnest(CAST(:urls AS text[]))")
        connection.execute(subscribe, {"urls": list(feeds)})


def write_entries(connection: Connection, feed: str, etag: str, fetched_at: datetime, entries: list[Entry]) -> None:
    guids, titles, links = zip(*entries, strict=True) if entries else ((), (), ())
    values = {"guids": list(guids), "titles": list(titles), "links": list(links)}
    connection.execute(_WRITE_ENTRIES, {"feed": feed, **values})
    connection.execute(_CHANGED, {"feed": feed, "etag": etag, "fetched_at": fetched_at})


class Progress(NamedTuple):
    """How many feeds were synced often enough, all syncs, those without a change, and the seconds that they took."""

    synced: int
    syncs: int
    unchanged: int
    seconds: float


def progress(connection: Connection, times: int) -> Progress:
    row = connection.execute(_PROGRESS, {"times": times}).one()
    return Progress(row.synced, row.syncs, row.unchanged, float(row.seconds or 0))


class Written(NamedTuple):
    """A feed, with the number of its written entries."""

    url: str
    etag: str | None
    entries: int
    guids: int


def written(connection: Connection) -> list[Written]:
    return [Written(*row) for row in connection.execute(_WRITTEN)]
