"""Recognises a caller's connection for threads: one of SQLAlchemy, psycopg, psycopg2 or Django."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, Union

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.string import StrDumper, TextLoader

from fang_core.backends.django import DjangoConnection, is_django
from fang_core.errors import UsageError
from fang_core.interpreter.imported import is_of
from fang_postgres.connections.caller_connection import (
    AlchemyAdapter,
    ConnectionAdapter,
    Proxy,
    adapt_session,
    check_dialect,
    refusal,
)
from fang_postgres.statement import Rows

if TYPE_CHECKING:
    from sqlalchemy import Connection, PoolProxiedConnection
    from sqlalchemy.orm import Session, scoped_session

    from fang_postgres.textform import TextForm

_TAKEN: Final = "a SQLAlchemy Session or Connection, a psycopg or psycopg2 connection, or django.db.connection"


class Psycopg2Connection(Protocol):
    """psycopg2's ``connection``."""

    @property
    def protocol_version(self) -> int: ...

    def tpc_recover(self) -> Any: ...


CallersConnection: TypeAlias = Union[  # texts: known to type checkers alone
    "Session",
    "scoped_session[Any]",
    "Connection",
    "PoolProxiedConnection",
    psycopg.Connection[Any],
    Psycopg2Connection,
    DjangoConnection,
    Proxy,
]
"""What ``connection=`` takes; a pool's proxy is that of ``Engine.raw_connection()``."""


def adapt(connection: Any) -> ConnectionAdapter:
    """Returns the adapter of a caller's connection. Raises ``UsageError`` if it cannot be used."""
    if session := adapt_session(connection, "sqlalchemy.orm", "scoped_session", "Session", shown="session"):
        return session
    if is_of(connection, "sqlalchemy", "PoolProxiedConnection"):
        connection = connection.driver_connection
        if connection is None:
            raise UsageError("connection= has been closed, or was given back to its pool")
    if is_of(connection, "sqlalchemy", "Connection"):
        return AlchemyAdapter(connection)
    if isinstance(connection, psycopg.Connection):
        return _PsycopgAdapter(connection)
    if _is_psycopg2(connection):
        return _Psycopg2Adapter(connection)
    if is_django(connection):
        return _DjangoAdapter(connection)
    raise refusal(connection, _TAKEN)


class _PsycopgAdapter(ConnectionAdapter):
    """Runs on a psycopg 3 connection, in pipeline mode too. Ignores its cursor factory, row factory and adapters."""

    async def may_notify(self) -> bool:
        return self._given._tpc is None  # psycopg has no public word for it

    async def _is_in_autocommit(self) -> bool:
        return self._given.autocommit and self._given.info.transaction_status is TransactionStatus.IDLE

    async def _fetch(self, form: "TextForm", params: Mapping[str, Any]) -> Rows:
        with psycopg.Cursor(self._given, row_factory=tuple_row) as cursor:
            cursor.adapters.register_dumper(str, StrDumper)
            cursor.adapters.register_loader("refcursor", TextLoader)
            cursor.execute(form.psycopg_text.encode(), form.parameters(params))
            return cursor.fetchall() if form.returns_rows else ()


class _Psycopg2Adapter(ConnectionAdapter):
    """Runs on a psycopg2 connection. Ignores its cursor factory."""

    def __init__(self, connection: Any) -> None:
        if connection.async_:
            raise UsageError("connection= is a psycopg2 connection in asynchronous mode, which cannot wait for a reply")
        super().__init__(connection)

    async def _is_in_autocommit(self) -> bool:
        return bool(self._given.autocommit) and self._given.info.transaction_status == TransactionStatus.IDLE

    async def _fetch(self, form: "TextForm", params: Mapping[str, Any]) -> Rows:
        plain = sys.modules["psycopg2.extensions"].cursor
        with self._given.cursor(cursor_factory=plain) as cursor:
            cursor.execute(form.psycopg_text, form.parameters(params))
            return cursor.fetchall() if form.returns_rows else ()


class _DjangoAdapter(ConnectionAdapter):
    """Runs on a connection of Django's, with psycopg 3 or psycopg2. Uses its cursor, so that Django's hooks see the
    statement, and errors are Django's."""

    def __init__(self, connection: Any) -> None:
        check_dialect(connection.vendor)
        super().__init__(connection)

    async def _is_in_autocommit(self) -> bool:
        return bool(self._given.get_autocommit())

    async def _fetch(self, form: "TextForm", params: Mapping[str, Any]) -> Rows:
        with self._given.cursor() as cursor:
            cursor.execute(form.psycopg_text, form.parameters(params))
            return cursor.fetchall() if form.returns_rows else ()


def _is_psycopg2(connection: Any) -> bool:
    return is_of(connection, "psycopg2.extensions", "connection")
