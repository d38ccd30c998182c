"""The queue's own asyncpg connection, which gives up on a silent server and is closed in forked children."""

import asyncio
import os
import socket
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, ClassVar, Final, TypeVar

import asyncpg

from fang_core.interpreter.forks import ForkWatch, in_child
from fang_postgres.connections.connecting import (
    ANSWER_WITHIN,
    ENDED_WHILE_IDLE,
    LIVES_WITHIN,
    NO_TRANSACTION_TIMEOUT,
    TRANSACTION_TIMEOUT_SINCE,
    UNANSWERED,
)

T = TypeVar("T")


# InternalClientError: asyncpg raises it if a connection dies between two of its messages.
DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The errors of asyncpg, which raises errors of the system, too."""
CANNOT_CONNECT: Final = (OSError, TimeoutError, asyncio.TimeoutError)


class Unanswered(TimeoutError):
    """Says that the server was silent for too long, and the connection was given up."""


class NotSent(asyncpg.InterfaceError):  # type: ignore[misc]
    """Says that the connection had ended before the statement was sent."""


_ENDED_UNCLOSED: Final = "cannot switch to state"
"""How asyncpg's error begins if it has read the server's last message, but not the end of the connection, and has sent
nothing. asyncpg does not say what the message was."""

LOOKS: Final = 15
"""How many looks may find a statement unanswered; the next look gives it up."""


def _array(oid: int, element: str, element_oid: int) -> Mapping[str, Any]:
    """Describes a type of arrays, as asyncpg reads it from the server's catalog."""
    return {
        "oid": oid,
        "ns": "pg_catalog",
        "name": f"_{element}",
        "kind": b"b",
        "basetype": None,
        "elemtype": element_oid,
        "elemdelim": b",",
        "range_subtype": None,
        "attrtypoids": None,
        "attrnames": None,
        "basetype_name": None,
        "elemtype_name": element,
        "range_subtype_name": None,
    }


ARRAYS: Final = {
    oid: _array(oid, element, element_oid)
    for oid, element, element_oid in (
        (1000, "bool", 16),
        (1005, "int2", 21),
        (1007, "int4", 23),
        (1015, "varchar", 1043),
        (1016, "int8", 20),
        (1022, "float8", 701),
        (1185, "timestamptz", 1184),
        (1187, "interval", 1186),
        (2951, "uuid", 2950),
    )
}
"""The types of arrays that statements take, by their numbers, which are the same on every server."""

_UNASKED: Final = SimpleNamespace(name="no statement")
"""Stands for the statement that would have asked: with a name, it has replaced no other."""

_UNSHARED_TRIES: Final = 5  # even a process that forks all the time gets a connection
_ASYNCPG_WITHIN: Final = 600.0  # seconds for a connect; Fang's own limit always ends it earlier


async def connect_within(seconds: float, **options: Any) -> asyncpg.Connection:
    """Makes a connection that no forked child shares, whether it is forked during the connect or later.

    A child that is forked during a connect inherits the open socket, so the server would not see when the parent dies.
    Such a connection is cut, and another one is made. Raises what asyncpg raises, and ``TimeoutError`` after
    ``seconds``.
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
    """Makes a connection; raises what asyncpg raises, and ``TimeoutError`` after ``seconds``.

    It counts looks, as ``Connection`` does: a program that begins 30,000 inserts at once blocks the loop for longer
    than that, and meanwhile hears from none of the connections that these wait for. asyncpg's ``timeout`` would end
    them all.
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
            connection = await asyncpg.connect(loop=_ConnectingLoop(loop), timeout=_ASYNCPG_WITHIN, **options)
            try:
                await connection.lift_transaction_timeout()
            except BaseException:
                connection.terminate()
                raise
    finally:
        next_look.cancel()
    return connection


class _ConnectingLoop:
    """Is the running loop to asyncpg, except that a connect which is cancelled while its socket opens leaves no error.

    asyncpg's protocol for TLS has a future for the server's first byte. If the connect is cancelled before that is
    awaited, the protocol fails the future when its socket is closed, and asyncio logs that its exception was never
    retrieved.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, make_protocol: Callable[[], Any], *args: Any, **options: Any) -> Any:
        """See asyncio's own."""
        made: list[Any] = []

        def make() -> Any:
            made.append(make_protocol())
            return made[-1]

        try:
            return await self._loop.create_connection(make, *args, **options)
        except BaseException:
            for protocol in made:
                first_byte: asyncio.Future[Any] | None = getattr(protocol, "on_data", None)
                if first_byte is not None and not first_byte.cancel() and not first_byte.cancelled():
                    first_byte.exception()
            raise


def _cut(connection: asyncpg.Connection) -> None:
    """Ends the connection for every process that has a copy of its socket."""
    with suppress(OSError), socket.socket(fileno=os.dup(socket_of(connection).fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
    connection.terminate()


def _sever_in_child(connection: asyncpg.Connection) -> None:
    """Has each forked child replace its copy of the socket, under the same number: asyncpg's finalizer there does not
    touch the parent's epoll, and the server sees when the parent dies."""
    inherited = socket_of(connection)
    if inherited is not None:
        in_child(connection, lambda _: _sever(inherited.fileno()))


def socket_of(connection: asyncpg.Connection) -> Any:
    """Returns the connection's socket, or what other loops than asyncio's have instead; None if it is closed."""
    transport = getattr(connection, "_transport", None)  # asyncpg has no public name for it
    return transport and transport.get_extra_info("socket")


def bury(connection: asyncpg.Connection) -> None:
    """Ends the session of a connection whose event loop has ended or stands still. Call it on any thread."""
    inherited = socket_of(connection)
    loop = connection._loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(connection.terminate)  # if the loop ever goes on
        if inherited is not None:
            _sever(inherited.fileno())
    elif isinstance(inherited, TransportSocket):  # asyncio's loop; other loops close their sockets themselves
        with suppress(RuntimeError):  # asyncpg has told the server, and wants the loop to do the rest
            connection.terminate()
        inherited._sock.close()  # type: ignore[attr-defined]


def _sever(number: int) -> None:
    if number < 0:
        return  # the socket is closed
    ours, other = socket.socketpair()
    with ours, other:
        os.dup2(ours.fileno(), number, inheritable=False)


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """Closes itself when ``fetch`` or ``execute`` had no answer for ``ANSWER_WITHIN``, or a fifteenth longer; then they
    raise ``Unanswered``.

    BEGIN and COMMIT are limited as well. asyncpg's ``command_timeout`` would ask the silent server to cancel the
    statement, and have a ROLLBACK wait as long again for the answer; it would also make a timer for each statement.
    Here one timer looks every few seconds while the connection is used. It counts looks, not seconds, since a blocked
    loop does not hear answers.
    """

    BEGIN: ClassVar[str] = "BEGIN"
    """The statement that begins a transaction."""

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
        """Is one transaction, not nested. Raises an error in it unchanged, even if it cannot be rolled back.

        After a cancellation it stays open, since a ROLLBACK would wait until the server has ended the cancelled
        statement, which a silent server never does: the connection's owner calls ``reset``, in bounded time, or closes
        it.
        """
        self._has_begun = True
        try:
            await self.execute(self.BEGIN)
        except asyncpg.PostgresError:  # from a standby, perhaps: the next connection may reach another server
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
        """Waits for the cancelled statement, rolls back, and resets the session."""
        async with asyncio.timeout(timeout):
            await self.roll_back()
            await super().reset()

    async def roll_back(self) -> None:
        """Waits for the cancelled statement, and rolls back if a transaction is open."""
        # A BEGIN that was cancelled may have begun one that asyncpg does not know of yet.
        if self._has_begun or self.is_in_transaction():
            await self.execute("ROLLBACK")
            self._has_begun = False

    async def lift_transaction_timeout(self) -> None:
        """Turns the server's timeout of transactions off. A reset, which would turn it on again, does so too."""
        if self._has_transaction_timeout:
            await self.execute(NO_TRANSACTION_TIMEOUT)

    def get_reset_query(self) -> str:
        """See asyncpg's own."""
        query: str = super().get_reset_query()
        return f"{query}\n{NO_TRANSACTION_TIMEOUT};" if self._has_transaction_timeout else query

    @property
    def _has_transaction_timeout(self) -> bool:
        return bool(self.get_server_version().major >= TRANSACTION_TIMEOUT_SINCE)

    async def _get_statement(self, *args: Any, **options: Any) -> Any:
        """See asyncpg's own: a statement whose session ends while it is being prepared was not executed."""
        try:
            return await super()._get_statement(*args, **options)
        except asyncpg.ConnectionDoesNotExistError as error:
            raise NotSent(ENDED_WHILE_IDLE) from error

    async def _introspect_types(self, typeoids: Collection[int], timeout: float | None) -> Any:  # noqa: ASYNC109
        """See asyncpg's own: it asks each new session for what every server has alike, which takes longer than a claim
        of a thousand tasks. Arrays of built-in types need not be asked for."""
        if all(oid in ARRAYS for oid in typeoids):
            return [ARRAYS[oid] for oid in typeoids], _UNASKED
        return await super()._introspect_types(typeoids, timeout)

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
            return  # the next statement starts the timer again
        self._looks += 1
        if self._looks <= LOOKS:
            self._look_later()
        else:
            self._is_silent = True
            self.terminate()
