"""A pool's sign of life on Postgres: one connection of its own, and the lock that lives and dies with it."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import psycopg

from fang_core.errors import NotificationsFull
from fang_core.liveness import Beat, Pulse
from fang_core.store import Rescued
from fang_postgres import conversations
from fang_postgres.connecting import RESCUE_WAITS
from fang_postgres.diagnosis import is_repeatable
from fang_postgres.operations import Operations
from fang_postgres.statement import Conversation, Operation
from fang_postgres.waking import Quiet
from fang_threaded.cutting import connect_within, cut_after
from fang_threaded.runner import converse, typed

T = TypeVar("T")

ANSWER_WITHIN: Final = 5.0
"""Seconds for a beat, a rescue, or a connect to a single host; then the connection is taken for dead and replaced."""


class PostgresHeart:
    """A ``Heart``.

    Args:
        connect: makes a connection of its own, in autocommit.
        run_on: runs one operation there, and raises psycopg's errors.
        locks: whether to hold an advisory lock; not behind a pooler, which keeps no session.
        connects_within: seconds for a connect.
    """

    def __init__(
        self,
        operations: Operations,
        connect: Callable[[], psycopg.Connection[Any]],
        run_on: Callable[[psycopg.Connection[Any], Operation[Any]], Any],
        *,
        locks: bool,
        connects_within: float = ANSWER_WITHIN,
    ) -> None:
        self._operations = operations
        self._connect = connect
        self._run_on = run_on
        self._locks = locks
        self._connects_within = connects_within
        self._quiet = Quiet()
        self._connection: psycopg.Connection[Any] | None = None

    def beat(self, pool_id: UUID, stopping: bool, /) -> Beat:
        """See ``Heart.beat``."""
        operation = self._operations.beat(pool_id, locks=self._locks, stopping=stopping)

        def work(connection: psycopg.Connection[Any]) -> Beat:
            # Where others share the session, a transaction is the least that has settings of its own.
            with nullcontext() if self._locks else connection.transaction():
                beat: Beat = self._run_on(connection, operation)
                return beat

        former = self._connection
        beat = self._on_connection(work)
        # Without a lock it may be a pooler's connection, which outlives sessions.
        return beat._replace(continues=self._locks and self._connection is former)

    def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """See ``Heart.rescue``."""
        return self._transact(conversations.rescue(self._operations, dead))

    def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """See ``Heart.rescue_orphans``."""
        return self._transact(conversations.rescue_orphans(self._operations, max_crashes))

    def close(self) -> None:
        """See ``Heart.close``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _transact(self, conversation: Conversation[T]) -> T:
        def work(connection: psycopg.Connection[Any]) -> T:
            with connection.transaction():
                connection.execute(RESCUE_WAITS.encode())
                return converse(partial(self._run_on, connection), self._quiet.of_all(conversation, time.monotonic()))

        try:
            return self._on_connection(work)
        except NotificationsFull:
            self._quiet.begin(time.monotonic())  # for the next one, after the next beat
            raise

    def _on_connection(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Whatever fails: the next one begins on a new connection, but where only others were at the same rows, since
        with the connection goes the lock."""
        try:
            if self._connection is None:
                self._connection = connect_within(self._connects_within, self._connect)
            with cut_after(self._connection, ANSWER_WITHIN):
                return work(self._connection)
        except BaseException as error:
            if not (isinstance(error, psycopg.Error) and is_repeatable(error.sqlstate)):
                self.close()
            if isinstance(error, psycopg.Error):
                raise typed(error, self._operations.schema) from error
            raise
