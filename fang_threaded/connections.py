"""The connections of a queue: for claims, for everything else, and one that listens for inserts."""

from functools import partial
from threading import Lock
from typing import Any, Final

import psycopg
from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql import psycopg as psycopg_dialect
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, sessionmaker

from fang_core.errors import BackendUnavailable, SchemaError, UsageError
from fang_core.forks import in_child
from fang_postgres.connecting import (
    CONNECT_TIMEOUT,
    NO_TRANSACTION_TIMEOUT,
    SETTINGS,
    TCP,
    TRANSACTION_TIMEOUT_SINCE,
    UNUSED_FOR,
    as_options,
    connect_seconds,
    database_url,
)
from fang_postgres.operations import Operations, schema_problem
from fang_postgres.sql.fragments import channel
from fang_threaded.bounded import BoundedConnection
from fang_threaded.cutting import sever_in_child
from fang_threaded.listener import Listener
from fang_threaded.pooler import PoolerConnection, PoolerRunner
from fang_threaded.reserve import Reserve
from fang_threaded.runner import OwnRunner, Runner, SessionRunner

_DIALECT: Final = psycopg_dialect.dialect()  # type: ignore[no-untyped-call]

SPARE: Final = 1.0
"""Seconds beyond the time that a host, or each of several, has to answer a connect."""


class Connections:
    """Opened by the first who needs them, and closed by whom opened them: the application, or the last of its pools."""

    def __init__(
        self,
        database: str | URL | Engine | sessionmaker[Session],
        max_pool_size: int,
        operations: Operations,
        *,
        behind_pooler: bool = False,
    ) -> None:
        if max_pool_size < 1:
            raise UsageError("max_pool_size must be at least 1")
        self._database = database if isinstance(database, Engine | sessionmaker) else database_url(database, "psycopg")
        self._max_pool_size = max_pool_size
        self._operations = operations
        self.keeps_session = not behind_pooler
        """Whether a connection has its server for good."""
        self._begin()
        in_child(self, Connections._begin)

    def _begin(self) -> None:
        """Closed; also in a child, where what there was is the parent's: the next who needs one connects anew."""
        self._changing = Lock()
        self._reserves: list[Reserve] = []
        self._writes: Runner | None = None
        self._claims: Runner | None = None
        self._opened_by_application = False
        self._pools = 0
        self.listener = Listener(self.dedicated, channel(self._operations.schema))

    @property
    def is_open(self) -> bool:
        """Whether somebody opened them and nobody closed them."""
        return self._writes is not None

    def open(self) -> None:
        """Opens them for the application, until ``close()``; checks the tables."""
        self._check(self.writes())
        self._opened_by_application = True

    def writes(self) -> Runner:
        """For the application's calls, and for what pools write. Opens where nobody did."""
        with self._changing:
            if self._writes is None:
                self._writes, self._claims = self._runners()
                self._opened_by_application = True
            return self._writes

    def lend(self) -> tuple[Runner, Runner]:
        """For a pool, until it gives them back: for claims, and for writes. Opens them, and checks the tables."""
        with self._changing:
            if self._writes is None or self._claims is None:
                self._writes, self._claims = self._runners()
            lent = self._claims, self._writes
            self._pools += 1
        try:
            self._check(lent[1])
        except BaseException:
            self.give_back()
            raise
        return lent

    def give_back(self) -> None:
        """A pool has ended; with the last one goes what no application opened."""
        with self._changing:
            self._pools -= 1
            is_needed = self._pools > 0 or self._opened_by_application
        if not is_needed:
            self._close()

    def close(self) -> None:
        """The application needs them no more: closes what was opened here, or has the last of the pools close it.

        Never an engine of the application's. Idempotent.
        """
        with self._changing:
            self._opened_by_application = False
            is_needed = self._pools > 0
        if not is_needed:
            self._close()

    def _close(self) -> None:
        with self._changing:
            reserves, self._reserves = self._reserves, []
            self._writes = self._claims = None
        for reserve in reserves:
            reserve.close()

    def _check(self, runner: Runner) -> None:
        problem = schema_problem(self._operations.schema, runner.run(self._operations.version()))
        if problem is not None:
            raise SchemaError(problem)

    def _runners(self) -> tuple[Runner, Runner]:
        """For writes and for claims."""
        schema = self._operations.schema
        if not isinstance(self._database, URL):
            # Another's engine may have any default: name the level that the statements are made for.
            engine = _engine_of(self._database).execution_options(isolation_level="READ COMMITTED")
            runner = SessionRunner(engine, schema)
            return runner, runner
        # Two: a claim never waits until a run of the application gives a connection back.
        connect = partial(self._connect, self._database)
        self._reserves = [Reserve(connect, self._max_pool_size, UNUSED_FOR), Reserve(connect, 1, UNUSED_FOR)]
        make = OwnRunner if self.keeps_session else PoolerRunner
        writes, claims = (make(reserve, schema) for reserve in self._reserves)
        return writes, claims

    @property
    def connects_within(self) -> float:
        """Seconds for ``dedicated``, which is not bounded where another's engine makes the connection."""
        return SPARE + (connect_seconds(self._database) if isinstance(self._database, URL) else CONNECT_TIMEOUT)

    def dedicated(self, *, keeps_session: bool = True) -> psycopg.Connection[Any]:
        """A connection out of the pool for good, in autocommit: for a listener, or a heart.

        On an engine of the application's it is given our settings too, where it keeps its session. Behind a transaction
        pooler others would meet them.
        """
        if self._writes is None:
            raise BackendUnavailable("the queue is closed")
        if isinstance(self._database, URL):
            return self._connect(self._database)
        # From a pool of its own, made in the same way: it must not wait until a run gives a connection back.
        checked_out = _engine_of(self._database).pool.recreate().connect()
        connection: psycopg.Connection[Any] = checked_out.driver_connection  # type: ignore[assignment]
        checked_out.detach()
        sever_in_child(connection)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.autocommit = True
        if keeps_session:
            for setting in SETTINGS.items():
                connection.execute("SELECT set_config(%s, %s, false)", setting)
            _lift_transaction_timeout(connection)
        else:
            connection.prepare_threshold = None
        return connection

    def _connect(self, url: URL) -> psycopg.Connection[Any]:
        """One in autocommit: a process that is stopped between a statement and its COMMIT would keep its locks, that on
        its own record too, and nobody could declare it dead."""
        words, options = _DIALECT.create_connect_args(url)  # type: ignore[no-untyped-call]
        options = {**TCP, **options, "application_name": "fang", "connect_timeout": CONNECT_TIMEOUT}
        if not self.keeps_session:
            options |= {"options": "", "client_encoding": SETTINGS["client_encoding"], "prepare_threshold": None}
            connection: BoundedConnection = PoolerConnection.connect(*words, **options, autocommit=True)
            sever_in_child(connection)
            return connection
        options["options"] = as_options(SETTINGS)
        connection = BoundedConnection.connect(*words, **options, autocommit=True)
        sever_in_child(connection)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        _lift_transaction_timeout(connection)
        return connection


def _engine_of(database: Engine | sessionmaker[Session]) -> Engine:
    engine = database.kw.get("bind") if isinstance(database, sessionmaker) else database
    if not isinstance(engine, Engine):
        raise UsageError("the sessionmaker must be bound to an Engine")
    if engine.dialect.name != "postgresql" or engine.dialect.driver != "psycopg":
        raise UsageError(f"the Engine must be on postgresql+psycopg, not {engine.dialect.name}+{engine.dialect.driver}")
    return engine


def _lift_transaction_timeout(connection: psycopg.Connection[Any]) -> None:
    if connection.info.server_version // 10_000 < TRANSACTION_TIMEOUT_SINCE:
        return
    try:
        connection.execute(NO_TRANSACTION_TIMEOUT)
    except BaseException:
        connection.close()
        raise
