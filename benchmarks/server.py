"""Starts the Postgres that everything runs on: fresh, durable, and with a database for each system."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from fang_embedded import EmbeddedPostgres

SETTINGS: Final = {
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",  # so that no checkpoint slows one system's turn and not another's
    "max_connections": "300",
    "shared_preload_libraries": "pg_stat_statements",
}
"""The settings that differ from the server's defaults: fsync and synchronous_commit are on."""


class Server:
    """An embedded Postgres that runs as long as its context."""

    def __init__(self) -> None:
        self._postgres = EmbeddedPostgres(settings=SETTINGS)
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self._postgres.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.stop()

    @property
    def version(self) -> str:
        """Returns the server's version, such as 18.1."""
        return str(self.query(self._postgres.url, "SHOW server_version")[0][0]).split()[0]

    def database(self) -> str:
        """Returns the URL of a new, empty database."""
        name = f"bench_{next(self._numbers)}"
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return make_url(self._postgres.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Drops a database, and ends all connections to it."""
        name = sql.Identifier(make_url(url).database or "")
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def statements(self, url: str) -> int:
        """Returns how many statements were executed in this database so far."""
        of_database = "FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid WHERE datname = %s"
        return self._count(f"SELECT coalesce(sum(calls), 0) {of_database}", url)

    def connections(self, url: str) -> int:
        """Returns how many clients this database has now."""
        of_clients = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = %s"
        return self._count(f"SELECT count(*) {of_clients}", url)

    def _count(self, statement: str, url: str) -> int:
        # From another database, so that this statement is not counted.
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            row = connection.execute(statement.encode(), (make_url(url).database,)).fetchone()
            return int(row[0]) if row else 0

    @staticmethod
    def query(url: str, statement: str) -> list[tuple[Any, ...]]:
        """Returns the rows of one statement, executed in autocommit."""
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @staticmethod
    @contextmanager
    def held_xmin(url: str) -> Iterator[None]:
        """Keeps a transaction with a snapshot open, so that dead rows are not removed."""
        with psycopg.connect(url) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM pg_class")
            yield
            connection.rollback()
