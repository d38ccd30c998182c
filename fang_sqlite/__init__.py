"""A queue in a SQLite file, for threads and asyncio; any number of processes of one host share the file."""

from fang_sqlite.aio.queue import AsyncSqliteQueue
from fang_sqlite.queue import SqliteQueue

__all__ = ["AsyncSqliteQueue", "SqliteQueue"]
