"""A connection of the caller's, as ``connection=`` takes it: what it is, and how a statement is sent there.

Nothing is left to what the application has set up on it; see ``fang_postgres.textform``. Errors of the database stay as
the connection raises them: the caller handles them with its transaction. Nothing here commits.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import asyncpg
from sqlalchemy import PoolProxiedConnection, TwoPhaseTransaction
from sqlalchemy.exc import UnboundExecutionError

from fang_async.runner import converse
from fang_core.errors import UsageError
from fang_core.naming import class_and_library
from fang_postgres.statement import ALL_AT_ONCE, Conversation, Operation, Rows
from fang_postgres.textform import TextForm

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

T = TypeVar("T")

_TAKEN: Final = "connection= takes an asyncpg connection, an AsyncSession or an AsyncConnection, not {}"


class Proxy(Protocol):
    """Stands for another object, which a type checker does not know: what an asyncpg pool lends is one."""

    def __getattr__(self, name: Any, /) -> Any: ...


class AsyncpgConnection(Protocol):
    """An asyncpg connection."""

    def is_in_transaction(self) -> bool: ...

    def get_server_pid(self) -> int: ...


if TYPE_CHECKING:
    CallersConnection: TypeAlias = (
        AsyncpgConnection | AsyncSession | async_scoped_session[Any] | AsyncConnection | Proxy
    )
    """What ``connection=`` takes."""
else:
    CallersConnection = Any


class Handed(ABC):
    """One of the kinds of connection that a caller can hand in."""

    async def run(self, operation: Operation[T]) -> T:
        """One operation in the caller's transaction."""
        form = operation.statement.text_form
        return operation.decode(form.read(await self._fetch(form, operation.params)))

    async def converse(self, begin: Callable[..., Conversation[T]]) -> T:
        """A conversation in the caller's transaction."""
        return await converse(self.run, begin(notify=await self.may_notify()))

    async def may_notify(self) -> bool:
        """Whether its transaction may NOTIFY: Postgres refuses to prepare one that has."""
        return True

    async def refuse_autocommit(self) -> None:
        """Raises ``UsageError`` if a statement would stand at once."""
        if await self._is_in_autocommit():
            raise UsageError("complete() needs a transaction, and this connection is in autocommit")

    @abstractmethod
    async def _is_in_autocommit(self) -> bool: ...

    @abstractmethod
    async def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows: ...


def handed(connection: Any) -> Handed:
    """Recognises a connection, and takes it out of what holds it. Raises ``UsageError``."""
    if isinstance(connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return _OnAsyncpg(connection)
    # An application that has such an object has imported the module: it needs greenlet, which we do not.
    sqlalchemy_asyncio = sys.modules.get("sqlalchemy.ext.asyncio")
    if sqlalchemy_asyncio is not None:
        if isinstance(connection, sqlalchemy_asyncio.async_scoped_session):
            connection = connection()
        if isinstance(connection, sqlalchemy_asyncio.AsyncSession):
            return _OnSession(connection)
        if isinstance(connection, sqlalchemy_asyncio.AsyncConnection):
            return _OnAlchemy(connection)
    if isinstance(connection, PoolProxiedConnection):
        # SQLAlchemy sends BEGIN with its own first statement only: ours would survive a rollback.
        raise UsageError("connection= cannot be the raw connection of an AsyncEngine: hand in its AsyncConnection")
    raise UsageError(_TAKEN.format(class_and_library(connection)))


class _OnAsyncpg(Handed):
    """An asyncpg connection. Its codecs and its record class are not used."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def _is_in_autocommit(self) -> bool:
        return not self._connection.is_in_transaction()

    async def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows:
        rows: Rows = await self._connection.fetch(form.text, *form.arguments(params), record_class=asyncpg.Record)
        return rows


class _OnAlchemy(Handed):
    """A SQLAlchemy ``AsyncConnection``, whatever driver is beneath."""

    def __init__(self, connection: "AsyncConnection") -> None:
        _require_postgres(connection.dialect.name)
        self._handed = connection

    async def _connection(self) -> "AsyncConnection":
        return self._handed

    async def may_notify(self) -> bool:
        connection = (await self._connection()).sync_connection
        return connection is None or not isinstance(connection.get_transaction(), TwoPhaseTransaction)

    async def _is_in_autocommit(self) -> bool:
        raw = (await (await self._connection()).get_raw_connection()).dbapi_connection
        return bool(getattr(raw, "autocommit", False))

    async def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows:
        result = await self._handed.execute(form.core, form.parameters(params), execution_options=ALL_AT_ONCE)
        return result.all() if result.returns_rows else ()


class _OnSession(_OnAlchemy):
    """A SQLAlchemy ``AsyncSession``, whose own ``execute`` is called, with its hooks and its flush."""

    def __init__(self, session: "AsyncSession") -> None:
        try:
            _require_postgres(session.get_bind().dialect.name)
        except UnboundExecutionError:
            raise UsageError(
                "connection= is a session without an engine, or with engines for single mappers only: "
                "hand in await session.connection(bind_arguments={'mapper': ...})"
            ) from None
        self._session = session

    async def _connection(self) -> "AsyncConnection":
        return await self._session.connection()

    async def _fetch(self, form: TextForm, params: Mapping[str, Any]) -> Rows:
        result = await self._session.execute(form.core, form.parameters(params), execution_options=ALL_AT_ONCE)
        return result.all() if result.returns_rows else ()  # type: ignore[attr-defined]


def _require_postgres(dialect: str) -> None:
    if dialect != "postgresql":
        raise UsageError(f"connection= must be on Postgres, not {dialect}")
