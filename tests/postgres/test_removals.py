"""Removals of many tasks: batch after batch, each committed by itself, up to what was there at the beginning."""

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fang_async import AsyncQueue
from fang_core.tasks.selecting import batches
from fang_postgres.sql import by_hand
from fang_postgres.statements import statements
from fang_threaded import Queue
from tests.modes import Database, Harness
from tests.postgres.filed import build_anew


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """A batch looks at seven rows, and removes three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_hand, "LOOKED_AT", 7)
        patch.setattr(batches, "MOST", 3)
        build_anew(patch, "remove_type", "remove_all", "remove_scheduled")
        yield
    statements.cache_clear()


INSERT = 'INSERT INTO fang.fang_tasks (id, metadata, task_type) SELECT unnest(%s::uuid[]), \'{"type": "X"}\', %s'
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)


@pytest.mark.parametrize("seed", range(4))
def test_exactly_those_of_the_type_go(harness: Harness, url: str, database: Database, seed: int) -> None:
    random = Random(seed)
    ids = [FIRST, LAST, *(UUID(int=random.getrandbits(128)) for _ in range(60))]
    gone = random.sample(ids, random.choice([1, 5, 30, 62]))
    kept = set(ids) - set(gone)
    database.execute(INSERT, gone, "gone")
    database.execute(INSERT, list(kept), "kept")
    told: list[int] = []
    assert harness.call(harness.queue(url).remove_tasks_type, "gone", on_progress=told.append) == len(gone)
    assert {id_ for (id_,) in database.rows("SELECT id FROM fang.fang_tasks")} == kept
    assert all(later - former <= 3 for former, later in zip([0, *told], told, strict=False))
    assert told[-1] == len(gone)


def test_each_batch_stands_and_what_is_inserted_behind_the_last_one_stays(
    harness: Harness, url: str, database: Database
) -> None:
    database.execute(INSERT, [UUID(int=n) for n in range(1, 21)], "common")
    stood: list[int] = []

    def look_and_insert(removed: int) -> None:
        [(count,)] = database.rows("SELECT count(*) FROM fang.fang_tasks WHERE id <= %s", UUID(int=20))
        stood.append(removed + count)
        database.execute(INSERT, [UUID(int=100 + removed)], "common")

    assert harness.call(harness.queue(url).remove_all_tasks, on_progress=look_and_insert) == 20
    assert set(stood) == {20}
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(len(stood),)]


def test_a_removal_that_is_stopped_leaves_what_is_done(
    harness: Harness, url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(INSERT, [UUID(int=n) for n in range(1, 21)], "common")

    def interrupt(removed: int) -> None:
        if removed >= 7:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as stopped:
        harness.call(harness.queue(url).remove_all_tasks, on_progress=interrupt)
    assert stopped.value.__notes__ == [
        "the removal was stopped: at least 7 tasks were removed before, and stay removed"
    ]
    assert "at least 7 tasks were removed before" in caplog.text
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(13,)]


async def test_a_cancelled_one_leaves_what_is_done(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It waits for a row that another session has locked."""
    async with AsyncQueue(url) as queue:
        with psycopg.connect(url) as locking:
            locking.execute(INSERT, ([UUID(int=n) for n in range(1, 21)], "common"))
            locking.commit()
            locking.execute("SELECT 1 FROM fang.fang_tasks WHERE id = %s FOR UPDATE", (UUID(int=15),))
            told: asyncio.Queue[int] = asyncio.Queue()
            removing = asyncio.create_task(queue.remove_all_tasks(on_progress=told.put_nowait))
            while await told.get() < 13:
                pass
            removing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await removing
            locking.rollback()
        assert "at least 13 tasks were removed before" in caplog.text
        assert await queue.remove_all_tasks() == 7


def test_all_of_it_is_part_of_the_callers_transaction(url: str, database: Database) -> None:
    database.execute(INSERT, [UUID(int=n) for n in range(1, 21)], "common")
    with Queue(url) as queue, psycopg.connect(url) as connection:
        told: list[Any] = []
        assert queue.remove_all_tasks(on_progress=told.append, connection=connection) == 20
        assert len(told) > 5
        connection.rollback()
        assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(20,)]
