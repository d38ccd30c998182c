"""A queue in a SQLite file, for threads and asyncio; any number of processes of one host share the file."""

from typing import TYPE_CHECKING

from fang_core.interpreter.lazy import lazily

if TYPE_CHECKING:
    from fang_sqlite.aio.queue import AsyncSqliteQueue
    from fang_sqlite.queue import SqliteQueue
else:
    # Threads have no use for asyncio, which takes as long to import as all else of the queue.
    __getattr__ = lazily(__name__, {"SqliteQueue": "fang_sqlite.queue", "AsyncSqliteQueue": "fang_sqlite.aio.queue"})

__all__ = ("SqliteQueue", "AsyncSqliteQueue")
