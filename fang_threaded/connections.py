"""The connections of a queue: for claims, for everything else, and one that listens for inserts."""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Engine, StaticPool
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, sessionmaker

from fang_core.errors import BackendError, BackendUnavailable, SchemaError, UsageError
from fang_core.forks import in_child
from fang_core.logs import SafeLogger
from fang_core.turns import WAITS, Turns, waits_for
from fang_postgres.connecting import ASK_AFTER, CONNECT_TIMEOUT, SET_FOR_SESSION, UNUSED_FOR
from fang_postgres.operations import Operations
from fang_postgres.revisions import schema_problem
from fang_postgres.sql.fragments import channel
from fang_postgres.statement import Operation
from fang_postgres.urls import address
from fang_threaded.bounded import BoundedConnection
from fang_threaded.connecting import SPARE, Connector, lift_transaction_timeout
from fang_threaded.cutting import unshared
from fang_threaded.handed import handed
from fang_threaded.listener import Listener
from fang_threaded.pooler import PoolerRunner
from fang_threaded.reserve import Reserve
from fang_threaded.runner import OwnRunner, Runner, SessionRunner, run_on

T = TypeVar("T")

logger = SafeLogger("fang_threaded")


class Connections:
    """Opened by the first who needs them, and closed by whom opened them: the application, or the last of its pools."""

    def __init__(
        self,
        database: str | URL | Engine | sessionmaker[Session],
        max_pool_size: int,
        operations: Operations,
        *,
        behind_pooler: bool = False,
        password: Callable[[], str] | None = None,
        wait_for_database: timedelta = timedelta(0),
    ) -> None:
        if max_pool_size < 1:
            raise UsageError("max_pool_size must be at least 1")
        if isinstance(database, Engine | sessionmaker):
            if password is not None:
                raise UsageError("password= goes with a URL; give an Engine its passwords by SQLAlchemy's do_connect")
            self._database: Engine | sessionmaker[Session] | Connector = database
        else:
            self._database = Connector(database, password, operations.schema, keeps_session=not behind_pooler)
        self._max_pool_size = max_pool_size
        self._operations = operations
        self._turns = Turns(wait_for_database)
        self._closings = 0  # a call that waits for the database ends when the queue is closed
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
        self.call(self._check)
        self._opened_by_application = True

    def writes(self) -> Runner:
        """For the application's calls, and for what pools write. Opens where nobody did."""
        with self._changing:
            if self._writes is None:
                self._writes, self._claims = self._runners()
                self._opened_by_application = True
            return self._writes

    def call(self, use: Callable[[Runner], T]) -> T:
        """Returns what ``use`` makes of the runner for the application's calls; while the database is away it is called
        again, for ``wait_for_database``. Opens the connections if they are not open."""
        return self._outlast(lambda: use(self.writes()))

    def _outlast(self, attempt: Callable[[], T]) -> T:
        give_up_at: float | None = None
        closings = self._closings
        while True:
            try:
                result = attempt()
            except BackendError as error:
                now = time.monotonic()
                if give_up_at is None and self._turns.within:
                    give_up_at = now + self._turns.within
                if give_up_at is None or now >= give_up_at or not waits_for(error):
                    raise
                logger.debug(WAITS, give_up_at - now, error)
                self._turns.failed(now)
                if not self._has_turn(give_up_at, closings):
                    raise
            else:
                if give_up_at is not None:
                    self._turns.ended()
                return result

    def _has_turn(self, give_up_at: float, closings: int) -> bool:
        """Waits for the turn of a call, or for its last one; returns False if the queue is closed meanwhile."""
        while (now := time.monotonic()) < give_up_at and (seconds := self._turns.wait(now)):
            time.sleep(min(seconds, give_up_at - now))
            if closings != self._closings:
                return False
        return True

    def lend(self) -> tuple[Runner, Runner]:
        """For a pool, until it gives them back: for claims, and for writes. Opens them, and checks the tables."""
        with self._changing:
            if self._writes is None or self._claims is None:
                self._writes, self._claims = self._runners()
            lent = self._claims, self._writes.for_pool()
            self._pools += 1
        try:
            self._outlast(lambda: self._check(lent[1]))
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
        self._closings += 1
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
        if not isinstance(self._database, Connector):
            # Another's engine may have any default: name the level that the statements are made for.
            engine = _engine_of(self._database).execution_options(isolation_level="READ COMMITTED")
            runner = SessionRunner(engine, schema)
            return runner, runner
        # Two: a claim never waits until a run of the application gives a connection back.
        connect = self._database
        # Behind a pooler the BEGIN of each operation asks already, and one that stands still would not answer.
        lives = BoundedConnection.lives if self.keeps_session else None
        self._reserves = [
            Reserve(connect, self._max_pool_size, UNUSED_FOR, lives=lives, ask_after=ASK_AFTER),
            Reserve(connect, 1, UNUSED_FOR),
        ]
        make = OwnRunner if self.keeps_session else PoolerRunner
        writes, claims = (make(reserve, schema) for reserve in self._reserves)
        return writes, claims

    @property
    def connects_within(self) -> float:
        """Seconds for a connect; what another's engine makes is bounded by nothing but that engine's own options."""
        if isinstance(self._database, Connector):
            return self._database.connects_within
        try:
            return SPARE + address(_engine_of(self._database).url).connects_within
        except UsageError:  # the URL says what SQLAlchemy alone knows
            return SPARE + CONNECT_TIMEOUT

    def run_on_dedicated(self, connection: psycopg.Connection[Any], operation: Operation[T]) -> T:
        """Runs one operation on what ``dedicated`` has returned. Raises ``psycopg.Error``."""
        return (
            run_on(connection, operation)
            if isinstance(self._database, Connector)
            else handed(connection).run(operation)
        )

    def dedicated(self, *, keeps_session: bool = True) -> psycopg.Connection[Any]:
        """A connection out of the pool for good, in autocommit: for a listener, or a heart.

        On an engine of the application's it is given our settings too, where it keeps its session. Behind a transaction
        pooler others would meet them.
        """
        if self._writes is None:
            raise BackendUnavailable("the queue is closed")
        if isinstance(self._database, Connector):
            return self._database()
        # From a pool of its own, made in the same way: it must not wait until a run gives a connection back.
        connection = unshared(partial(_connect_apart, _engine_of(self._database)))
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.autocommit = True
        if keeps_session:
            connection.execute(SET_FOR_SESSION.encode())
            lift_transaction_timeout(connection)
        else:
            connection.prepare_threshold = None
        return connection


def _connect_apart(engine: Engine) -> psycopg.Connection[Any]:
    """Makes a connection as the engine's pool does, which never sees it."""
    checked_out = engine.pool.recreate().connect()
    connection: psycopg.Connection[Any] = checked_out.driver_connection  # type: ignore[assignment]
    checked_out.detach()
    return connection


def _engine_of(database: Engine | sessionmaker[Session]) -> Engine:
    engine = database.kw.get("bind") if isinstance(database, sessionmaker) else database
    if not isinstance(engine, Engine):
        raise UsageError("the sessionmaker must be bound to an Engine")
    if engine.dialect.name != "postgresql" or engine.dialect.driver != "psycopg":
        raise UsageError(f"the Engine must be on postgresql+psycopg, not {engine.dialect.name}+{engine.dialect.driver}")
    if isinstance(engine.pool, StaticPool):  # statements of two threads would share a transaction
        raise UsageError("the Engine has one connection for all threads (StaticPool): give it a QueuePool")
    return engine
