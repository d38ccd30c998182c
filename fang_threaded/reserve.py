"""Connections of our own, kept from one operation to the next."""

import time
from collections import deque
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from fang_core.errors import BackendError
from fang_postgres.connecting import NONE_FREE
from fang_postgres.patience import Patience


class Reserve:
    """At most ``size`` connections in autocommit, made when they are wanted; that which came back last goes out first.

    Not SQLAlchemy's pool: with its reset and its events a loan costs 40 microseconds, and here 2.

    Args:
        connect: makes a connection, which the reserve closes.
        size: at least 1.
        unused_for: seconds after which one that nobody used is closed when it would be used; None uses it.
    """

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Any]], size: int, unused_for: float | None = None
    ) -> None:
        self._connect = connect
        self._unused_for = unused_for
        self._free = BoundedSemaphore(size)
        self._patience = Patience()
        # With the time of the monotonic clock at which it came back.
        self._idle: deque[tuple[psycopg.Connection[Any], float]] = deque()
        self._is_closed = False

    def take(self) -> psycopg.Connection[Any]:
        """One that is in no transaction. Raises ``psycopg.Error`` where none can be made, ``BackendError`` where none
        becomes free in time; see ``Patience``."""
        self._place()
        try:
            connection = self._used_lately() or self._connect()
        except BaseException:
            self._free.release()
            raise
        self._patience.lent(time.monotonic())
        return connection

    def _place(self) -> None:
        since = now = time.monotonic()
        while not self._free.acquire(timeout=self._patience.left(since, now)):
            now = time.monotonic()
            if self._patience.left(since, now) <= 0:
                raise BackendError(NONE_FREE)

    def _used_lately(self) -> psycopg.Connection[Any] | None:
        try:
            connection, since = self._idle.pop()
        except IndexError:
            return None
        if self._unused_for is None or time.monotonic() - since < self._unused_for:
            return connection
        connection.close()
        self._close_idle()  # the others lie there for longer
        return None

    def give_back(self, connection: psycopg.Connection[Any]) -> None:
        """It is kept if it is as it was when it was lent; a dead one takes along those that are idle, which went the
        same way more often than not."""
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            self._idle.append((connection, time.monotonic()))
            if self._is_closed:  # asked last: another thread may close it meanwhile
                self._close_idle()
        else:
            if connection.broken:
                self._close_idle()
            connection.close()
        self._free.release()

    def close(self) -> None:
        """Closes them; those that are lent, when they come back."""
        self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                idle, _ = self._idle.pop()
            except IndexError:  # another thread was faster
                return
            idle.close()
