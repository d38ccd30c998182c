"""Makes connections of our own: as the URL says, with our settings, and with a password that is fetched for each."""

import asyncio
import inspect
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

import asyncpg
from sqlalchemy.engine import URL

from fang_async.bounded import DRIVER, BoundedConnection, connect_within
from fang_async.pooler import PoolerConnection
from fang_async.runner import typed
from fang_core.errors import AccessRefused, BackendError, UsageError
from fang_postgres.connecting import SETTINGS
from fang_postgres.diagnosis import code_of_connect_failure, diagnose
from fang_postgres.passwords import FETCHED_WITHIN, as_password, check_password, not_fetched
from fang_postgres.urls import Host, address

Password = Callable[[], str | Awaitable[str]]

_NOT_THIS_ONE: Final = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError,
                        asyncpg.InternalClientError)  # fmt: skip
"""Where the next host is tried: nobody there, not ready, or not of the kind that ``target_session_attrs`` wants."""


class Connector:
    """Makes a connection when it is called, on whatever loop.

    Args:
        url: what it connects to. Raises ``UsageError`` for what cannot be honoured.
        password: returns the password for each connect: an async function on the loop, a plain one on a thread of its
            own; None takes that of the URL.
        schema: for errors.
        keeps_session: whether a connection has its server for good.
    """

    def __init__(self, url: str | URL, password: Password | None, schema: str, *, keeps_session: bool) -> None:
        self._address = address(url).refuse_beyond_asyncpg()
        check_password(password, self._address, may_be_async=True)
        self._password = password
        self._schema = schema
        self._keeps_session = keeps_session

    @property
    def connects_within(self) -> float:
        """Seconds within which a connect has ended."""
        return self._address.connects_within + (FETCHED_WITHIN if self._password else 0)

    async def __call__(self) -> asyncpg.Connection:
        """One of ours, within the time of each host.

        Raises what asyncpg does, and ``OSError``; and ``NotConnected`` where no password could be fetched,
        ``AccessRefused`` where TLS is refused or a file is missing, and ``UsageError``. A password that is refused is
        fetched once more: it may have expired.
        """
        self._address.refuse_missing_files()
        try:
            return await self._with_password()
        except asyncpg.ClientConfigurationError as error:
            raise self._refusal(error) or UsageError(f"the database URL cannot be used: {_line(error)}") from None
        except (*DRIVER, OSError) as error:
            refusal = self._refusal(_of_tls(error))
            if refusal is None:
                raise
            raise refusal from error

    def _refusal(self, error: BaseException | None) -> BackendError | None:
        """What asyncpg has no code for: it did not get as far as the server's own word."""
        code = None if error is None else code_of_connect_failure(_line(error))
        return diagnose(code, _line(error), schema=self._schema) if error is not None and code is not None else None

    async def _with_password(self) -> asyncpg.Connection:
        if self._password is None:
            return await self._reach()
        try:
            return await self._reach(password=await self._fetched(self._password))
        except DRIVER as error:
            if not isinstance(typed(error, self._schema), AccessRefused):
                raise
        return await self._reach(password=await self._fetched(self._password))

    async def _fetched(self, password: Password) -> str:
        try:
            async with asyncio.timeout(FETCHED_WITHIN):
                found = password() if inspect.iscoroutinefunction(password) else await _in_thread(password)
                return as_password(await found if inspect.isawaitable(found) else found)
        except Exception as error:
            raise not_fetched(error) from error

    async def _reach(self, **password: str) -> asyncpg.Connection:
        hosts = self._address.hosts
        if len(hosts) > 1 and self._address.others.get("target_session_attrs") == "prefer-standby":
            return await self._connect(hosts, password)
        # One by one: asyncpg would give them all together the time that a single one has that does not answer.
        for host in hosts[:-1]:
            with suppress(*_NOT_THIS_ONE):
                return await self._connect([host], password)
        return await self._connect(hosts[-1:], password)

    async def _connect(self, hosts: Sequence[Host], password: dict[str, str]) -> asyncpg.Connection:
        settings = SETTINGS if self._keeps_session else {}
        options: dict[str, Any] = self._address.for_asyncpg(hosts, settings) | password
        if self._keeps_session:
            options["connection_class"] = BoundedConnection
        else:
            options |= {"connection_class": PoolerConnection, "statement_cache_size": 0}
        return await connect_within(self._address.host_connects_within, **options)


def _of_tls(error: BaseException) -> BaseException | None:
    """The error of TLS that lies beneath; asyncpg says of some only that the connection was closed."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError | ConnectionError):
            return found
        found = found.__cause__ or found.__context__
    return None


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _in_thread(function: Callable[[], Any]) -> "asyncio.Future[Any]":
    """Calls it on a daemon thread of its own: runs may fill the loop's executor, and exit waits for that."""
    future: Future[Any] = Future()

    def call() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
            future.set_exception(error)

    threading.Thread(target=call, name="fang-password", daemon=True).start()
    return asyncio.wrap_future(future)
