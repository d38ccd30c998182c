"""Reads in statements that are each bounded in time, and goes on without those that take too long."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from fang_core.errors import BackendError, SchemaError
from fang_core.pool.telling.glance import Glance
from fang_postgres.connections.connecting import SET_FOR_TRANSACTION, set_for_transaction
from fang_postgres.connections.engine import engine_for
from fang_postgres.reports.reports import Reports
from fang_postgres.revisions import schema_problem
from fang_postgres.sql.reports import SETTINGS
from fang_postgres.statement import Operation, Script
from fang_threaded.database import Database, EngineDatabase, sqlstate_of

T = TypeVar("T")

_QUERY_CANCELED: Final = "57014"
# A plan with what these forbid counts as so dear that the server would compile it first, for a second and more.
_SETTINGS: Final = {**SETTINGS, "jit": "off"}


@dataclass(slots=True)
class Patience:
    """Decides how long to wait for a statement, so that part of a cold, locked or overloaded database is still read.

    After each statement that takes too long the wait is halved, down to 0.25 s, so that all of them together take 5 s.
    """

    milliseconds: int = 2_000

    def used_up(self) -> None:
        """Halves the wait, after a statement took too long."""
        self.milliseconds = max(250, self.milliseconds // 2)


class Reader:
    """Runs one statement after the other, and leaves out those that take too long."""

    def __init__(self, database: Database, patience: Patience) -> None:
        self._database = database
        self._patience = patience
        self.unread: list[str] = []
        """The names of the statements that took too long."""

    def ask(self, operation: Operation[T]) -> T | None:
        """Returns the operation's result, or None if it took too long."""
        try:
            return self._database.run(operation)
        except BackendError as error:
            cause = error.__cause__
            if not isinstance(cause, DBAPIError) or sqlstate_of(cause) != _QUERY_CANCELED:
                raise
        self._patience.used_up()
        self.unread.append(operation.statement.name)
        return None

    def run_script(self, script: Script[T]) -> T:
        """Returns the script's result; sends it None for each statement that took too long."""
        answer: Any = None
        while True:
            try:
                answer = self.ask(script.send(answer))
            except StopIteration as end:
                result: T = end.value
                return result

    def run_whole(self, script: Script[T]) -> T | None:
        """Returns the script's result, or None if one of its statements took too long."""
        answer: Any = None
        while True:
            try:
                answer = self.ask(script.send(answer))
            except StopIteration as end:
                result: T = end.value
                return result
            if answer is None:
                script.close()
                return None

    def look(self, reports: Reports, glance: Glance) -> bool:
        """Looks at the pools once more; returns whether that succeeded."""
        look = self.ask(reports.look())
        if look is not None:
            glance.look(look, time.monotonic())
        return look is not None


@contextmanager
def reader_of_tables(url: str, schema: str, reports: Reports) -> Iterator[Reader]:
    """Yields a reader of the tables. Raises ``SchemaError`` unless they are there, in a revision that we know."""
    patience = Patience()
    with database_for_reading(url, schema, patience) as database:
        problem = schema_problem(schema, database.run(reports.version()))
        if problem is not None:
            raise SchemaError(problem)
        yield Reader(database, patience)


@contextmanager
def database_for_reading(
    url: str, schema: str, patience: Patience, application_name: str = "fang status"
) -> Iterator[Database]:
    """Yields a database with one connection, whose transactions have the settings of reports and this patience."""
    engine = engine_for(url, application_name=application_name, prepares=False, pool_size=1)

    # For each transaction: a pooler refuses settings at the start, and would pass a session's on to its other clients.
    @event.listens_for(engine, "begin")
    def pin(connection: Any) -> None:
        connection.exec_driver_sql(SET_FOR_TRANSACTION)
        timeout = {"statement_timeout": str(patience.milliseconds)}
        connection.exec_driver_sql(set_for_transaction(_SETTINGS | timeout))

    try:
        yield EngineDatabase(engine, schema, is_own=True)
    finally:
        engine.dispose()
