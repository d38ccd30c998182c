"""The queue in a SQLite file, for threaded code."""

import os
from collections.abc import Sequence

from fang_core.backends.capabilities import Capabilities
from fang_core.copying import Uncopyable
from fang_core.tasks.codec import MAX_PAYLOAD_BYTES
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Inject, Rules
from fang_sqlite.file import File, Synchronous
from fang_sqlite.location import path_of


class SqliteQueue(Uncopyable):
    """A ``Queueable`` in a SQLite file, for threaded code."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        duplicated_tasks: bool = True,
        inject: Sequence[Inject] = (),
        insert_middleware: Sequence[InsertMiddleware] = (),
    ) -> None:
        """Takes the path of a file, or a URL like ``sqlite:///tasks.db``."""
        self.file = File(path_of(path), synchronous)
        self.rules = Rules(
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            inject=inject,
            insert_middleware=insert_middleware,
        )
        self.capabilities = Capabilities(transactions=True, outlives_processes=True, shows_deaths=True, wakes=True)
        self.connects_within = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the queue can be used now."""
        return self.file.is_open

    def open(self) -> None:
        """Opens the file, and makes the tables if there are none. Idempotent."""
        self.file.open()

    def close(self) -> None:
        """Closes the file. Idempotent."""
        self.file.close()

    def __enter__(self) -> "SqliteQueue":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
