"""Connections of our own, kept from one operation to the next."""

import asyncio
import select
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import asyncpg

from fang_async.bounded import bury, socket_of
from fang_core.errors import BackendError
from fang_postgres.diagnosis import has_no_room
from fang_postgres.places import Places

_FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

TIDY_WITHIN: Final = 5.0
"""Seconds for a connection to end what was cancelled on it, or to close."""


class Reserve:
    """At most ``size`` connections, made when they are wanted; that which came back last goes out first.

    Not asyncpg's pool: with a task, a proxy and timers for each loan it costs 65 microseconds, beside 100 of an INSERT,
    and four statements more, where it resets a session. Operations that went well leave nothing to be reset: no lock,
    no cursor, no LISTEN, and settings by SET LOCAL only.

    Args:
        connect: makes a connection, which the reserve closes.
        size: at least 1.
        unused_for: seconds after which one that nobody used is closed, or from half of them on; None keeps them.
        lives: asks a connection that was not used for ``ask_after`` seconds whether it lives, in bounded time.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        size: int,
        unused_for: float | None = None,
        *,
        lives: Callable[[Any], Awaitable[bool]] | None = None,
        ask_after: float = 0.0,
    ) -> None:
        self._connect = connect
        self._unused_for = unused_for
        self._lives = lives
        self._ask_after = ask_after
        self._places: Places[asyncio.Future[None]] = Places(size)
        self._judgement: asyncio.TimerHandle | None = None  # one timer for all of the line
        self._made: set[asyncpg.Connection] = set()
        # With the time of the monotonic clock at which it came back.
        self._idle: list[tuple[asyncpg.Connection, float]] = []
        self._spare = 0  # so many of the first of these were not used since the last look
        self._look: asyncio.TimerHandle | None = None
        self._tidying: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._all_back: asyncio.Future[None] | None = None

    async def take(self, *, of_pool: bool = False) -> asyncpg.Connection:
        """Returns a connection that is in no transaction. Raises what connecting raises, ``BackendError`` if none
        becomes free in time (see ``Patience``), and ``asyncpg.InterfaceError`` once closed.

        While the server has no room for another connection, callers wait for one of those there are. ``of_pool`` says
        that a pool asks, which then waits in a line of its own; see ``Places``.
        """
        if not self._places.enter(time.monotonic()):
            await self._wait_in_line(of_pool)
        while True:
            try:
                connection = await self._kept() or await self._new()
            except BaseException as error:
                if not _is_for_room(error) or not await self._wait_for_another(of_pool):
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
        """The server had no room: waits for a connection that another caller uses. Returns False if there is none."""
        if self._idle:  # it came back meanwhile
            return True
        waiter = asyncio.get_running_loop().create_future()
        if not self._places.refuse(waiter, time.monotonic(), of_pool=of_pool):
            return False
        await self._wait(waiter)
        return True

    async def _wait(self, waiter: "asyncio.Future[None]") -> None:
        """Returns once the caller has a place."""
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
        """Callers whose patience has ended wait no more; comes again when that of the next one may have."""
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
            if waiter.done():  # it was cancelled, and does not know yet that it has a place
                waiters += self._places.leave(time.monotonic())
            else:
                waiter.set_result(None)

    # Connections ------------------------------------------------------------------------------------------------------

    async def _kept(self) -> asyncpg.Connection | None:
        """Returns one that is as good as new, if there is one."""
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
        finally:  # also where this is cancelled
            if not answers:
                self._forget(connection)
                self._end_idle()  # they went the same way more often than not
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
        """After what went well."""
        self._idle.append((connection, time.monotonic()))
        self._leave()
        if self._look is None and not self._is_closed:
            self._look_later()

    def _look_later(self) -> None:
        if self._unused_for is not None:
            self._look = asyncio.get_running_loop().call_later(self._unused_for / 2, self._close_spare)

    def _close_spare(self) -> None:
        """Closes those that nobody has used since it was called before."""
        spare, self._idle = self._idle[: self._spare], self._idle[self._spare :]
        for connection, _ in spare:
            self._forget(connection)  # nothing is under way on it
        self._spare = len(self._idle)
        self._look = None
        if self._idle:
            self._look_later()

    async def tidy(self, connection: asyncpg.Connection, *, within: float = TIDY_WITHIN) -> None:
        """After a failure or a cancellation: gives it back once it is in no transaction, or closes it.

        Returns after ``within`` seconds at the latest; it goes on then, as it does if the caller is cancelled again.
        """
        task = asyncio.create_task(connection.reset(timeout=TIDY_WITHIN))  # waits for what was cancelled, rolls back
        self._tidying.add(task)
        # A callback, since a task may be cancelled before its first step.
        task.add_done_callback(partial(self._tidied, connection))
        await asyncio.wait([task], timeout=within)

    def _tidied(self, connection: asyncpg.Connection, task: "asyncio.Task[None]") -> None:
        self._tidying.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._end_idle()  # they went the same way more often than not, and half-open ones do not know it
            self.drop(connection)
        else:
            self.give_back(connection)

    def drop(self, connection: asyncpg.Connection) -> None:
        """Takes it back and closes it at once."""
        _end(connection)
        self.give_back(connection)

    def _end_idle(self) -> None:
        while self._idle:
            self._forget(self._idle.pop()[0])
        self._spare = 0

    def abandon(self) -> None:
        """Drops all of them: their event loop has ended, or stands still. It may be called on another loop's thread."""
        self._is_closed = True
        self._idle.clear()
        while self._made:
            bury(self._made.pop())

    async def close(self) -> None:
        """Closes them; waits a little for those that are lent."""
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
        finally:  # also where this is cancelled
            for connection in self._made:
                _end(connection)
            self._made.clear()
            self._idle.clear()


def _is_for_room(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and has_no_room(error.sqlstate, str(error))


def _is_spoken_to(connection: asyncpg.Connection) -> bool:
    """Returns whether something has come that the event loop has not read yet: the end of the session, as a rule.

    A loop that was blocked, or did not run, has not seen it; what is sent now would be lost. (A server that reloads its
    settings may tell of them, too. Then a new connection is made for nothing, which is rare.)
    """
    ours = socket_of(connection)
    number = -1 if ours is None else ours.fileno()
    if number < 0:
        return False
    if not hasattr(select, "poll"):  # on Windows, where select takes any number
        return bool(select.select((number,), (), (), 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _end(connection: asyncpg.Connection) -> None:
    with suppress(RuntimeError):  # its event loop is closed
        connection.terminate()
