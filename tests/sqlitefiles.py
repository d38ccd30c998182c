"""Files of SQLite for tests: a new one for each, on a tmpfs if there is one; and the backends of the suite on one."""

import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import aiosqlite
import pytest

from fang_async import AsyncWorkerPool
from fang_core.backends.stats_rows import Key
from fang_core.conformance import Backend
from fang_core.monitoring.history import MINUTE, Flush
from fang_core.record import TaskState
from fang_sqlite import AsyncSqliteQueue, SqliteQueue
from fang_sqlite.connections.file import File
from fang_sqlite.reading import history
from fang_threaded import WorkerPool

_FAST = Path("/dev/shm")


@pytest.fixture
def sqlite_path() -> Iterator[Path]:
    """The path of a file that is not there yet, in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="fang-", dir=_FAST if _FAST.is_dir() else None))
    yield directory / "tasks.db"
    shutil.rmtree(directory)


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction of an application's own."""
    with closing(sqlite3.connect(path, isolation_level="IMMEDIATE")) as connection, connection:
        yield connection


@asynccontextmanager
async def async_transaction(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """The same in asyncio, by aiosqlite."""
    async with aiosqlite.connect(path, isolation_level="IMMEDIATE") as connection:
        try:
            yield connection
        except BaseException:
            await connection.rollback()
            raise
        await connection.commit()


def set_crashes(path: Path, task_id: UUID, crashes: int) -> None:
    """Writes that a task has crashed so often."""
    with transaction(path) as connection:
        connection.execute(
            "UPDATE fang_tasks SET crashes = ?, state = CASE WHEN ? > 0 THEN ? ELSE state END WHERE id = ?",
            (crashes, crashes, TaskState.RETRIED.value, task_id.bytes),
        )


def write_stats(path: Path, writer: UUID, flush: Flush) -> None:
    """Writes rows of history, however long ago their minute is."""
    file = File(path, "normal")
    file.open()
    with file.writing() as tx:
        history.write(tx, {Key(MINUTE, flush.minute, writer, pair): row for pair, row in flush.rows.items()})
    file.close()


def backdate_live(path: Path, pool_id: UUID, by: timedelta) -> None:
    """Has a pool have told what it does so much earlier."""
    with transaction(path) as connection:
        found = connection.execute(
            "UPDATE fang_live SET at = at - ? WHERE pool_id = ?", (by // timedelta(microseconds=1), pool_id.bytes)
        )
        assert found.rowcount == 1


def threaded_on_sqlite(path: Path) -> Backend:
    _make_tables(path)
    return Backend(
        "threaded",
        queue=partial(SqliteQueue, path),
        pool=WorkerPool,
        transaction=partial(transaction, path),
        set_crashes=partial(set_crashes, path),
        write_stats=partial(write_stats, path),
        backdate_live=partial(backdate_live, path),
    )


def _make_tables(path: Path) -> None:
    with SqliteQueue(path):
        pass


def async_on_sqlite(path: Path) -> Backend:
    _make_tables(path)
    return Backend(
        "async",
        queue=partial(AsyncSqliteQueue, path),
        pool=AsyncWorkerPool,
        transaction=partial(async_transaction, path),
        set_crashes=partial(set_crashes, path),
        write_stats=partial(write_stats, path),
        backdate_live=partial(backdate_live, path),
    )
