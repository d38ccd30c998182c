"""Keeps asyncpg's connections open from one operation to the next, on one event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import asyncpg

from fang_async.connection import bury, socket_of
from fang_core.errors import BackendError
from fang_postgres.connections.connection_pool import BaseConnectionPool, has_input, is_for_room

_FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

TIDY_WITHIN: Final = 5.0
"""Seconds that a connection has to end a cancelled statement, or to close."""


class ConnectionPool(BaseConnectionPool[Awaitable[asyncpg.Connection], Awaitable[bool], asyncio.Future[None]]):
    """Lends connections to the coroutines of one event loop.

    asyncpg's pool is not used: its task, proxy and timers cost 65 microseconds for each loan, an INSERT costs 100,
    and resetting a session takes four more statements. Operations that succeed leave nothing to reset: no lock, no
    cursor, no LISTEN, and settings by SET LOCAL only.
    """

    def _set_up(self) -> None:
        self._judgement: asyncio.TimerHandle | None = None  # one timer for the whole line
        self._made: set[asyncpg.Connection] = set()
        # Each with the time of the monotonic clock at which it came back.
        self._idle: list[tuple[asyncpg.Connection, float]] = []
        self._spare = 0  # how many of these, from the first, were not used since the last look
        self._look: asyncio.TimerHandle | None = None
        self._tidying: set[asyncio.Task[None]] = set()
        self._all_back: asyncio.Future[None] | None = None

    async def take(self, *, of_pool: bool = False) -> asyncpg.Connection:
        """Returns a connection that is in no transaction. Raises what connecting raises, ``BackendError`` if none
        becomes free in time (see ``AcquireTimeout``), and ``asyncpg.InterfaceError`` if the pool is closed.

        ``of_pool`` says that the caller is a pool; pools wait in a line of their own, see ``Places``.
        """
        if not self._places.enter(time.monotonic()):
            await self._wait_in_line(of_pool)
        while True:
            try:
                connection = await self._kept() or await self._new()
            except BaseException as error:
                if not is_for_room(error, asyncpg.PostgresError) or not await self._wait_for_another(of_pool):
                    self._leave()
                    raise
            else:
                self._places.lent(time.monotonic())
                return connection

    # Places -----------------------------------------------------------------------------------------------------------

    async def _wait_in_line(self, of_pool: bool) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._places.wait(waiter, time.monotonic(), of_pool=of_pool)
        await self._wait(waiter)

    async def _wait_for_another(self, of_pool: bool) -> bool:
        """Waits for one that another caller uses, as the server has no room. Returns False if there is none."""
        if self._idle:  # a connection came back meanwhile
            return True
        waiter = asyncio.get_running_loop().create_future()
        if not self._places.refuse(waiter, time.monotonic(), of_pool=of_pool):
            return False
        await self._wait(waiter)
        return True

    async def _wait(self, waiter: "asyncio.Future[None]") -> None:
        """Waits until the caller has a place."""
        if self._judgement is None:
            self._judge()
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:  # cancelled with a place
                self._leave()
            else:
                self._places.give_up(waiter)
            raise

    def _judge(self) -> None:
        """Ends the wait of callers that have waited long enough; runs again when that may be so for the next one."""
        self._judgement = None
        impatient, seconds = self._places.impatient(time.monotonic())
        for waiter in impatient:
            if not waiter.done():
                waiter.set_exception(BackendError(self._places.why_none_is_free))
        if seconds is not None:
            self._judgement = asyncio.get_running_loop().call_later(seconds, self._judge)

    def _leave(self) -> None:
        self._admit(self._places.leave(time.monotonic()))
        if self._all_back is not None and not self._places.taken and not self._all_back.done():
            self._all_back.set_result(None)

    def _admit(self, waiters: list["asyncio.Future[None]"]) -> None:
        while waiters:
            waiter = waiters.pop(0)
            if waiter.done():  # its caller was cancelled, and does not know yet that it has a place
                waiters += self._places.leave(time.monotonic())
            else:
                waiter.set_result(None)

    # Connections ------------------------------------------------------------------------------------------------------

    async def _kept(self) -> asyncpg.Connection | None:
        """Returns an idle connection that is as good as new, or None."""
        if self._is_closed:
            raise asyncpg.InterfaceError("the queue is closed")
        while self._idle:
            connection, since = self._idle.pop()
            self._spare = min(self._spare, len(self._idle))
            if connection.is_closed() or _is_spoken_to(connection):
                self._forget(connection)
            elif (
                self._lives is None
                or time.monotonic() - since < self._ask_after
                or await self._answers(connection, self._lives)
            ):
                return connection
        return None

    async def _answers(self, connection: asyncpg.Connection, lives: Callable[[Any], Awaitable[bool]]) -> bool:
        answers = False
        try:
            answers = await lives(connection)
        finally:  # also if this is cancelled
            if not answers:
                self._forget(connection)
                self._end_idle()  # they are most likely dead, too
        return answers

    def _forget(self, connection: asyncpg.Connection) -> None:
        self._made.discard(connection)
        _end(connection)

    async def _new(self) -> asyncpg.Connection:
        connection = await self._connect()
        self._made.add(connection)
        self._admit(self._places.made(time.monotonic()))
        return connection

    def give_back(self, connection: asyncpg.Connection) -> None:
        """Takes back a connection whose operation has succeeded."""
        self._idle.append((connection, time.monotonic()))
        self._leave()
        if self._look is None and not self._is_closed:
            self._look_later()

    def _look_later(self) -> None:
        if self._unused_for is not None:
            self._look = asyncio.get_running_loop().call_later(self._unused_for / 2, self._close_spare)

    def _close_spare(self) -> None:
        """Closes the connections that were not used since the last call."""
        spare, self._idle = self._idle[: self._spare], self._idle[self._spare :]
        for connection, _ in spare:
            self._forget(connection)  # no statement is under way on it
        self._spare = len(self._idle)
        self._look = None
        if self._idle:
            self._look_later()

    async def tidy(self, connection: asyncpg.Connection, *, within: float = TIDY_WITHIN) -> None:
        """Takes back a connection after a failure or cancellation: keeps it once it is in no transaction, or closes it.

        Returns after ``within`` seconds at the latest; the work goes on then, and if the caller is cancelled again.
        """
        task = asyncio.create_task(connection.reset(timeout=TIDY_WITHIN))  # ends the cancelled statement, rolls back
        self._tidying.add(task)
        # As a callback, since a task may be cancelled before its first step.
        task.add_done_callback(partial(self._tidied, connection))
        await asyncio.wait([task], timeout=within)

    def _tidied(self, connection: asyncpg.Connection, task: "asyncio.Task[None]") -> None:
        self._tidying.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._end_idle()  # they are most likely dead, too, and half-open ones do not show it
            self.drop(connection)
        else:
            self.give_back(connection)

    def drop(self, connection: asyncpg.Connection) -> None:
        """Takes back a connection, and closes it at once."""
        _end(connection)
        self.give_back(connection)

    def _end_idle(self) -> None:
        while self._idle:
            self._forget(self._idle.pop()[0])
        self._spare = 0

    def abandon(self) -> None:
        """Drops all connections, as their event loop has ended or stands still. Call it on any loop's thread."""
        self._is_closed = True
        self._idle.clear()
        while self._made:
            bury(self._made.pop())

    async def close(self) -> None:
        """Closes all connections; first waits a little for those that are lent."""
        self._is_closed = True
        if self._look is not None:
            self._look.cancel()
        if self._all_back is None:
            self._all_back = asyncio.get_running_loop().create_future()
        try:
            with suppress(TimeoutError, OSError, *_FAILURES):
                async with asyncio.timeout(TIDY_WITHIN):
                    if self._places.taken:
                        await asyncio.shield(self._all_back)
                    for connection in self._made:
                        await connection.close()
        finally:  # also if this is cancelled
            for connection in self._made:
                _end(connection)
            self._made.clear()
            self._idle.clear()


def _is_spoken_to(connection: asyncpg.Connection) -> bool:
    """Returns whether the server has sent what the event loop, which may have been blocked, has not read; see
    ``has_input``."""
    ours = socket_of(connection)
    number = -1 if ours is None else ours.fileno()
    return number >= 0 and has_input(number)


def _end(connection: asyncpg.Connection) -> None:
    with suppress(RuntimeError):  # its event loop is closed
        connection.terminate()
