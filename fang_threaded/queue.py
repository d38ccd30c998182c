"""The queue on Postgres for threaded code."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, sessionmaker

from fang_core.codec import MAX_PAYLOAD_BYTES
from fang_core.errors import BackendUnavailable, OutcomeUnknown, SchemaError, UsageError
from fang_core.insertion import Overrides
from fang_core.record import Task
from fang_core.runnable import BaseRunnable
from fang_postgres.connecting import CONNECT_TIMEOUT, SETTINGS, database_url
from fang_postgres.operations import Operations, schema_problem
from fang_postgres.schema import DEFAULT_SCHEMA
from fang_threaded.runner import Runner, run_on
from fang_threaded.store import PostgresStore


class Queue:
    """A ``Queueable`` on Postgres. Threads may share one.

    Args:
        database: a URL, or an ``Engine`` or ``sessionmaker`` of the application's, on psycopg 3. What was handed in is
            used and never closed.
        max_pool_size: connections for the application's calls and for completions, where the queue has its own.
        schema: the Postgres schema of the tables.
        max_payload_bytes: larger payloads are refused.
    """

    def __init__(
        self,
        database: str | URL | Engine | sessionmaker[Session],
        /,
        *,
        max_pool_size: int = 10,
        schema: str = DEFAULT_SCHEMA,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        if max_pool_size < 1:
            raise UsageError("max_pool_size must be at least 1")
        self._database = database if isinstance(database, Engine | sessionmaker) else database_url(database, "psycopg")
        self._max_pool_size = max_pool_size
        self._max_payload_bytes = max_payload_bytes
        self._operations = Operations(schema)
        self._opening = Lock()
        self._own_engines: list[Engine] = []
        self._writes: Runner | None = None
        self._claims: Runner | None = None

    # Opening and closing ----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether ``open()`` was called and ``close()`` was not."""
        return self._writes is not None

    def open(self) -> None:
        """Connects and checks the tables. Calls of the queue do it by themselves; pools do it when they start.

        Raises ``BackendUnavailable``, ``AccessRefused``, or ``SchemaError`` with the command that mends it.
        """
        writes = self._opened()
        problem = schema_problem(self._operations.schema, writes.run(self._operations.version()))
        if problem is not None:
            raise SchemaError(problem)

    def close(self) -> None:
        """Closes the queue's own connections. Idempotent; the queue can be opened again."""
        with self._opening:
            engines, self._own_engines = self._own_engines, []
            self._writes = self._claims = None
        for engine in engines:
            engine.dispose()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store(self) -> PostgresStore:
        """A store for one pool."""
        writes = self._opened()
        assert self._claims is not None
        return PostgresStore(self._operations, self._claims, writes)

    def _opened(self) -> Runner:
        with self._opening:
            if self._writes is None:
                self._writes, self._claims = self._runners()
            return self._writes

    def _runners(self) -> tuple[Runner, Runner]:
        """For writes and for claims."""
        schema = self._operations.schema
        if isinstance(self._database, URL):
            # Two engines: a claim never waits until a run of the application gives a connection back.
            pair = (self._engine(self._database, self._max_pool_size), self._engine(self._database, 1))
            self._own_engines.extend(pair)
            writes, claims = (Runner(sessionmaker(engine), schema) for engine in pair)
            return writes, claims
        if isinstance(self._database, sessionmaker):
            bound = self._database.kw.get("bind")
            if not isinstance(bound, Engine):
                raise UsageError("the sessionmaker must be bound to an Engine")
            engine = bound
        else:
            engine = self._database
        if engine.dialect.name != "postgresql" or engine.dialect.driver != "psycopg":
            raise UsageError(
                f"the Engine must be on postgresql+psycopg, not {engine.dialect.name}+{engine.dialect.driver}"
            )
        # Another's engine may have any default: name the level that the statements are made for.
        runner = Runner(sessionmaker(engine.execution_options(isolation_level="READ COMMITTED")), schema)
        return runner, runner

    def _engine(self, url: URL, size: int) -> Engine:
        settings = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SETTINGS.items())
        return create_engine(
            url,
            pool_size=size,
            max_overflow=0,
            pool_pre_ping=False,  # a dead connection costs one failed try; every caller of ours tries again
            isolation_level="READ COMMITTED",
            connect_args={"options": settings, "application_name": "fang", "connect_timeout": CONNECT_TIMEOUT},
        )

    # What applications and runs call ----------------------------------------------------------------------------------

    def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        connection: Any = None,
    ) -> Task:
        """See ``Queueable.insert_task``. ``connection`` is a SQLAlchemy ``Session`` or ``Connection`` on Postgres, or a
        psycopg connection. On one in autocommit the insert stands at once."""
        overrides = Overrides(
            priority=priority, scheduled_at=scheduled_at, delay=delay, task_type=task_type, max_retries=max_retries
        )
        row = overrides.new_task(task, max_bytes=self._max_payload_bytes)
        operation = self._operations.insert(row, overrides)
        if connection is not None:
            return run_on(connection, operation)
        try:
            return self._opened().run(operation)
        except BackendUnavailable as error:
            raise OutcomeUnknown(f"it is not known whether the task was inserted: {error}", (row.id,)) from error

    def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        connection: Any = None,
    ) -> list[Task]:
        """See ``Queueable.insert_tasks`` and ``insert_task``."""
        overrides = Overrides(
            priority=priority, scheduled_at=scheduled_at, delay=delay, task_type=task_type, max_retries=max_retries
        )
        rows = overrides.new_tasks(tasks, max_bytes=self._max_payload_bytes)
        operations = self._operations.insert_many(rows, overrides)
        if connection is not None:
            return [task for operation in operations for task in run_on(connection, operation)]
        try:
            return [task for chunk in self._opened().run_all(operations) for task in chunk]
        except BackendUnavailable as error:
            ids = tuple(row.id for row in rows)
            raise OutcomeUnknown(f"it is not known whether the tasks were inserted: {error}", ids) from error

    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        operation = self._operations.find(task_id)
        return self._opened().run(operation) if connection is None else run_on(connection, operation)
