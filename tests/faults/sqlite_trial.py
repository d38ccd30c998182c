"""A trial on a SQLite file."""

import sqlite3
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import make_url

from fang_sqlite import AsyncSqliteQueue, SqliteQueue
from tests.faults import sqlite_audit
from tests.faults.audit import Change, PoolChange
from tests.faults.fleet import Worker
from tests.faults.trial import Trial


def url_in(directory: Path) -> str:
    """The URL of a file that is not there yet."""
    return f"sqlite:///{directory}/tasks.db"


class SqliteTrial(Trial):
    """What a fault has in its hands, on a file."""

    @property
    def path(self) -> Path:
        """The file."""
        return Path(make_url(self.url).database or "")

    def connect(self) -> sqlite3.Connection:
        """See ``Trial.connect``."""
        with SqliteQueue(self.url):
            pass  # makes the tables
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=60)
        sqlite_audit.install(connection)
        return connection

    def make_queue(self) -> Any:
        return SqliteQueue(self.url)

    def make_async_queue(self) -> Any:
        return AsyncSqliteQueue(self.url)

    def changes(self) -> tuple[list[Change], list[PoolChange]]:
        """See ``Trial.changes``."""
        return sqlite_audit.read(self.database)

    def rows(self, query: str, *parameters: Any) -> list[Any]:
        found: list[Any] = self.database.execute(query, parameters).fetchall()
        return found

    def count(self, condition: str, *parameters: Any) -> int:
        """Rows of tasks."""
        number: int = self.rows(f"SELECT count(*) FROM fang_tasks WHERE {condition}", *parameters)[0][0]
        return number

    def held(self, worker: Worker) -> list[tuple[UUID, int]]:
        """See ``Trial.held``."""
        pid = worker.given.get("pid", worker.pid)
        query = (
            "SELECT t.id, t.attempt FROM fang_tasks t JOIN fang_pools p ON p.id = t.pool_id"
            " WHERE t.state = 'in_progress' AND p.pid = ? AND p.mode = ?"
        )
        return [(UUID(bytes=id_), attempt) for id_, attempt in self.rows(query, pid, worker.mode)]

    def by_hand(self, statement: str, *parameters: Any) -> None:
        """What a person does to the tables."""
        self.database.execute("BEGIN IMMEDIATE")
        self.database.execute("UPDATE audit_hand SET is_at_work = 1")
        self.database.execute(statement, parameters)
        self.database.execute("UPDATE audit_hand SET is_at_work = 0")
        self.database.execute("COMMIT")
