"""Defines the queue in a SQLite file, for threaded code."""

from functools import partial
from typing import TypeVar
from uuid import UUID

from fang_core.backends.queue import BaseQueue
from fang_core.backends.verbs import Call
from fang_sqlite.base import SqliteQueueBase
from fang_sqlite.connections.access import DirectAccess
from fang_sqlite.connections.callers import CallersConnection, is_in_transaction, run_for_caller
from fang_sqlite.store import SqliteStore
from fang_sqlite.verbs import completes, done

T = TypeVar("T")


class SqliteQueue(SqliteQueueBase, BaseQueue[CallersConnection]):
    """A ``Queueable`` in a SQLite file, for threaded code; any number of processes of this host may share the file.

    Args:
        path: the path of the file, or a URL like ``sqlite:///tasks.db``; ``open()`` makes the file if it is not there.
        synchronous: ``"full"`` has what is committed survive a power cut; with ``"normal"``, which is several times
            faster, the last commits before a power cut may be lost, though nothing is if only the process dies.
        max_payload_bytes, duplicated_tasks, inject, insert_middleware: as in ``Queue``.
    """

    def open(self) -> None:
        """Opens the file, and makes the tables if there are none. Idempotent; calls of the queue do this themselves.

        Raises ``BackendError``.
        """
        self._open_file()

    def close(self) -> None:
        """Closes the file; if pools still run on it, the last one to stop does. Idempotent; it can be opened again.

        Tasks that were fetched by hand and not ended are given back.
        """
        self._close_file()

    def store(self) -> SqliteStore:
        """Makes a store for a pool, which closes it at its end. Raises like ``open``."""
        return self._lend()

    @staticmethod
    def _make_access() -> DirectAccess:
        return DirectAccess()

    def _do(self, call: Call[T], connection: CallersConnection | None, /) -> T:
        if connection is None:
            return self._done(call)
        if not self.is_open:
            with self._file.diagnosing(None):
                self._file.check_made(in_transaction=is_in_transaction(connection))
        self._open_file()
        verb = partial(done, call=call)
        result: T = run_for_caller(self._file, connection, verb, reads=call.reads, completes=completes(call))
        return result

    def _begin_to_hold(self) -> UUID:
        return self._held_by()

    def _doubt(self, pool_id: UUID) -> None:
        """Does nothing: a fetch writes the record if it is gone."""
