"""Database files of tests, and what their tasks are made of."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from fang_core.backends.pools import PoolRecord
from fang_sqlite.connections.file import File
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import as_json, span


def opened(path: Path) -> File:
    """Returns a file with tables that is open."""
    file = File(path, "normal")
    file.open()
    return file


def insert_in(tx: Transaction) -> UUID:
    """Inserts a task that is due, in a transaction."""
    task_id = uuid4()
    tx.run(
        "INSERT INTO fang_tasks (id, metadata, kind, task_type, scheduled_at, created_at, updated_at)"
        " VALUES (?, '{}', 'note', 'common', ?, ?, ?)",
        (task_id.bytes, tx.micros, tx.micros, tx.micros),
    )
    tx.wake(["common"])
    return task_id


def insert(file: File) -> UUID:
    """Inserts a task that is due."""
    with file.writing() as tx:
        return insert_in(tx)


def hold(file: File, task_id: UUID, pool_id: UUID) -> None:
    """Has a pool hold a task."""
    with file.writing() as tx:
        tx.run(
            "UPDATE fang_tasks SET state = 'in_progress', attempt = attempt + 1, pool_id = ? WHERE id = ?",
            (pool_id.bytes, task_id.bytes),
        )


def register(file: File, *, lease: float = 5.0) -> UUID:
    """Registers a pool."""
    record = PoolRecord(uuid4(), "threaded", "host", 1, ("common",), ("note",), 2, timedelta(seconds=lease))
    with file.writing() as tx:
        tx.run(
            "INSERT INTO fang_pools (id, mode, host, pid, task_types, kinds, workers, started_at, lease, max_crashes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id.bytes,
                *(record.mode, record.host, record.pid, as_json(record.task_types), as_json(record.kinds)),
                *(record.workers, tx.micros, span(record.lease), record.max_crashes),
            ),
        )
    return record.id


def count(file: File) -> int:
    """Returns how many tasks there are."""
    with file.reading() as tx:
        number: int = tx.row("SELECT count(*) FROM fang_tasks")[0]
        return number
