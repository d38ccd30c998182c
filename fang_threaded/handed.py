"""A connection of the caller's, as ``connection=`` takes it: what it is, and how a statement is sent there.

Nothing is left to what the application has set up on it; see ``fang_postgres.textform``. Errors of the database stay as
the connection raises them: the caller handles them with its transaction. Nothing here commits.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.string import StrDumper, TextLoader
from sqlalchemy import Connection, PoolProxiedConnection, TwoPhaseTransaction
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, scoped_session

from fang_core.errors import UsageError
from fang_core.naming import class_and_library
from fang_postgres.statement import ALL_AT_ONCE, Conversation, Operation, Rows
from fang_postgres.textform import TextForm
from fang_threaded.runner import converse

T = TypeVar("T")

_TAKEN: Final = (
    "connection= takes a SQLAlchemy Session or Connection, a psycopg or psycopg2 connection, "
    "or django.db.connection, not {}"
)


class Proxy(Protocol):
    """Stands for another object, which a type checker does not know: ``django.db.connection`` is one without stubs."""

    def __getattr__(self, name: Any, /) -> Any: ...


class DjangoConnection(Protocol):
    """``django.db.connection`` with stubs, or ``connections["name"]``."""

    vendor: str
    in_atomic_block: bool

    def ensure_connection(self) -> None: ...


class Psycopg2Connection(Protocol):
    """psycopg2's ``connection``."""

    @property
    def protocol_version(self) -> int: ...

    def tpc_recover(self) -> Any: ...


CallersConnection: TypeAlias = (
    Session
    | scoped_session[Any]
    | Connection
    | PoolProxiedConnection
    | psycopg.Connection[Any]
    | Psycopg2Connection
    | DjangoConnection
    | Proxy
)
"""What ``connection=`` takes; a pool's proxy is that of ``Engine.raw_connection()``."""


class Handed(ABC):
    """One of the kinds of connection that a caller can hand in."""

    def run(self, operation: Operation[T]) -> T:
        """One operation in the caller's transaction."""
        form = operation.statement.text_form
        return operation.decode(form.read(self._fetch(form, form.parameters(operation.params))))

    def converse(self, begin: Callable[..., Conversation[T]]) -> T:
        """A conversation in the caller's transaction."""
        return converse(self.run, begin(notify=self.may_notify))

    @property
    def may_notify(self) -> bool:
        """Whether its transaction may NOTIFY: Postgres refuses to prepare one that has."""
        return True

    def refuse_autocommit(self) -> None:
        """Raises ``UsageError`` if a statement would stand at once."""
        if self._is_in_autocommit():
            raise UsageError("complete() needs a transaction, and this connection is in autocommit")

    @abstractmethod
    def _is_in_autocommit(self) -> bool: ...

    @abstractmethod
    def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows: ...


def handed(connection: Any) -> Handed:
    """Recognises a connection, and takes it out of what holds it. Raises ``UsageError``."""
    if isinstance(connection, scoped_session):
        connection = connection()
    if isinstance(connection, PoolProxiedConnection):
        connection = connection.driver_connection
        if connection is None:
            raise UsageError("connection= has been closed, or was given back to its pool")
    match connection:
        case Session():
            return _OnSession(connection)
        case Connection():
            return _OnAlchemy(connection)
        case psycopg.Connection():
            return _OnPsycopg(connection)
    if _is_psycopg2(connection):
        return _OnPsycopg2(connection)
    if _is_django(connection):
        return _OnDjango(connection)
    raise UsageError(_TAKEN.format(class_and_library(connection)))


class _OnAlchemy(Handed):
    """A SQLAlchemy ``Connection``, whatever driver is beneath."""

    def __init__(self, connection: Connection) -> None:
        _require_postgres(connection.dialect.name)
        self._handed = connection

    @property
    def _connection(self) -> Connection:
        return self._handed

    @property
    def may_notify(self) -> bool:
        return not isinstance(self._connection.get_transaction(), TwoPhaseTransaction)

    def _is_in_autocommit(self) -> bool:
        return bool(getattr(self._connection.connection.dbapi_connection, "autocommit", False))

    def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows:
        result = self._handed.execute(form.core, params, execution_options=ALL_AT_ONCE)
        return result.all() if result.returns_rows else ()


class _OnSession(_OnAlchemy):
    """A SQLAlchemy ``Session``, whose own ``execute`` is called, with its hooks and its flush."""

    def __init__(self, session: Session) -> None:
        try:
            _require_postgres(session.get_bind().dialect.name)
        except UnboundExecutionError:
            raise UsageError(
                "connection= is a session without an engine, or with engines for single mappers only: "
                "hand in session.connection(bind_arguments={'mapper': ...})"
            ) from None
        self._session = session

    @property
    def _connection(self) -> Connection:
        return self._session.connection()

    def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows:
        result = self._session.execute(form.core, params, execution_options=ALL_AT_ONCE)
        return result.all() if result.returns_rows else ()  # type: ignore[attr-defined]


class _OnPsycopg(Handed):
    """A psycopg 3 connection, in pipeline mode too. Its cursor factory, row factory and adapters are not used."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @property
    def may_notify(self) -> bool:
        return self._connection._tpc is None  # psycopg has no public word for it

    def _is_in_autocommit(self) -> bool:
        return self._connection.autocommit and self._connection.info.transaction_status is TransactionStatus.IDLE

    def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows:
        with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            cursor.adapters.register_dumper(str, StrDumper)
            cursor.adapters.register_loader("refcursor", TextLoader)
            cursor.execute(form.psycopg_text.encode(), params)
            return cursor.fetchall() if form.returns_rows else ()


class _OnPsycopg2(Handed):
    """A psycopg2 connection. Its cursor factory is not used."""

    def __init__(self, connection: Any) -> None:
        if connection.async_:
            raise UsageError("connection= is a psycopg2 connection in asynchronous mode, which cannot wait for a reply")
        self._connection = connection

    def _is_in_autocommit(self) -> bool:
        return bool(self._connection.autocommit) and self._connection.info.transaction_status == TransactionStatus.IDLE

    def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows:
        plain = sys.modules["psycopg2.extensions"].cursor
        with self._connection.cursor(cursor_factory=plain) as cursor:
            cursor.execute(form.psycopg_text, params)
            return cursor.fetchall() if form.returns_rows else ()


class _OnDjango(Handed):
    """A connection of Django's, on psycopg 3 or psycopg2. Its own cursor is used: Django's hooks see the statement, and
    errors are Django's."""

    def __init__(self, connection: Any) -> None:
        _require_postgres(connection.vendor)
        self._connection = connection

    def _is_in_autocommit(self) -> bool:
        return bool(self._connection.get_autocommit())

    def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows:
        with self._connection.cursor() as cursor:
            cursor.execute(form.psycopg_text, params)
            return cursor.fetchall() if form.returns_rows else ()


def _is_psycopg2(connection: Any) -> bool:
    # An application that has such an object has imported the module; we do not need it.
    psycopg2 = sys.modules.get("psycopg2.extensions")
    return psycopg2 is not None and isinstance(connection, psycopg2.connection)


def _is_django(connection: Any) -> bool:
    # django.db.connection is a proxy, of no class that says so.
    needed = ("vendor", "ensure_connection", "in_atomic_block", "get_autocommit")
    return "django.db" in sys.modules and all(hasattr(connection, name) for name in needed)


def _require_postgres(dialect: str) -> None:
    if dialect != "postgresql":
        raise UsageError(f"connection= must be on Postgres, not {dialect}")
