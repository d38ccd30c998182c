"""Connections of our own, kept from one operation to the next."""

import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from fang_core.errors import BackendError
from fang_postgres.diagnosis import has_no_room
from fang_postgres.places import Places


class Reserve:
    """At most ``size`` connections in autocommit, made when they are wanted; that which came back last goes out first.

    Not SQLAlchemy's pool: with its reset and its events a loan costs 40 microseconds, and here 2.4.

    Args:
        connect: makes a connection, which the reserve closes.
        size: at least 1.
        unused_for: seconds after which one that nobody used is closed when it would be used; None uses it.
        lives: asks a connection that was not used for ``ask_after`` seconds whether it lives, in bounded time.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        size: int,
        unused_for: float | None = None,
        *,
        lives: Callable[[Any], bool] | None = None,
        ask_after: float = 0.0,
    ) -> None:
        self._connect = connect
        self._unused_for = unused_for
        self._lives = lives
        self._ask_after = ask_after
        self._changing = threading.Lock()  # of the places
        self._places: Places[threading.Lock] = Places(size)
        # With the time of the monotonic clock at which it came back.
        self._idle: deque[tuple[psycopg.Connection[Any], float]] = deque()
        self._is_closed = False

    def take(self, *, of_pool: bool = False) -> psycopg.Connection[Any]:
        """Returns a connection that is in no transaction. Raises ``psycopg.Error`` if none can be made, and
        ``BackendError`` if none becomes free in time; see ``Patience``.

        While the server has no room for another connection, callers wait for one of those there are. ``of_pool`` says
        that a pool asks, which then waits in a line of its own; see ``Places``.
        """
        self._enter(of_pool)
        while True:
            try:
                connection = self._kept() or self._made()
            except BaseException as error:
                if not _is_for_room(error) or not self._wait_for_another(of_pool):
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
        """The server had no room: waits for a connection that another caller uses. Returns False if there is none."""
        waiter = _waiter()
        with self._changing:
            if self._idle:  # it came back meanwhile
                return True
            if not self._places.refuse(waiter, time.monotonic(), of_pool=of_pool):
                return False
        self._wait(waiter)
        return True

    def _wait(self, waiter: threading.Lock) -> None:
        """Returns once the caller has a place."""
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
        """Returns one that is as good as new, if there is one."""
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            unused_for = time.monotonic() - since
            if self._unused_for is not None and unused_for >= self._unused_for:
                connection.close()
                self._close_idle()  # the others lie there for longer
            elif _is_spoken_to(connection):
                connection.close()
            elif self._lives is None or unused_for < self._ask_after or self._lives(connection):
                return connection
            else:
                connection.close()
                self._close_idle()  # they went the same way more often than not
        return None

    def _made(self) -> psycopg.Connection[Any]:
        connection = self._connect()
        with self._changing:
            for waiter in self._places.made(time.monotonic()):
                waiter.release()
        return connection

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
        self._leave()

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


def _waiter() -> threading.Lock:
    """Returns what a caller waits for; whoever gives it a place releases it."""
    waiter = threading.Lock()
    waiter.acquire()
    return waiter


def _is_for_room(error: BaseException) -> bool:
    return isinstance(error, psycopg.Error) and has_no_room(error.sqlstate, str(error))


def _is_spoken_to(connection: psycopg.Connection[Any]) -> bool:
    """Returns whether something has come that no statement asked for: the end of the session, as a rule.

    Its reason, its end of file or its reset lie in the socket, and what is sent now would be lost. (A server that
    reloads its settings may tell of them, too. Then a new connection is made for nothing, which is rare.)
    """
    number = connection.fileno()
    if not hasattr(select, "poll"):  # on Windows, where select takes any number
        return bool(select.select((number,), (), (), 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))
