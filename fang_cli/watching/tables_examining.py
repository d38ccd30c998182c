"""Reads the facts for ``fang doctor`` on Postgres in statements of bounded time, and has the rules judge them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import psycopg

from fang_cli.watching.reading import Patience, Reader, database_for_reading
from fang_core.errors import AccessRefused, SchemaError
from fang_core.monitoring.checks import Check, Level, unknown
from fang_postgres.connections.connecting import CONNECT_TIMEOUT
from fang_postgres.health import rules
from fang_postgres.health.facts import Clock, HealthFacts, Holder, Pooler, Server, TaskTable
from fang_postgres.reports.reports import Reports
from fang_postgres.statement import Operation
from fang_postgres.urls.urls import address
from fang_threaded.connection_timeouts import connect_within, cut_after

T = TypeVar("T")

_ANSWERS_WITHIN: Final = 2.0
"""Seconds that a server has to say which session serves a connection."""


class _Unread(Exception):
    """Says why facts could not be read."""


def examine_tables(url: str, schema: str) -> list[Check]:
    """Returns what each rule says, in the order in which things are best mended.

    It takes 5 s at most; longer if connections are slow to come.
    Raises ``UsageError``, ``AccessRefused`` or ``BackendUnavailable`` if it cannot connect.
    """
    patience = Patience()
    with database_for_reading(url, schema, patience, "fang doctor") as database:
        asked = _Asked(Reader(database, patience))
        asked.read(HealthFacts(schema).settings())  # it connects, so that the clock is read without delay
        tables = _tables(asked, schema)
        return [tables, *_database(asked, schema, url, has_tables=tables.level is not Level.ERROR)]


class _Asked:
    """Reads facts; what takes too long, or is not for this role, raises ``_Unread``."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def read(self, operation: Operation[T]) -> T:
        """Returns the facts."""
        before = len(self._reader.unread)
        try:
            found: Any = self._reader.ask(operation)
        except (AccessRefused, SchemaError) as error:
            raise _Unread(str(error)) from error
        if len(self._reader.unread) > before:
            raise _Unread("it took too long")
        return found  # type: ignore[no-any-return]


def _tables(asked: _Asked, schema: str) -> Check:
    try:
        return rules.schema(schema, asked.read(Reports(schema).version()))
    except _Unread as error:
        if isinstance(error.__cause__, SchemaError):
            return rules.schema(schema, None)
        return unknown("schema", str(error))


def _database(asked: _Asked, schema: str, url: str, *, has_tables: bool) -> Iterator[Check]:
    """Gives the checks that read catalogs and statistics."""
    facts = HealthFacts(schema)
    began = datetime.now(UTC)
    server = asked.read(facts.server())
    took = (datetime.now(UTC) - began).total_seconds()
    settings = asked.read(facts.settings())
    yield rules.server(server)
    yield rules.clock(Clock((server.now - began).total_seconds() - took / 2, took / 2))
    try:
        yield rules.pooler(_pooler(url))
    except psycopg.Error:  # there was one connection more before
        yield unknown("pooler", "two more connections could not be made, or were not answered in time")
    yield rules.settings(server.role, settings)
    yield rules.connections(server, settings)
    if not has_tables:
        return
    yield from _unless_unread("privileges", lambda: [rules.privileges(server.role, schema, asked.read(facts.rights()))])
    yield from _unless_unread("vacuum", lambda: _vacuum(asked.read(facts.table()), schema, settings))
    yield from _unless_unread("indexes", lambda: [rules.indexes(schema, asked.read(facts.broken_indexes()))])
    yield from _unless_unread("horizon", lambda: _horizon(asked.read(facts.holders()), server))


def _unless_unread(name: str, judge: Callable[[], list[Check]]) -> list[Check]:
    """Returns the checks; one of this name that says why, if their facts could not be read."""
    try:
        return judge()
    except _Unread as error:
        return [unknown(name, str(error))]


def _vacuum(table: TaskTable | None, schema: str, settings: Mapping[str, str]) -> list[Check]:
    return [] if table is None else [rules.vacuum(schema, settings, table), rules.bloat(schema, table)]


def _horizon(holders: Sequence[Holder], server: Server) -> list[Check]:
    return [rules.horizon(server, holders), rules.transactions(server, holders)]


def _pooler(url: str) -> Pooler:
    """Returns which sessions serve two connections, of which the first is idle when the second is used."""
    arguments = address(url).for_psycopg(application_name="fang doctor")
    connect = partial(psycopg.connect, **arguments, autocommit=True, prepare_threshold=None)
    with ExitStack() as stack:
        connections: list[psycopg.Connection[Any]] = []
        pids = []
        for _ in range(2):
            connection = stack.enter_context(connect_within(CONNECT_TIMEOUT, connect))
            connections.append(connection)
            with cut_after(connection, _ANSWERS_WITHIN):  # a pooler may have no session for it
                row = connection.execute("SELECT pg_backend_pid()").fetchone()
            pids.append(0 if row is None else int(row[0]))
        return Pooler(connections[0].info.backend_pid, *pids)
