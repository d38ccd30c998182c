"""Makes the queue's own connections: by its URL, with Fang's settings, and a password that is fetched for each."""

import asyncio
import inspect
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from fang_async.connection import DRIVER, Connection, connect_within
from fang_async.database import typed
from fang_async.pooler import PoolerConnection
from fang_core.errors import AccessRefused, BackendError, UsageError
from fang_core.words.naming import first_line
from fang_postgres.connections.connecting import SETTINGS
from fang_postgres.connections.diagnosis import code_of_connect_failure, diagnose
from fang_postgres.urls.address import Host
from fang_postgres.urls.connector import BaseConnector
from fang_postgres.urls.passfile import from_passfile
from fang_postgres.urls.passwords import FETCHED_WITHIN, as_password, not_fetched
from fang_postgres.urls.urls import address

if TYPE_CHECKING:
    from sqlalchemy import URL

Password = Callable[[], str | Awaitable[str]]

_NOT_THIS_ONE: Final = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError,
                        asyncpg.InternalClientError)  # fmt: skip
"""Errors after which the next host is tried: no server, one not ready, or not as ``target_session_attrs`` asks."""


class Connector(BaseConnector[Password]):
    """Makes connections of asyncpg's on the loop that runs. It calls an async ``password`` on that loop, and any other
    on a thread of its own. Raises ``UsageError`` if the URL has parameters that cannot take effect."""

    def __init__(self, url: "str | URL", password: Password | None, schema: str, *, keeps_session: bool) -> None:
        checked = address(url).refuse_beyond_asyncpg()
        super().__init__(checked, password, schema, keeps_session=keeps_session, may_be_async=True)

    async def __call__(self) -> asyncpg.Connection:
        """Makes a connection, within the time that each host has.

        Raises what asyncpg raises, and ``OSError``; and ``NotConnected`` if no password could be fetched,
        ``AccessRefused`` if TLS is refused or a file is missing, and ``UsageError``. A password that is refused is
        fetched once more: it may have expired.
        """
        self._address.refuse_what_is_missing()
        try:
            return await self._with_password()
        except asyncpg.ClientConfigurationError as error:
            raise self._refusal(error) or UsageError(f"the database URL cannot be used: {first_line(error)}") from None
        except (*DRIVER, OSError) as error:
            refusal = self._refusal(_of_tls(error))
            if refusal is None:
                raise
            raise refusal from error

    def _refusal(self, error: BaseException | None) -> BackendError | None:
        """Returns the typed error of a connect that failed before the server sent a code; None for unknown errors."""
        line = "" if error is None else first_line(error)
        code = code_of_connect_failure(line)
        return None if code is None else diagnose(code, line, schema=self._schema)

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
        # One by one: asyncpg would give all of them together the time of a single silent one.
        for host in hosts[:-1]:
            with suppress(*_NOT_THIS_ONE):
                return await self._connect([host], password)
        return await self._connect(hosts[-1:], password)

    async def _connect(self, hosts: Sequence[Host], password: dict[str, str]) -> asyncpg.Connection:
        settings = SETTINGS if self._keeps_session else {}
        options: dict[str, Any] = self._address.for_asyncpg(hosts, settings)
        options |= {"user": self._address.login()} | (password or from_passfile(self._address, hosts))
        if self._keeps_session:
            options["connection_class"] = Connection
        else:
            options |= {"connection_class": PoolerConnection, "statement_cache_size": 0}
        return await connect_within(self._address.host_connects_within, **options)


def _of_tls(error: BaseException) -> BaseException | None:
    """Returns the error of TLS beneath an error; asyncpg says of some only that the connection was closed."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError | ConnectionError):
            return found
        found = found.__cause__ or found.__context__
    return None


def _in_thread(function: Callable[[], Any]) -> "asyncio.Future[Any]":
    """Calls a function on its own daemon thread: runs may fill the loop's executor, for which an exit waits."""
    future: Future[Any] = Future()

    def call() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised to the task that awaits it
            future.set_exception(error)

    threading.Thread(target=call, name="fang-password", daemon=True).start()
    return asyncio.wrap_future(future)
