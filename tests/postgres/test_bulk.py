"""Bulk inserts, whose rows are made while the ones before are on their way."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pydantic import field_serializer
from sqlalchemy import create_engine, make_url

from fang_async import AsyncQueue
from fang_core import PayloadError, Runnable, TaskConfig
from fang_threaded import Queue
from tests.modes import Side
from tests.postgres.blocking import await_waiting

MANY = 2_500
MADE = threading.Event()
COUNT = "SELECT count(*) FROM fang.fang_tasks"


class Numbered(Runnable):
    """Says when the last but few of many is made into a row."""

    task_config = TaskConfig(kind="bulk.Numbered")
    n: int
    text: str = ""

    @field_serializer("n")
    def say(self, n: int) -> int:
        if n == MANY - 1_000:
            MADE.set()
        return n

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def watcher(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def lock(watcher: psycopg.Connection[Any], url: str) -> Iterator[psycopg.Connection[Any]]:
    """Inserts have reached the server, and wait there for the end of this transaction."""
    MADE.clear()
    waits = "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS "
    waits += "$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$"
    watcher.execute(waits.encode())
    watcher.execute("CREATE TRIGGER waits BEFORE INSERT ON fang.fang_tasks EXECUTE FUNCTION waits()")
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        yield connection


def test_rows_are_made_while_others_are_in_flight(
    side: Side, url: str, lock: psycopg.Connection[Any], watcher: psycopg.Connection[Any]
) -> None:
    inserting = side.begin(side.queue(url).insert_tasks, [Numbered(n=n) for n in range(MANY)])
    await_waiting(watcher, 1)
    assert MADE.wait(10)
    assert not inserting.done()
    lock.rollback()
    assert [task.metadata["n"] for task in inserting.result(20)] == list(range(MANY))
    stored = watcher.execute("SELECT metadata->>'n' FROM fang.fang_tasks ORDER BY scheduled_at, id").fetchall()
    assert [int(n) for (n,) in stored] == list(range(MANY))


def test_in_a_session_of_an_application_each_has_ended_when_the_next_is_made(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with Queue(engine) as queue:
        inserted = queue.insert_tasks([Numbered(n=n) for n in range(MANY)])
        assert [task.metadata["n"] for task in inserted] == list(range(MANY))
        assert queue.remove_all_tasks() == MANY
    engine.dispose()


def test_a_bad_one_leaves_nothing_of_those_that_were_sent(
    side: Side, url: str, watcher: psycopg.Connection[Any]
) -> None:
    queue = side.queue(url, max_pool_size=1)
    with pytest.raises(PayloadError, match="NUL"):
        side.call(queue.insert_tasks, [*(Numbered(n=n) for n in range(MANY)), Numbered(n=MANY, text="\0")])
    assert watcher.execute(COUNT).fetchone() == (0,)
    assert len(side.call(queue.insert_tasks, [Numbered(n=1)])) == 1


async def test_one_that_is_cancelled_leaves_nothing(
    url: str, lock: psycopg.Connection[Any], watcher: psycopg.Connection[Any]
) -> None:
    async with AsyncQueue(url, max_pool_size=1) as queue:
        inserting = asyncio.create_task(queue.insert_tasks([Numbered(n=n) for n in range(MANY)]))
        await asyncio.to_thread(await_waiting, watcher, 1)
        inserting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await inserting
        lock.rollback()
        assert len(await queue.insert_tasks([Numbered(n=1)])) == 1
        assert watcher.execute(COUNT).fetchone() == (1,)
