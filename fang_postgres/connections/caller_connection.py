"""Runs operations on a caller's connection, as ``connection=`` takes it, for both modes, which recognise and use it.

It depends on nothing that the application has set up on it; see ``fang_postgres.textform``. Errors of the database stay
as the connection raises them: the caller handles them with its transaction. Nothing here commits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fang_core.errors import UsageError
from fang_core.interpreter.imported import is_of
from fang_core.words.naming import class_and_library
from fang_postgres.statement import OWN_OPTIONS, Operation, Rows, Script, run_script

if TYPE_CHECKING:
    from fang_postgres.textform import TextForm

T = TypeVar("T")


class ConnectionAdapter(ABC):
    """A kind of connection that a caller can pass. In threads its coroutines block."""

    def __init__(self, connection: Any) -> None:
        self._given = connection

    async def run(self, operation: Operation[T]) -> T:
        """Runs one operation in the caller's transaction."""
        form = operation.statement.text_form
        return operation.decode(form.read(await self._fetch(form, operation.params)))

    async def run_script(self, begin: Callable[..., Script[T]]) -> T:
        """Runs a script in the caller's transaction."""
        return await run_script(self.run, begin(notify=await self.may_notify()))

    async def may_notify(self) -> bool:
        """Returns whether its transaction may NOTIFY: Postgres refuses PREPARE TRANSACTION after that."""
        return True

    async def refuse_autocommit(self) -> None:
        """Raises ``UsageError`` if each statement would be committed at once."""
        if await self._is_in_autocommit():
            raise UsageError("complete() needs a transaction, and this connection is in autocommit")

    @abstractmethod
    async def _is_in_autocommit(self) -> bool: ...

    @abstractmethod
    async def _fetch(self, form: "TextForm", params: Mapping[str, Any]) -> Rows: ...


class AlchemyAdapter(ConnectionAdapter):
    """A connection or a session of SQLAlchemy's, for threads or for asyncio, with any driver.

    Args:
        connection: the connection or session itself, whose ``execute`` is called: a session's has hooks, and flushes.
        session: the name of a session in messages; None for a connection.
    """

    def __init__(self, connection: Any, *, session: str | None = None) -> None:
        check_dialect((connection if session is None else _bind_of(connection, session)).dialect.name)
        super().__init__(connection)
        self._is_session = session is not None

    async def may_notify(self) -> bool:
        """See ``ConnectionAdapter.may_notify``."""
        connection = await self._connection()
        connection = connection.sync_connection if _is_async(connection) else connection
        return connection is None or not is_of(connection.get_transaction(), "sqlalchemy", "TwoPhaseTransaction")

    async def _is_in_autocommit(self) -> bool:
        connection = await self._connection()
        pooled = await _result(connection.get_raw_connection()) if _is_async(connection) else connection.connection
        return bool(getattr(pooled.dbapi_connection, "autocommit", False))

    async def _fetch(self, form: "TextForm", params: Mapping[str, Any]) -> Rows:
        result = await _result(self._given.execute(form.core, form.parameters(params), execution_options=OWN_OPTIONS))
        return result.all() if result.returns_rows else ()

    async def _connection(self) -> Any:
        return await _result(self._given.connection()) if self._is_session else self._given


async def _result(of: Any) -> Any:
    """Returns the result of a method, or of its coroutine in asyncio."""
    return await of if isawaitable(of) else of


def adapt_session(connection: Any, module: str, scoped: str, session: str, *, shown: str) -> AlchemyAdapter | None:
    """Returns the adapter of a session of SQLAlchemy's, also of that of a scoped session; None for anything else.

    The module and the classes are given by name: an application that has such an object has imported the module. Fang
    does not, as that takes time, and greenlet for asyncio.
    """
    if is_of(connection, module, scoped):
        connection = connection()
    return AlchemyAdapter(connection, session=shown) if is_of(connection, module, session) else None


def _is_async(connection: Any) -> bool:
    return hasattr(connection, "sync_connection")


class Proxy(Protocol):
    """Stands for another object that a type checker does not know, such as a connection from an asyncpg pool, or
    ``django.db.connection`` without stubs."""

    def __getattr__(self, name: Any, /) -> Any: ...


def refusal(connection: object, takes: str) -> UsageError:
    """Returns the error for an object that is not a connection of the mode."""
    return UsageError(f"connection= takes {takes}, not {class_and_library(connection)}")


def check_dialect(dialect: str) -> None:
    """Raises ``UsageError`` unless it is the dialect of Postgres."""
    if dialect != "postgresql":
        raise UsageError(f"connection= must be on Postgres, not {dialect}")


def _bind_of(session: Any, name: str) -> Any:
    from sqlalchemy.exc import UnboundExecutionError  # the application has imported it

    try:
        return session.get_bind()
    except UnboundExecutionError:
        raise UsageError(
            "connection= is a session without an engine, or with engines for single mappers only: "
            f"pass {name}.connection(bind_arguments={{'mapper': ...}})"
        ) from None
