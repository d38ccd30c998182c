"""An effect that commits together with the end of its task: a row, in the transaction of ``queue.complete``."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import aiosqlite
import asyncpg
import psycopg
from sqlalchemy import make_url

from fang_core import current_run
from tests.faults.deeds import Work, die_once, is_sqlite, nothing

DEATHS: Final = ("before its effect", "before complete", "before commit", "after commit")
"""Where a task kills its process, on its first attempt."""

CREATE_EFFECTS: Final = "CREATE TABLE effects (task uuid NOT NULL)"
"""Without a unique index: a second effect would stand."""

_EFFECT_IN_FILE: Final = "INSERT INTO effects VALUES (?)"

NEXT_PLACE: Final = "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'audit_places'"
"""On SQLite, where nobody else writes meanwhile: the place that the record gives to the next change."""

_EFFECT: Final = "INSERT INTO effects VALUES ({}) RETURNING pg_current_xact_id()::text::bigint"


def take_effect(queue: Any, death: str) -> None:
    """For threads. The ledger knows the transaction before the task is completed in it."""
    if is_sqlite(Work.url):
        _take_effect_in_file(queue, death)
        return
    with psycopg.connect(Work.url) as connection:
        _at("before its effect", death)()
        row = connection.execute(_EFFECT.format("%s").encode(), (current_run().task.id,)).fetchone()
        assert row is not None
        Work.ledger.write("completing", transaction=row[0])
        _at("before complete", death)()
        queue.complete(connection=connection)
        _at("before commit", death)()
    _at("after commit", death)()


async def take_effect_async(queue: Any, death: str) -> None:
    """As ``take_effect``, for asyncio."""
    if is_sqlite(Work.url):
        await _take_effect_in_file_async(queue, death)
        return
    connection = await asyncpg.connect(Work.url)
    try:
        async with connection.transaction():
            _at("before its effect", death)()
            transaction = await connection.fetchval(_EFFECT.format("$1"), current_run().task.id)
            Work.ledger.write("completing", transaction=transaction)
            _at("before complete", death)()
            await queue.complete(connection=connection)
            _at("before commit", death)()
        _at("after commit", death)()
    finally:
        await connection.close()


def _take_effect_in_file(queue: Any, death: str) -> None:
    with closing(sqlite3.connect(make_url(Work.url).database or "", timeout=60)) as connection, connection:
        _at("before its effect", death)()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_EFFECT_IN_FILE, (current_run().task.id.hex,))
        Work.ledger.write("completing", transaction=connection.execute(NEXT_PLACE).fetchone()[0])
        _at("before complete", death)()
        queue.complete(connection=connection)
        _at("before commit", death)()
    _at("after commit", death)()


async def _take_effect_in_file_async(queue: Any, death: str) -> None:
    async with aiosqlite.connect(make_url(Work.url).database or "", timeout=60) as connection:
        _at("before its effect", death)()
        await connection.execute("BEGIN IMMEDIATE")
        await connection.execute(_EFFECT_IN_FILE, (current_run().task.id.hex,))
        place = await (await connection.execute(NEXT_PLACE)).fetchone()
        assert place is not None
        Work.ledger.write("completing", transaction=place[0])
        _at("before complete", death)()
        await queue.complete(connection=connection)
        _at("before commit", death)()
        await connection.commit()
        _at("after commit", death)()


def _at(moment: str, death: str) -> Callable[[], None]:
    return die_once if moment == death else nothing
