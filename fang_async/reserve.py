"""Connections of our own, kept from one operation to the next."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import asyncpg

from fang_core.errors import BackendError
from fang_postgres.connecting import NONE_FREE
from fang_postgres.patience import Patience

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
    """

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], size: int, unused_for: float | None = None
    ) -> None:
        self._connect = connect
        self._size = size
        self._unused_for = unused_for
        self._free = asyncio.Semaphore(size)
        self._patience = Patience()
        self._line: OrderedDict[asyncio.Timeout, float] = OrderedDict()  # since when each waits, first in first out
        self._judgement: asyncio.TimerHandle | None = None  # one timer for all of the line
        self._made: set[asyncpg.Connection] = set()
        self._idle: list[asyncpg.Connection] = []
        self._spare = 0  # so many of the first of these were not used since the last look
        self._look: asyncio.TimerHandle | None = None
        self._tidying: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def take(self) -> asyncpg.Connection:
        """One that is in no transaction. Raises what connecting raises, ``BackendError`` where none becomes free in
        time (see ``Patience``), and ``asyncpg.InterfaceError`` once closed."""
        await self._place()
        try:
            if self._is_closed:
                raise asyncpg.InterfaceError("the queue is closed")
            while self._idle:
                connection = self._idle.pop()
                self._spare = min(self._spare, len(self._idle))
                if not connection.is_closed():
                    self._patience.lent(time.monotonic())
                    return connection
                self._made.discard(connection)
            connection = await self._connect()
        except BaseException:
            self._free.release()
            raise
        self._made.add(connection)
        self._patience.lent(time.monotonic())
        return connection

    async def _place(self) -> None:
        if self._free.locked():
            await self._wait_in_line()
        else:
            await self._free.acquire()  # at once

    async def _wait_in_line(self) -> None:
        try:
            async with asyncio.timeout(None) as wait:
                self._line[wait] = time.monotonic()
                if self._judgement is None:
                    self._judge()
                try:
                    await self._free.acquire()
                finally:
                    self._line.pop(wait, None)
        except TimeoutError:
            raise BackendError(NONE_FREE) from None

    def _judge(self) -> None:
        """Those whose patience is at its end wait no more; comes again when that of the next one may be."""
        loop = asyncio.get_running_loop()
        self._judgement = None
        now = time.monotonic()
        while self._line:
            wait, since = next(iter(self._line.items()))
            left = self._patience.left(since, now)
            if left > 0:
                self._judgement = loop.call_later(left, self._judge)
                return
            del self._line[wait]
            wait.reschedule(loop.time())  # at once

    def give_back(self, connection: asyncpg.Connection) -> None:
        """After what went well."""
        self._idle.append(connection)
        self._free.release()
        if self._look is None and not self._is_closed:
            self._look_later()

    def _look_later(self) -> None:
        if self._unused_for is not None:
            self._look = asyncio.get_running_loop().call_later(self._unused_for / 2, self._close_spare)

    def _close_spare(self) -> None:
        """Closes those that nobody has used since it was called before."""
        spare, self._idle = self._idle[: self._spare], self._idle[self._spare :]
        for connection in spare:
            self._made.discard(connection)
            _end(connection)  # nothing is under way on it
        self._spare = len(self._idle)
        self._look = None
        if self._idle:
            self._look_later()

    async def tidy(self, connection: asyncpg.Connection) -> None:
        """After a failure or a cancellation: gives it back once it is in no transaction, or closes it.

        Goes on where the caller, who waits for it, is cancelled again.
        """
        task = asyncio.create_task(connection.reset(timeout=TIDY_WITHIN))  # waits for what was cancelled, rolls back
        self._tidying.add(task)
        # A callback, since a task may be cancelled before its first step.
        task.add_done_callback(partial(self._tidied, connection))
        with suppress(Exception):  # the caller has a reason of its own
            await asyncio.shield(task)

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
            connection = self._idle.pop()
            self._made.discard(connection)
            _end(connection)
        self._spare = 0

    async def close(self) -> None:
        """Closes them; waits a little for those that are lent."""
        self._is_closed = True
        if self._look is not None:
            self._look.cancel()
        taken = 0
        try:
            with suppress(TimeoutError, OSError, *_FAILURES):
                async with asyncio.timeout(TIDY_WITHIN):
                    for _ in range(self._size):
                        await self._free.acquire()
                        taken += 1
                    for connection in self._made:
                        await connection.close()
        finally:  # also where this is cancelled
            for connection in self._made:
                _end(connection)
            for _ in range(taken):
                self._free.release()
            self._made.clear()
            self._idle.clear()


def _end(connection: asyncpg.Connection) -> None:
    with suppress(RuntimeError):  # its event loop is closed
        connection.terminate()
