"""Lends databases with our tables to tests, each of which finds no rows and has the database for itself.

To make a database and to drop it costs the server 50 ms of CPU, to empty one that is like new two. So a database is
lent again, if a test has left it as it was but for rows; any other is dropped.
"""

import uuid
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from fang_postgres.schema import VERSION_TABLE, tables

MOST_BYTES: Final = 2 << 20
"""A database that has grown by more is dropped: dead rows and pages would make later tests slower, or change plans."""

# Rows of catalogs that say what a database is like: its objects, their rights and settings, and what the planner knows.
_SHAPE: Final = f"""
SELECT md5(string_agg(part, '|')) FROM (
    SELECT md5(coalesce(string_agg(c::text, ',' ORDER BY oid), '')) AS part FROM (
        SELECT oid, relname, relnamespace, relowner, relfilenode, reltuples, relacl, reloptions, relhastriggers,
            relrowsecurity FROM pg_class WHERE oid >= 16384
    ) AS c
    UNION ALL SELECT md5(coalesce(string_agg(a::text, ',' ORDER BY attrelid, attnum), '')) FROM (
        SELECT attrelid, attnum, attname, atttypid, attnotnull, atthasdef, attisdropped, attacl
        FROM pg_attribute WHERE attrelid >= 16384
    ) AS a
    UNION ALL SELECT md5(coalesce(string_agg(i::text, ',' ORDER BY indexrelid), ''))
        FROM (SELECT indexrelid, indisvalid, indisready FROM pg_index WHERE indexrelid >= 16384) AS i
    UNION ALL SELECT md5(coalesce(string_agg(n::text, ',' ORDER BY oid), '')) FROM pg_namespace AS n
    UNION ALL SELECT md5(coalesce(string_agg(p::text, ',' ORDER BY oid), '')) FROM pg_proc AS p WHERE oid >= 16384
    UNION ALL SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY oid), '')) FROM pg_trigger AS t
    UNION ALL SELECT md5(coalesce(string_agg(k::text, ',' ORDER BY oid), '')) FROM pg_constraint AS k
    UNION ALL SELECT md5(coalesce(string_agg(e::text, ',' ORDER BY oid), '')) FROM pg_extension AS e
    UNION ALL SELECT md5(coalesce(string_agg(d::text, ',' ORDER BY objoid, objsubid), ''))
        FROM pg_description AS d WHERE objoid >= 16384
    UNION ALL SELECT count(*)::text FROM pg_default_acl UNION ALL SELECT count(*)::text FROM pg_policy
    UNION ALL SELECT count(*)::text FROM pg_event_trigger UNION ALL SELECT count(*)::text FROM pg_publication
    UNION ALL SELECT count(*)::text FROM pg_statistic WHERE starelid >= 16384
    UNION ALL SELECT coalesce(string_agg(s::text, ','), '') FROM pg_db_role_setting AS s
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT concat(datallowconn, datconnlimit, datacl) FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT string_agg(version_num, ',') FROM fang.{VERSION_TABLE}
) AS shape
"""

_IN_USE: Final = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())
    OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
"""

_RESTART: Final = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence WHERE seqrelid >= 16384"


def run_ddl(server_url: str, statement: sql.Composed) -> None:
    """Runs a statement outside of any transaction."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)


def empty(connection: psycopg.Connection[Any]) -> None:
    """Deletes all rows of our tables, and has their identities begin again."""
    connection.execute(
        "; ".join(f"DELETE FROM {table.fullname}" for table in reversed(tables().metadata.sorted_tables))
    )
    connection.execute(_RESTART)


def create(server_url: str, template: str | None = None) -> str:
    """Makes a database; returns its URL."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    run_ddl(server_url, statement)
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop(server_url: str, url: str) -> None:
    """Drops a database, whoever uses it."""
    run_ddl(server_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(make_url(url).database))))


class Look(NamedTuple):
    """What a database is like."""

    shape: str
    bytes: int
    is_used: bool


class Databases:
    """Those of one server, all made from one template."""

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._new: Look | None = None
        self._free: list[str] = []

    def lend(self) -> str:
        """Returns the URL of a database that is like new."""
        if self._free:
            return self._free.pop()
        url = create(self._server_url, self._template)
        if self._new is None:
            with psycopg.connect(url) as connection:
                self._new = _look(connection)
        return url

    def take_back(self, url: str) -> None:
        """Keeps the database for the next test, without rows; drops it if it is no longer like new."""
        if self._is_like_new(url):
            self._free.append(url)
        else:
            drop(self._server_url, url)

    def _is_like_new(self, url: str) -> bool:
        assert self._new is not None
        try:
            with psycopg.connect(url, options="-c lock_timeout=2s -c statement_timeout=5s") as connection:
                found = _look(connection)
                grown = found.bytes - self._new.bytes
                if found.is_used or found.shape != self._new.shape or grown > MOST_BYTES:
                    return False
                empty(connection)
        except psycopg.Error:  # it refuses connections, or somebody holds locks, or its tables are others
            return False
        return True

    def close(self) -> None:
        """Drops what is kept."""
        while self._free:
            drop(self._server_url, self._free.pop())


def _look(connection: psycopg.Connection[Any]) -> Look:
    row = connection.execute(f"SELECT ({_SHAPE}), pg_database_size(current_database()), ({_IN_USE})").fetchone()
    assert row is not None
    return Look(*row)
