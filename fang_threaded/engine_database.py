"""Runs operations on an application's engine. Only a queue on one imports this, with SQLAlchemy, which takes time."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import sessionmaker

from fang_core.errors import BackendError
from fang_postgres.connections.diagnosis import before_sending
from fang_postgres.planner_guard import PlanGuard
from fang_postgres.statement import OWN_OPTIONS, Operation
from fang_threaded.database import Database, Lost, Run, is_on, watched
from fang_threaded.driver_errors import typed

T = TypeVar("T")


class EngineDatabase(Database):
    """Runs operations on an engine, each in a transaction and a session: the application's hooks may need both.

    It does not depend on what the application has set up on its connections; see ``fang_postgres.textform``.

    The engine's pool may hand out a connection whose session was ended while it lay idle. A transaction that is lost
    before its COMMIT is sent has written nothing, so it is sent once more: SQLAlchemy has emptied the pool by then.
    """

    def __init__(self, engine: Engine, schema: str) -> None:
        super().__init__(schema)
        self._sessions = sessionmaker(engine)

    def _on_connection(self, work: Callable[[Run], T], guard: PlanGuard | None, in_transaction: bool) -> T:
        try:
            return self._in_session(work, guard)
        except Lost:
            return self._in_session(work, guard)

    def _in_session(self, work: Callable[[Run], T], guard: PlanGuard | None) -> T:
        with ExitStack() as transaction:
            try:
                connection, invalidate = self._begun(transaction)
            except PoolTimeout:
                raise BackendError("no connection became free in time: raise the engine's pool_size") from None
            except DBAPIError as error:
                raise before_sending(typed(error, self._schema)) from error
            is_guarded = is_on(guard)
            try:
                if is_guarded and guard is not None:
                    # All at once: a cursor that streams would not fetch the row, so that nothing would be set.
                    connection.execute(text(guard.settings), execution_options=OWN_OPTIONS).close()
                run = self._quieted(partial(_execute_text, connection))
                return watched(partial(work, run), guard, is_guarded=is_guarded)
            except Exception as error:
                # A run may have left any setting behind, such as a transaction that is read only.
                if not self._lies_elsewhere(error):
                    invalidate()
                if isinstance(error, DBAPIError) and error.connection_invalidated:
                    raise Lost(str(typed(error, self._schema))) from error
                self._raise_if_lost(error)
                raise

    def _begun(self, transaction: ExitStack) -> tuple[Connection, Callable[[], object]]:
        """Begins a transaction that ends with the stack; returns its connection, and what gives that up."""
        session = transaction.enter_context(self._sessions.begin())
        return session.connection(), session.invalidate


def _execute_text(connection: Connection, operation: Operation[T]) -> T:
    # Send the text that was compiled once: SQLAlchemy would look each time whether it knows the statement.
    form = operation.statement.text_form
    result = connection.exec_driver_sql(form.psycopg_text, form.parameters(operation.params), OWN_OPTIONS)
    return operation.decode(form.read(result.all() if form.returns_rows else ()))
