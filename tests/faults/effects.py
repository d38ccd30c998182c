"""An effect that commits together with the end of its task: a row, in the transaction of ``queue.complete``."""

from collections.abc import Callable
from typing import Any, Final

import asyncpg
import psycopg

from fang_core import current_run
from tests.faults.deeds import Work, die_once, nothing

DEATHS: Final = ("before its effect", "before complete", "before commit", "after commit")
"""Where a task kills its process, on its first attempt."""

CREATE_EFFECTS: Final = "CREATE TABLE effects (task uuid NOT NULL)"
"""Without a unique index: a second effect would stand."""

_EFFECT: Final = "INSERT INTO effects VALUES ({}) RETURNING pg_current_xact_id()::text::bigint"


def take_effect(queue: Any, death: str) -> None:
    """For threads. The ledger knows the transaction before the task is completed in it."""
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


def _at(moment: str, death: str) -> Callable[[], None]:
    return die_once if moment == death else nothing
