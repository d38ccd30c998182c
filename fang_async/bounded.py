"""Connections of our own, on which nobody waits for ever."""

import asyncio
import os
import socket
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Final, TypeVar

import asyncpg

from fang_core.forks import ForkWatch, in_child
from fang_postgres.connecting import (
    ANSWER_WITHIN,
    ENDED_WHILE_IDLE,
    LIVES_WITHIN,
    NO_TRANSACTION_TIMEOUT,
    TRANSACTION_TIMEOUT_SINCE,
    UNANSWERED,
)

T = TypeVar("T")


# InternalClientError: what asyncpg raises where a connection dies between two of its own messages.
DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises, beside what the system does."""
CANNOT_CONNECT: Final = (OSError, TimeoutError, asyncio.TimeoutError)


class Unanswered(TimeoutError):
    """The connection was given up."""


class NotSent(asyncpg.InterfaceError):  # type: ignore[misc]
    """The connection had been ended before the statement, which was not sent, could use it."""


_ENDED_UNCLOSED: Final = "cannot switch to state"
"""What asyncpg raises, before it sends anything, if the server's last words have come on a connection, but not its end
yet. asyncpg does not say what the words were."""

LOOKS: Final = 15
"""A statement is given up at the look after so many that found it unanswered."""

_UNSHARED_TRIES: Final = 5  # a process that forks all the time gets a connection, too
_ASYNCPG_WITHIN: Final = 600.0  # seconds for a connect: never the first to end it


async def connect_within(seconds: float, **options: Any) -> asyncpg.Connection:
    """Returns a connection that is dead in each child that is forked from now on, and that no child has a copy of.

    A child that is forked while a connect is under way inherits its socket, and nothing severs it there: the server
    would not see when the parent dies. So such a connection is cut, and another one is made. Raises what asyncpg does,
    and ``TimeoutError`` if there is none in so many seconds.
    """
    for tries_left in reversed(range(_UNSHARED_TRIES)):
        watch = ForkWatch()
        connection = await _connect_within(seconds, **options)
        _sever_in_child(connection)
        if not watch.has_forked() or not tries_left:
            break
        _cut(connection)
    return connection


async def _connect_within(seconds: float, **options: Any) -> asyncpg.Connection:
    """A connection; raises what asyncpg does, and ``TimeoutError`` where there is none in so many seconds.

    As below it counts looks: who begins 30,000 inserts at once blocks the loop for longer than that, and none of the
    connections that these wait for has been heard meanwhile. asyncpg's own ``timeout`` would end them all.
    """
    loop = asyncio.get_running_loop()
    next_look: asyncio.TimerHandle

    def look(left: int) -> None:
        nonlocal next_look
        if left:
            next_look = loop.call_later(seconds / LOOKS, look, left - 1)
        else:
            wait.reschedule(loop.time())

    next_look = loop.call_later(seconds / LOOKS, look, LOOKS - 1)
    try:
        async with asyncio.timeout(None) as wait:
            connection = await asyncpg.connect(timeout=_ASYNCPG_WITHIN, **options)
            try:
                await connection.lift_transaction_timeout()
            except BaseException:
                connection.terminate()
                raise
    finally:
        next_look.cancel()
    return connection


def _cut(connection: asyncpg.Connection) -> None:
    """Ends it for every process that has a copy of its socket."""
    with suppress(OSError), socket.socket(fileno=os.dup(socket_of(connection).fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
    connection.terminate()


def _sever_in_child(connection: asyncpg.Connection) -> None:
    """Has it dead in each child that is forked. That keeps the number of the socket, but not the socket, which is the
    parent's: what asyncpg still does there, in its finalizer, does not touch the parent's epoll, and the server sees
    when the parent dies."""
    inherited = socket_of(connection)
    if inherited is not None:
        in_child(connection, lambda _: _sever(inherited.fileno()))


def socket_of(connection: asyncpg.Connection) -> Any:
    """Returns its socket, or what stands for it on other loops than asyncio's; None if it has none any more."""
    transport = getattr(connection, "_transport", None)  # asyncpg has no public word for it
    return transport and transport.get_extra_info("socket")


def bury(connection: asyncpg.Connection) -> None:
    """Ends the session of a connection whose event loop has ended, or stands still. It may be called on any thread."""
    inherited = socket_of(connection)
    loop = connection._loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(connection.terminate)  # if it ever goes on
        if inherited is not None:
            _sever(inherited.fileno())
    elif isinstance(inherited, TransportSocket):  # asyncio's own loop; another one closes its sockets when it is closed
        with suppress(RuntimeError):  # what is left to do once the server is told, the loop would have to do
            connection.terminate()
        inherited._sock.close()  # type: ignore[attr-defined]


def _sever(number: int) -> None:
    if number < 0:
        return  # it is closed
    ours, other = socket.socketpair()
    with ours, other:
        os.dup2(ours.fileno(), number, inheritable=False)


class BoundedConnection(asyncpg.Connection):  # type: ignore[misc]
    """Dead once ``fetch`` or ``execute`` had no answer for ``ANSWER_WITHIN``, or a fifteenth longer; then they raise
    ``Unanswered``.

    That goes for asyncpg's BEGIN and COMMIT as well. Its own ``command_timeout`` asks the silent server to cancel what
    it does, and has a ROLLBACK wait as long again for the answer to that; it also makes a timer for each statement.
    Here one timer looks every few seconds while the connection is used. It counts looks: a loop that was blocked has
    not listened meanwhile.
    """

    BEGIN: ClassVar[str] = "BEGIN"
    """Begins a transaction."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._has_begun = False
        self._is_asked = False
        self._is_silent = False
        self._looks = 0
        self._next_look: asyncio.TimerHandle | None = None

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """See asyncpg's own."""
        return await self._answered(super().execute, query, *args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[asyncpg.Record]:
        """See asyncpg's own."""
        return await self._answered(super().fetch, query, *args, **options)

    async def lives(self) -> bool:
        """Returns whether the server answers within ``LIVES_WITHIN``; if not, the connection is closed."""
        silent = asyncio.get_running_loop().call_later(LIVES_WITHIN, self.terminate)
        try:
            await super().execute("SELECT 1")
        except (*DRIVER, OSError):
            return False
        finally:
            silent.cancel()
        return not self.is_closed()

    @asynccontextmanager
    async def transaction(self, **_: Any) -> AsyncIterator[None]:
        """Is one transaction, not nested. What fails in it is raised as it is, also if it cannot be rolled back.

        After a cancellation it stays open, since a ROLLBACK would wait until the server has ended what was cancelled,
        and a silent one never does: whoever owns the connection calls ``reset``, in bounded time, or closes it.
        """
        self._has_begun = True
        try:
            await self.execute(self.BEGIN)
        except asyncpg.PostgresError:  # a standby's, perhaps: another connection may lead elsewhere
            self.terminate()
            raise
        try:
            yield
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException:
            with suppress(*DRIVER, *CANNOT_CONNECT):
                await self.roll_back()
            raise
        await self.execute("COMMIT")
        self._has_begun = False

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own
        """Waits for what was cancelled, rolls back, and has the session as new."""
        async with asyncio.timeout(timeout):
            await self.roll_back()
            await super().reset()

    async def roll_back(self) -> None:
        """Waits for what was cancelled; leaves no transaction open."""
        # A BEGIN that was cancelled has perhaps begun one of which asyncpg does not know yet.
        if self._has_begun or self.is_in_transaction():
            await self.execute("ROLLBACK")
            self._has_begun = False

    async def lift_transaction_timeout(self) -> None:
        """For good: a reset brings back only what a connection has from its start."""
        if self._has_transaction_timeout:
            await self.execute(NO_TRANSACTION_TIMEOUT)

    def get_reset_query(self) -> str:
        """See asyncpg's own."""
        query: str = super().get_reset_query()
        return f"{query}\n{NO_TRANSACTION_TIMEOUT};" if self._has_transaction_timeout else query

    @property
    def _has_transaction_timeout(self) -> bool:
        return bool(self.get_server_version().major >= TRANSACTION_TIMEOUT_SINCE)

    async def _answered(self, ask: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        if self.is_closed() and not self._is_silent:
            raise NotSent(ENDED_WHILE_IDLE)
        self._looks = 0
        self._is_asked = True
        if self._next_look is None:
            self._look_later()
        try:
            return await ask(*args, **options)
        except Exception as error:
            if self._is_silent:
                raise Unanswered(UNANSWERED.format(ANSWER_WITHIN)) from None
            if isinstance(error, asyncpg.InternalClientError) and str(error).startswith(_ENDED_UNCLOSED):
                raise NotSent(ENDED_WHILE_IDLE) from error
            raise
        finally:
            self._is_asked = False

    def _look_later(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(ANSWER_WITHIN / LOOKS, self._look)

    def _look(self) -> None:
        self._next_look = None
        if not self._is_asked:
            return  # the next statement has it looked again
        self._looks += 1
        if self._looks <= LOOKS:
            self._look_later()
        else:
            self._is_silent = True
            self.terminate()
