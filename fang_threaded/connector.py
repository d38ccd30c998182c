"""Makes the queue's own connections: by its URL, with Fang's settings, and a password that is fetched for each."""

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from fang_core.errors import AccessRefused, UsageError
from fang_core.interpreter.forks import ForkWatch, in_child
from fang_postgres.connections.connecting import NO_TRANSACTION_TIMEOUT, SETTINGS, TRANSACTION_TIMEOUT_SINCE, as_options
from fang_postgres.urls.connector import BaseConnector
from fang_postgres.urls.passwords import as_password, not_fetched
from fang_postgres.urls.urls import address
from fang_threaded.connection import Connection
from fang_threaded.connection_timeouts import cut
from fang_threaded.driver_errors import typed
from fang_threaded.pooler import PoolerConnection
from fang_threaded.psycopg_adapters import own_adapters

if TYPE_CHECKING:
    from sqlalchemy import URL

C = TypeVar("C", bound=psycopg.Connection[Any])

SPARE: Final = 1.0
"""How many seconds a connect may take beyond the time that each host has to answer."""

_UNSHARED_TRIES: Final = 5  # even a process that forks all the time gets a connection


class Connector(BaseConnector[Callable[[], str]]):
    """Makes connections of psycopg's, and calls ``password`` on the thread that connects.

    Raises ``UsageError`` if the URL has parameters that cannot take effect.
    """

    def __init__(
        self, url: "str | URL", password: Callable[[], str] | None, schema: str, *, keeps_session: bool
    ) -> None:
        super().__init__(address(url), password, schema, keeps_session=keeps_session, may_be_async=False, spare=SPARE)

    def __call__(self) -> psycopg.Connection[Any]:
        """Makes a connection in autocommit: a process that is stopped between a statement and its COMMIT would keep its
        locks, also the one on its own record, and no pool could declare it dead.

        Raises ``psycopg.Error``; and ``NotConnected`` if no password could be fetched, ``AccessRefused`` if a file
        is missing, and ``UsageError``. A password that is refused is fetched once more: it may have expired.
        """
        if self._password is None:
            return self._connect()
        try:
            return self._connect(password=self._fetched(self._password))
        except psycopg.OperationalError as error:
            if not isinstance(typed(error, self._schema), AccessRefused):
                raise
        return self._connect(password=self._fetched(self._password))

    def _fetched(self, password: Callable[[], str]) -> str:
        try:
            return as_password(password())
        except Exception as error:
            raise not_fetched(error) from error

    def _connect(self, **password: str) -> psycopg.Connection[Any]:
        self._address.refuse_what_is_missing()
        settings = as_options(SETTINGS) if self._keeps_session else ""
        options = self._address.for_psycopg(settings=settings) | password
        made_as = Connection if self._keeps_session else PoolerConnection
        prepared: dict[str, Any] = {} if self._keeps_session else {"prepare_threshold": None}
        try:
            connection: Connection = unshared(
                lambda: made_as.connect(**options, **prepared, autocommit=True, context=own_adapters()),
            )
        except psycopg.ProgrammingError as error:  # raised by libpq, which may be older than a parameter
            raise UsageError(f"the database URL cannot be used: {error}") from None
        if self._keeps_session:
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            lift_transaction_timeout(connection)
        return connection


def lift_transaction_timeout(connection: psycopg.Connection[Any]) -> None:
    """Turns off the server's timeout of transactions for this session; closes the connection if that fails."""
    if connection.info.server_version // 10_000 < TRANSACTION_TIMEOUT_SINCE:
        return
    try:
        connection.execute(NO_TRANSACTION_TIMEOUT)
    except BaseException:
        connection.close()
        raise


def unshared(connect: Callable[[], C]) -> C:
    """Makes a connection that no forked child shares, whether it is forked during the connect or later.

    A child that is forked during a connect inherits the open socket, so the server would not see when the parent dies.
    Such a connection is cut, and another one is made.
    """
    for tries_left in reversed(range(_UNSHARED_TRIES)):
        watch = ForkWatch()
        connection = connect()
        _sever_in_child(connection)
        if not watch.has_forked() or not tries_left:
            break
        cut(connection)
        connection.close()
    return connection


def _sever_in_child(connection: psycopg.Connection[Any]) -> None:
    """Has each forked child replace its copy of the socket, under the same number: nothing that libpq still sends there
    reaches the server, which sees when the parent dies."""
    in_child(connection, lambda inherited: _sever(inherited.fileno()))


def _sever(number: int) -> None:
    ours, other = socket.socketpair()
    with ours, other:
        os.dup2(ours.fileno(), number, inheritable=False)
