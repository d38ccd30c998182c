"""Holds what the queues of both modes share: the file and its users, and the waiting pools."""

import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from fang_core.backends.capabilities import Capabilities
from fang_core.backends.verbs import Call
from fang_core.interpreter.forks import in_child
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Inject, Rules
from fang_core.tasks.payloads.codec import MAX_PAYLOAD_BYTES
from fang_sqlite.connections.access import Access, read, written
from fang_sqlite.connections.file import File, Synchronous
from fang_sqlite.connections.location import path_of
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.listening.waking import Waking
from fang_sqlite.pools.manual import ManualPool
from fang_sqlite.store import SqliteStore
from fang_sqlite.verbs import done

T = TypeVar("T")

CAPABILITIES: Final = Capabilities(transactions=True, outlives_processes=True, shows_deaths=True, wakes=True)
"""A file has one writer at a time, so that ``concurrent_writers`` is missing."""


class SqliteQueueBase:
    """Opens the file for the queue and for its stores, and closes it with the last of them."""

    rules: Rules
    capabilities = CAPABILITIES
    connects_within = 0.0

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
        self.rules = Rules(
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            inject=inject,
            insert_middleware=insert_middleware,
        )
        self._file = File(path_of(path), synchronous, self._tell)
        self._waking = Waking(self._file.directory, self._file.data_version)
        self._manual = ManualPool(self._file)
        self._access = self._make_access()
        self._begin()
        in_child(self, SqliteQueueBase._begin)
        self.recipe = partial(
            type(self),
            self.path,
            synchronous=synchronous,
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            inject=inject,
            insert_middleware=insert_middleware,
        )

    def _begin(self) -> None:
        self._changing = threading.Lock()
        self._is_opened = False
        self._stores = 0

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def is_open(self) -> bool:
        """Returns whether the queue can be used now."""
        return self._file.is_open

    @staticmethod
    @abstractmethod
    def _make_access() -> Access:
        """Returns how the calls of the mode get to the file."""

    def _tell(self, tx: Transaction) -> None:
        self._waking.tell(tx)

    def _open_file(self) -> None:
        if not self._is_opened:
            with self._changing:
                self._file.open()
                self._is_opened = True

    def _done(self, call: Call[T]) -> T:
        """Carries out a call in a transaction of its own."""
        self._open_file()
        result: T = (read if call.reads else written)(self._file, done, call)
        return result

    def _close_file(self) -> None:
        """Ends what was fetched by hand, and closes the file unless pools still need it."""
        self._manual.end()
        with self._changing:
            self._is_opened = False
            self._close_if_unused()

    def _lend(self) -> SqliteStore:
        """Opens the file for a store, which gives it back when it closes."""
        with self._changing:
            self._file.open()
            self._stores += 1
        return SqliteStore(self._file, self._access, self._waking, self._give_back)

    def _held_by(self) -> UUID:
        """Returns the pool that holds what is fetched by hand."""
        self._open_file()
        return self._manual.begin()

    def _give_back(self) -> None:
        with self._changing:
            self._stores -= 1
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._is_opened and not self._stores:
            self._waking.close()
            self._file.close()
            self._access.close()
