"""Keeps psycopg's connections open from one operation to the next, for any thread."""

import threading
import time
from collections import deque
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from fang_core.errors import BackendError
from fang_postgres.connections.connection_pool import BaseConnectionPool, has_input, is_for_room


class ConnectionPool(BaseConnectionPool[psycopg.Connection[Any], bool, threading.Lock]):
    """Lends connections in autocommit to any thread.

    SQLAlchemy's pool is not used: with its reset and its events a loan costs 40 microseconds, and here 2.4.
    """

    def _set_up(self) -> None:
        self._changing = threading.Lock()  # guards the places
        # Each with the time of the monotonic clock at which it came back.
        self._idle: deque[tuple[psycopg.Connection[Any], float]] = deque()

    def take(self, *, of_pool: bool = False) -> psycopg.Connection[Any]:
        """Returns a connection that is in no transaction. Raises ``psycopg.Error`` if none can be made, and
        ``BackendError`` if none becomes free in time; see ``AcquireTimeout``.

        ``of_pool`` says that the caller is a pool; pools wait in a line of their own, see ``Places``.
        """
        self._enter(of_pool)
        while True:
            try:
                connection = self._kept() or self._made()
            except BaseException as error:
                if not is_for_room(error, psycopg.Error) or not self._wait_for_another(of_pool):
                    self._leave()
                    raise
            else:
                self._places.lent(time.monotonic())
                return connection

    # Places -----------------------------------------------------------------------------------------------------------

    def _enter(self, of_pool: bool) -> None:
        with self._changing:
            now = time.monotonic()
            if self._places.enter(now):
                return
            waiter = _waiter()
            self._places.wait(waiter, now, of_pool=of_pool)
        self._wait(waiter)

    def _wait_for_another(self, of_pool: bool) -> bool:
        """Waits for one that another caller uses, as the server has no room. Returns False if there is none."""
        waiter = _waiter()
        with self._changing:
            if self._idle:  # a connection came back meanwhile
                return True
            if not self._places.refuse(waiter, time.monotonic(), of_pool=of_pool):
                return False
        self._wait(waiter)
        return True

    def _wait(self, waiter: threading.Lock) -> None:
        """Waits until the caller has a place."""
        since = now = time.monotonic()
        try:
            while not waiter.acquire(timeout=max(0.0, self._places.patience(since, now))):
                now = time.monotonic()
                if self._places.patience(since, now) <= 0:
                    raise BackendError(self._places.why_none_is_free)
        except BaseException:
            with self._changing:
                has_place = not self._places.give_up(waiter)
            if has_place:
                self._leave()
            raise

    def _leave(self) -> None:
        with self._changing:
            for waiter in self._places.leave(time.monotonic()):
                waiter.release()

    # Connections ------------------------------------------------------------------------------------------------------

    def _kept(self) -> psycopg.Connection[Any] | None:
        """Returns an idle connection that is as good as new, or None."""
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            unused_for = time.monotonic() - since
            if self._unused_for is not None and unused_for >= self._unused_for:
                connection.close()
                self._close_idle()  # the rest have been idle for longer
            elif _is_spoken_to(connection):
                connection.close()
            elif self._lives is None or unused_for < self._ask_after or self._lives(connection):
                return connection
            else:
                connection.close()
                self._close_idle()  # they are most likely dead, too
        return None

    def _made(self) -> psycopg.Connection[Any]:
        connection = self._connect()
        with self._changing:
            for waiter in self._places.made(time.monotonic()):
                waiter.release()
        return connection

    def give_back(self, connection: psycopg.Connection[Any]) -> None:
        """Keeps a connection that is in no transaction, and closes any other. Closes the idle ones too if this one is
        dead, as they most likely are as well."""
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            self._idle.append((connection, time.monotonic()))
            if self._is_closed:  # asked last: another thread may close the pool meanwhile
                self._close_idle()
        else:
            if connection.broken:
                self._close_idle()
            connection.close()
        self._leave()

    def close(self) -> None:
        """Closes the idle connections, and those that are lent when they come back."""
        self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                idle, _ = self._idle.pop()
            except IndexError:  # another thread was faster
                return
            idle.close()


def _waiter() -> threading.Lock:
    """Returns a lock that a caller waits for; the thread that gives the caller a place releases it."""
    waiter = threading.Lock()
    waiter.acquire()
    return waiter


def _is_spoken_to(connection: psycopg.Connection[Any]) -> bool:
    """Returns whether the server has sent what no statement asked for; see ``has_input``."""
    return has_input(connection.fileno())
