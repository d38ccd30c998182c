"""Makes connections of our own: as the URL says, with our settings, and with a password that is fetched for each."""

from collections.abc import Callable
from typing import Any, Final

import psycopg
from sqlalchemy.engine import URL

from fang_core.errors import AccessRefused, UsageError
from fang_postgres.connecting import NO_TRANSACTION_TIMEOUT, SETTINGS, TRANSACTION_TIMEOUT_SINCE, as_options
from fang_postgres.passwords import FETCHED_WITHIN, as_password, check_password, not_fetched
from fang_postgres.urls import address
from fang_threaded.bounded import BoundedConnection
from fang_threaded.cutting import unshared
from fang_threaded.pooler import PoolerConnection
from fang_threaded.runner import typed

SPARE: Final = 1.0
"""Seconds beyond the time that a host, or each of several, has to answer a connect."""


class Connector:
    """Makes a connection when it is called.

    Args:
        url: what it connects to. Raises ``UsageError`` for what cannot be honoured.
        password: returns the password for each connect, on the thread that connects; None takes that of the URL.
        schema: for errors.
        keeps_session: whether a connection has its server for good.
    """

    def __init__(self, url: str | URL, password: Callable[[], str] | None, schema: str, *, keeps_session: bool) -> None:
        self._address = address(url)
        check_password(password, self._address, may_be_async=False)
        self._password = password
        self._schema = schema
        self._keeps_session = keeps_session

    @property
    def connects_within(self) -> float:
        """Seconds within which a connect has ended, if the password is fetched in time."""
        return SPARE + self._address.connects_within + (FETCHED_WITHIN if self._password else 0)

    def __call__(self) -> psycopg.Connection[Any]:
        """One in autocommit: a process that is stopped between a statement and its COMMIT would keep its locks, that on
        its own record too, and nobody could declare it dead.

        Raises ``psycopg.Error``; and ``NotConnected`` where no password could be fetched, ``AccessRefused`` where a
        file is missing, and ``UsageError``. A password that is refused is fetched once more: it may have expired.
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
        self._address.refuse_missing_files()
        settings = as_options(SETTINGS) if self._keeps_session else ""
        options = self._address.for_psycopg(settings=settings) | password
        made_as = BoundedConnection if self._keeps_session else PoolerConnection
        prepared: dict[str, Any] = {} if self._keeps_session else {"prepare_threshold": None}
        try:
            connection: BoundedConnection = unshared(
                lambda: made_as.connect(**options, **prepared, autocommit=True),
            )
        except psycopg.ProgrammingError as error:  # libpq's own, which may be older than a parameter
            raise UsageError(f"the database URL cannot be used: {error}") from None
        if self._keeps_session:
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            lift_transaction_timeout(connection)
        return connection


def lift_transaction_timeout(connection: psycopg.Connection[Any]) -> None:
    """Has the server end no transaction of this session; closes the connection where that fails."""
    if connection.info.server_version // 10_000 < TRANSACTION_TIMEOUT_SINCE:
        return
    try:
        connection.execute(NO_TRANSACTION_TIMEOUT)
    except BaseException:
        connection.close()
        raise
