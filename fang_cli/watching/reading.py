"""Reads in statements that are each bounded in time, and goes on without those that take too long."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fang_core.errors import MissingExtra, SchemaError, UsageError
from fang_core.pool.telling.glance import Glance
from fang_postgres.connections.connecting import SET_FOR_TRANSACTION, set_for_transaction
from fang_postgres.connections.diagnosis import TookTooLong, before_sending
from fang_postgres.reports.bounds import SETTINGS
from fang_postgres.reports.reports import Reports
from fang_postgres.revisions import schema_problem
from fang_postgres.statement import Operation, Script
from fang_postgres.urls.urls import address

try:
    import psycopg
    from psycopg.rows import tuple_row

    from fang_threaded.driver_errors import typed
except ImportError:
    raise MissingExtra("psycopg is missing: pip install 'fang-tasks[cli]'") from None

T = TypeVar("T")

# A plan with what these forbid counts as so dear that the server would compile it first, for a second and more.
_SETTINGS: Final = {**SETTINGS, "jit": "off"}
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"


@dataclass(slots=True)
class Patience:
    """Decides how long to wait for a statement, so that part of a cold, locked or overloaded database is still read.

    After each statement that takes too long the wait is halved, down to 0.25 s, so that all of them together take 5 s.
    """

    milliseconds: int = 2_000

    def used_up(self) -> None:
        """Halves the wait, after a statement took too long."""
        self.milliseconds = max(250, self.milliseconds // 2)


class ReadingDatabase:
    """Reads each statement in a transaction of its own, with the settings of reports and this patience."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str, patience: Patience) -> None:
        self._connection = connection
        self._schema = schema
        self._patience = patience

    def run(self, operation: Operation[T]) -> T:
        """Returns the operation's result. Raises a ``BackendError``."""
        try:
            # For each transaction: a pooler refuses settings at the start, and would pass a session's on to other
            # clients.
            self._connection.execute(self._begin().encode())
            with self._connection.cursor(row_factory=tuple_row) as cursor:
                cursor.execute(operation.statement.psycopg_text.encode(), dict(operation.params))
                return operation.decode(cursor.fetchall())
        except psycopg.Error as error:
            raise typed(error, self._schema) from error
        finally:
            with suppress(psycopg.Error):
                self._connection.rollback()

    def _begin(self) -> str:
        timeout = {"statement_timeout": str(self._patience.milliseconds)}
        return f"{_BEGIN}; {SET_FOR_TRANSACTION}; {set_for_transaction(_SETTINGS | timeout)}"


class Reader:
    """Runs one statement after the other, and leaves out those that take too long."""

    def __init__(self, database: ReadingDatabase, patience: Patience) -> None:
        self._database = database
        self._patience = patience
        self.unread: list[str] = []
        """The names of the statements that took too long."""

    def ask(self, operation: Operation[T]) -> T | None:
        """Returns the operation's result, or None if it took too long."""
        try:
            return self._database.run(operation)
        except TookTooLong:
            pass
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
) -> Iterator[ReadingDatabase]:
    """Yields a database with one connection.

    Raises ``UsageError`` if the URL cannot be honoured, ``AccessRefused`` or ``BackendUnavailable``.
    """
    there = address(url)
    there.refuse_what_is_missing()
    try:
        # Nothing is prepared: behind a transaction pooler it would meet what another client has prepared.
        connection = psycopg.connect(
            **there.for_psycopg(application_name=application_name), autocommit=True, prepare_threshold=None
        )
    except psycopg.ProgrammingError as error:  # raised by libpq, which may be older than a parameter
        raise UsageError(f"the database URL cannot be used: {error}") from None
    except psycopg.Error as error:
        raise before_sending(typed(error, schema)) from error
    with closing(connection):
        yield ReadingDatabase(connection, schema, patience)
