"""Recognises a caller's connection for asyncio: one of asyncpg or SQLAlchemy."""

import asyncio
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import asyncpg

from fang_core.errors import UsageError
from fang_core.interpreter.imported import is_of
from fang_postgres.connections.caller_connection import AlchemyAdapter, ConnectionAdapter, Proxy, adapt_session, refusal
from fang_postgres.statement import Operation, Rows

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

    from fang_postgres.textform import TextForm

T = TypeVar("T")

_TAKEN: Final = "an asyncpg connection, an AsyncSession or an AsyncConnection"
_TEXT_FORM: Final = "fang_postgres.textform"


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


def adapt(connection: Any) -> ConnectionAdapter:
    """Returns the adapter of a caller's connection. Raises ``UsageError`` if it cannot be used."""
    if isinstance(connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return _AsyncpgAdapter(connection)
    names = "sqlalchemy.ext.asyncio", "async_scoped_session", "AsyncSession"
    if session := adapt_session(connection, *names, shown="await session"):
        return session
    if is_of(connection, "sqlalchemy.ext.asyncio", "AsyncConnection"):  # to import it needs greenlet
        return AlchemyAdapter(connection)
    if is_of(connection, "sqlalchemy", "PoolProxiedConnection"):
        # SQLAlchemy sends BEGIN with its own first statement only: Fang's statement would survive a rollback.
        raise UsageError("connection= cannot be the raw connection of an AsyncEngine: hand in its AsyncConnection")
    raise refusal(connection, _TAKEN)


class _AsyncpgAdapter(ConnectionAdapter):
    """Runs on an asyncpg connection. Ignores its codecs and its record class."""

    async def run(self, operation: Operation[T]) -> T:
        """See ``ConnectionAdapter.run``."""
        if not hasattr(sys.modules.get(_TEXT_FORM), "TextForm"):  # SQLAlchemy takes a while: the loop goes on
            await asyncio.to_thread(import_module, _TEXT_FORM)
        return await super().run(operation)

    async def _is_in_autocommit(self) -> bool:
        return not self._given.is_in_transaction()

    async def _fetch(self, form: "TextForm", params: Mapping[str, Any]) -> Rows:
        rows: Rows = await self._given.fetch(form.text, *form.arguments(params), record_class=asyncpg.Record)
        return rows
