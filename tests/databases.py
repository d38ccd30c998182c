"""Lends databases with our tables to tests, each of which finds no rows and has the database for itself.

To make a database and to drop it costs the server 14 ms of CPU, to look at one that is like new and to empty it half
of that. So a database is lent again, if a test has left it as it was but for rows; any other is dropped.

What a test has left is told by the server's statistics, which count each change of a row of a catalog, also one that
was rolled back. A session that ends has counted all that it did; a server that crashed counts anew, and its databases
are lent no more.
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from fang_postgres.names import VERSION_TABLE
from fang_postgres.schema import tables

MOST_BYTES: Final = 2 << 20
"""A database that has grown by more is dropped: dead rows and pages would make later tests slower, or change plans."""

COUNTS_AT_ONCE: Final = 150_000
"""Before Postgres 15 the statistics came later than the end of a session."""

COPIES_BY_PAGE: Final = 150_000
"""From then on Postgres copies a template page by page through its log, unless told otherwise: twice the work."""

# What is changed in place, the planner's estimates, is not counted as a change of a row.
_LOOK: Final = f"""
SELECT
    (SELECT sum(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid))
        FROM pg_class WHERE (oid < 16384 OR relname = '{VERSION_TABLE}') AND relkind = 'r' AND NOT relisshared),
    concat_ws(',', count(*), sum(relfilenode::bigint), sum(reltuples)),
    pg_database_size(current_database()),
    jsonb_object_agg(concat(relnamespace::regnamespace, '.', relname), pg_stat_get_tuples_inserted(oid))
        FILTER (WHERE relkind = 'r')
FROM pg_class WHERE oid >= 16384
"""

_FROM_OUTSIDE: Final = """
SELECT
    EXISTS (SELECT FROM pg_stat_activity WHERE datname = %(name)s AND pid <> %(but)s)
        OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = %(name)s),
    concat_ws(',', datallowconn, datconnlimit, datacl,
        (SELECT string_agg(setting::text, ',') FROM pg_db_role_setting AS setting WHERE setdatabase = oid))
FROM pg_database WHERE datname = %(name)s
"""

_RESTART: Final = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence WHERE seqrelid >= 16384"

OURS: Final = tuple(table.fullname for table in reversed(tables().metadata.sorted_tables))


def run_ddl(server_url: str, statement: sql.Composed) -> None:
    """Runs a statement outside of any transaction."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)


def empty(connection: psycopg.Connection[Any], *, only: Mapping[str, object] | None = None) -> None:
    """Deletes all rows of our tables, or of some of them, and has all identities begin again."""
    for table in OURS:
        if only is None or table in only:
            connection.execute(f"DELETE FROM {table}")
    connection.execute(_RESTART)


def create(server_url: str, template: str | None = None) -> str:
    """Makes a database; returns its URL."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    with psycopg.connect(server_url, autocommit=True) as connection:
        if connection.info.server_version >= COPIES_BY_PAGE:
            statement += sql.SQL(" STRATEGY file_copy")
        connection.execute(statement)
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop(server_url: str, url: str) -> None:
    """Drops a database, whoever uses it."""
    run_ddl(server_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(make_url(url).database))))


class Look(NamedTuple):
    """What a database is like."""

    shape: tuple[str, ...]
    bytes: int
    inserted: dict[str, int]
    """By table, how many rows were ever inserted."""
    is_used: bool


class Databases:
    """Those of one server, all made from one template."""

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._outside = psycopg.connect(server_url, autocommit=True)
        self._new: Look | None = None
        self._free: list[str] = []
        self._inserted: dict[str, dict[str, int]] = {}
        """Of each database, as it was when it was last emptied."""

    def lend(self) -> str:
        """Returns the URL of a database that is like new."""
        if self._free:
            return self._free.pop()
        url = create(self._server_url, self._template)
        if self._new is None:
            with psycopg.connect(url) as connection:
                self._new = self._look(connection)
        self._inserted[url] = self._new.inserted
        return url

    def take_back(self, url: str) -> None:
        """Keeps the database for the next test, without rows; drops it if it is no longer like new."""
        inserted = self._inserted.pop(url, None)  # none if the server crashed since
        if inserted is not None and self._is_like_new(url, inserted):
            self._free.append(url)
        else:
            drop(self._server_url, url)

    def _is_like_new(self, url: str, inserted: Mapping[str, int]) -> bool:
        """Empties it if so."""
        assert self._new is not None
        if self._outside.info.server_version < COUNTS_AT_ONCE:
            return False
        try:
            with psycopg.connect(url, options="-c lock_timeout=2s -c statement_timeout=5s") as connection:
                found = self._look(connection)
                grown = found.bytes - self._new.bytes
                if found.is_used or found.shape != self._new.shape or grown > MOST_BYTES:
                    return False
                empty(connection, only=dict(found.inserted.items() - inserted.items()))
        except psycopg.Error:  # it refuses connections, or somebody holds locks, or its tables are others
            return False
        self._inserted[url] = found.inserted
        return True

    def _look(self, connection: psycopg.Connection[Any]) -> Look:
        """Looks from outside first: when nobody else is connected, all is counted."""
        outside = self._from_outside(connection.info)
        changes, shape, size, inserted = _row(connection.execute(_LOOK))
        return Look((outside[1], str(changes), shape), size, inserted, outside[0])

    def _from_outside(self, inside: psycopg.ConnectionInfo) -> Any:
        if self._outside.closed:
            self._outside = psycopg.connect(self._server_url, autocommit=True)
        try:
            return _row(self._outside.execute(_FROM_OUTSIDE, {"name": inside.dbname, "but": inside.backend_pid}))
        except psycopg.Error:  # the server crashed
            self._outside.close()
            self._inserted.clear()
            while self._free:
                drop(self._server_url, self._free.pop())
            raise

    def close(self) -> None:
        """Drops what is kept."""
        self._outside.close()
        while self._free:
            drop(self._server_url, self._free.pop())


def _row(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row
