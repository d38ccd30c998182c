"""Manages a queue's connections for threads: its own, or those of an application's engine."""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import psycopg
from typing_extensions import TypeIs

from fang_core.driving import drive
from fang_core.errors import BackendError, BackendUnavailable, UsageError
from fang_core.interpreter.imported import is_of
from fang_core.logs import SafeLogger
from fang_core.pool.threads import ThreadLock, ThreadRuntime
from fang_core.runs.interrupt import heed_interruption
from fang_postgres.connections.base import BaseConnections
from fang_postgres.connections.connecting import ASK_AFTER, CONNECT_TIMEOUT, SET_FOR_SESSION, UNUSED_FOR
from fang_postgres.operations import Operations
from fang_postgres.pool.store import Database as StoreDatabase
from fang_postgres.pool.store import IndirectDatabase
from fang_postgres.urls.urls import address
from fang_threaded.caller_connection import adapt
from fang_threaded.connection import Connection
from fang_threaded.connection_pool import ConnectionPool
from fang_threaded.connection_timeouts import connect_within
from fang_threaded.connector import SPARE, Connector, lift_transaction_timeout, unshared
from fang_threaded.database import Database, PsycopgDatabase
from fang_threaded.dedicated_connection import DedicatedConnection
from fang_threaded.driver_errors import driver_error
from fang_threaded.pooler import PoolerDatabase

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.orm import Session, sessionmaker

T = TypeVar("T")


class Connections(BaseConnections[Database]):
    """Opens connections whose calls block. Never closes an application's engine."""

    _logger: ClassVar = SafeLogger("fang_threaded")
    _make_runtime: ClassVar = ThreadRuntime
    _make_lock: ClassVar = ThreadLock
    _make_guard: ClassVar = Lock

    def __init__(
        self,
        source: "str | URL | Engine | sessionmaker[Session]",
        max_pool_size: int,
        operations: Operations,
        *,
        behind_pooler: bool = False,
        password: Callable[[], str] | None = None,
        wait_for_database: timedelta = timedelta(0),
    ) -> None:
        if is_engine(source):
            if password is not None:
                raise UsageError("password= goes with a URL; give an Engine its passwords by SQLAlchemy's do_connect")
            self._source: Engine | sessionmaker[Session] | Connector = source
        else:
            self._source = Connector(source, password, operations.schema, keeps_session=not behind_pooler)
        super().__init__(max_pool_size, operations, behind_pooler=behind_pooler, wait_for_database=wait_for_database)

    def call(self, work: Callable[[Database], T]) -> T:
        """Does what ``use`` does, and blocks. A run that has been interrupted gets its exception here, before that."""
        heed_interruption()

        async def blocking(database: Database) -> T:
            return work(database)

        return drive(self.use(blocking))

    @property
    def connects_within(self) -> float:
        """Returns how many seconds a connect may take. Only its own options limit an application's engine."""
        if isinstance(self._source, Connector):
            return self._source.connects_within
        try:
            return SPARE + address(_engine_of(self._source).url).connects_within
        except UsageError:  # the URL has options that only SQLAlchemy knows
            return SPARE + CONNECT_TIMEOUT

    def dedicated(self, *, keeps_session: bool = True) -> psycopg.Connection[Any]:
        """Makes a connection in autocommit that no pool gets back: for a listener or a heart.

        A connection of an application's engine gets Fang's settings too, if it keeps its session. Behind a transaction
        pooler other clients would meet them.
        """
        if not self.is_open:
            raise BackendUnavailable("the queue is closed")
        if isinstance(self._source, Connector):
            return self._source()
        # From a copy of the engine's pool: it must not wait until a run gives a connection back.
        connection = unshared(partial(_connect_apart, _engine_of(self._source)))
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.autocommit = True
        if keeps_session:
            connection.execute(SET_FOR_SESSION.encode())
            lift_transaction_timeout(connection)
        else:
            connection.prepare_threshold = None
        return connection

    # What ``BaseConnections`` asks of a mode --------------------------------------------------------------------------

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - it is to block

    def _make_databases(self) -> tuple[Database, Database]:
        schema = self._operations.schema
        if not isinstance(self._source, Connector):
            # An application's engine may have any default: name the level that the statements are made for.
            engine = _engine_of(self._source).execution_options(isolation_level="READ COMMITTED")
            from fang_threaded.engine_database import EngineDatabase

            database = EngineDatabase(engine, schema)
            return database, database
        # Two pools, so that a claim never waits until a run of the application gives a connection back.
        connect = self._source
        # Behind a pooler the BEGIN of each operation is a ping already, and a paused pooler would not answer this one.
        lives = Connection.lives if self.keeps_session else None
        claims = ConnectionPool(connect, 1, UNUSED_FOR)
        writes = ConnectionPool(connect, self._max_pool_size, UNUSED_FOR, lives=lives, ask_after=ASK_AFTER)
        make = PsycopgDatabase if self.keeps_session else PoolerDatabase
        return make(claims, schema), make(writes, schema)

    def _as_coroutines(self, database: Database) -> StoreDatabase:
        async def call(use: Callable[[Database], Any]) -> Any:
            return use(database)

        return IndirectDatabase(call)

    async def _close_database(self, database: Database) -> None:
        if isinstance(database, PsycopgDatabase):
            database.close()

    async def _dedicate(self, *, keeps_session: bool = True) -> DedicatedConnection:
        connection = connect_within(self.connects_within, partial(self.dedicated, keeps_session=keeps_session))
        # An engine's connections may have any adapters.
        is_own = isinstance(self._source, Connector)
        return DedicatedConnection(connection) if is_own else DedicatedConnection(connection, adapt(connection).run)

    def _typed(self, error: BaseException) -> BackendError | None:
        return driver_error(error, self._operations.schema)


def _connect_apart(engine: "Engine") -> psycopg.Connection[Any]:
    """Makes a connection in the same way as the engine's pool, which never sees it."""
    checked_out = engine.pool.recreate().connect()
    connection: psycopg.Connection[Any] = checked_out.driver_connection  # type: ignore[assignment]
    checked_out.detach()
    return connection


def is_engine(source: object) -> "TypeIs[Engine | sessionmaker[Session]]":
    """Returns whether it is an engine of the application's, or makes sessions of one."""
    return is_of(source, "sqlalchemy", "Engine") or _is_sessionmaker(source)


def _is_sessionmaker(source: object) -> "TypeIs[sessionmaker[Session]]":
    return is_of(source, "sqlalchemy.orm", "sessionmaker")


def _engine_of(source: "Engine | sessionmaker[Session]") -> "Engine":
    engine: Any = source.kw.get("bind") if _is_sessionmaker(source) else source
    if not is_of(engine, "sqlalchemy", "Engine"):
        raise UsageError("the sessionmaker must be bound to an Engine")
    if engine.dialect.name != "postgresql" or engine.dialect.driver != "psycopg":
        raise UsageError(f"the Engine must be on postgresql+psycopg, not {engine.dialect.name}+{engine.dialect.driver}")
    if is_of(engine.pool, "sqlalchemy", "StaticPool"):  # the statements of two threads would share a transaction
        raise UsageError("the Engine has one connection for all threads (StaticPool): give it a QueuePool")
    found: Engine = engine
    return found
