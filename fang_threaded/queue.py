"""The queue on Postgres for threaded code."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, sessionmaker

from fang_core.codec import MAX_PAYLOAD_BYTES
from fang_core.errors import BackendError, BackendUnavailable, OutcomeUnknown, SchemaError, UsageError
from fang_core.insertion import Overrides, Rules
from fang_core.lifecycle import Change, change_by_hand, fail_by_hand, retry_by_hand
from fang_core.record import DEFAULT_TASK_TYPE, Task, TaskState
from fang_core.runnable import BaseRunnable
from fang_postgres import conversations
from fang_postgres.connecting import CONNECT_TIMEOUT, SETTINGS, database_url
from fang_postgres.operations import Operations, schema_problem
from fang_postgres.schema import DEFAULT_SCHEMA
from fang_postgres.sql.fragments import channel
from fang_postgres.statement import Conversation, Operation
from fang_threaded.listener import Listener
from fang_threaded.runner import Runner, converse_on, may_notify, run_on
from fang_threaded.store import PostgresStore

T = TypeVar("T")


class Queue:
    """A ``Queueable`` on Postgres. Threads may share one.

    Args:
        database: a URL, or an ``Engine`` or ``sessionmaker`` of the application's, on psycopg 3. What was handed in is
            used and never closed.
        max_pool_size: connections for the application's calls and for completions, where the queue has its own.
        schema: the Postgres schema of the tables.
        max_payload_bytes: larger payloads are refused.
        duplicated_tasks: False makes every task unique whose insert does not say otherwise.
    """

    def __init__(
        self,
        database: str | URL | Engine | sessionmaker[Session],
        /,
        *,
        max_pool_size: int = 10,
        schema: str = DEFAULT_SCHEMA,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        duplicated_tasks: bool = True,
    ) -> None:
        if max_pool_size < 1:
            raise UsageError("max_pool_size must be at least 1")
        self._database = database if isinstance(database, Engine | sessionmaker) else database_url(database, "psycopg")
        self._max_pool_size = max_pool_size
        self.rules = Rules(max_payload_bytes=max_payload_bytes, duplicated_tasks=duplicated_tasks)
        self._operations = Operations(schema)
        self._opening = Lock()
        self._own_engines: list[Engine] = []
        self._writes: Runner | None = None
        self._claims: Runner | None = None
        self._manual_pool_id = uuid4()
        self._fetches = False
        self._listener = Listener(self._connection_to_listen, channel(schema))

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
        self._sign_off()
        with self._opening:
            engines, self._own_engines = self._own_engines, []
            self._writes = self._claims = None
        for engine in engines:
            engine.dispose()

    def _sign_off(self) -> None:
        """Takes away the row under which tasks were fetched by hand."""
        if self._fetches and self._writes is not None:
            with suppress(BackendError):
                self._writes.run(self._operations.unregister(self._manual_pool_id))
        self._fetches, self._manual_pool_id = False, uuid4()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store(self) -> PostgresStore:
        """A store for one pool."""
        writes = self._opened()
        assert self._claims is not None
        return PostgresStore(self._operations, self._claims, writes, self._listener)

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
            writes, claims = (Runner(engine, schema) for engine in pair)
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
        runner = Runner(engine.execution_options(isolation_level="READ COMMITTED"), schema)
        return runner, runner

    def _connection_to_listen(self) -> psycopg.Connection[Any]:
        """Out of the pool for good: LISTEN holds a connection for as long as it lasts."""
        if self._writes is None:
            raise BackendUnavailable("the queue is closed")
        checked_out = self._writes.engine.raw_connection()
        connection: psycopg.Connection[Any] = checked_out.driver_connection  # type: ignore[assignment]
        checked_out.detach()
        connection.autocommit = True
        return connection

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
        uniq: bool | None = None,
        id: UUID | None = None,
        connection: Any = None,
    ) -> Task:
        """See ``Queueable.insert_task``. ``connection`` is a SQLAlchemy ``Session`` or ``Connection`` on Postgres, or a
        psycopg connection. On one in autocommit the insert stands at once."""
        overrides = Overrides(
            priority=priority,
            scheduled_at=scheduled_at,
            delay=delay,
            task_type=task_type,
            max_retries=max_retries,
            uniq=uniq,
            id=id,
        )
        row = overrides.new_task(task, self.rules)
        begin = partial(conversations.insert, self._operations, row, overrides)
        if connection is not None:
            return self._converse_on(connection, begin)
        with _unknown_unless_typed("whether the task was inserted", (row.id,)):
            return (self._opened()).converse(begin(notify=True))

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
        uniq: bool | None = None,
        connection: Any = None,
    ) -> list[Task]:
        """See ``Queueable.insert_tasks`` and ``insert_task``."""
        overrides = Overrides(
            priority=priority,
            scheduled_at=scheduled_at,
            delay=delay,
            task_type=task_type,
            max_retries=max_retries,
            uniq=uniq,
        )
        rows = overrides.new_tasks(tasks, self.rules)
        begin = partial(conversations.insert_many, self._operations, rows, overrides)
        if connection is not None:
            return self._converse_on(connection, begin)
        with _unknown_unless_typed("whether the tasks were inserted", tuple(row.id for row in rows)):
            return (self._opened()).transact(partial(begin, notify=True))

    def schedule_task(self, task: BaseRunnable, /, *, connection: Any = None) -> Task:
        """See ``Queueable.schedule_task``."""
        return self._converse(partial(conversations.schedule, self._operations, task, self.rules), connection)

    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        return self._run(self._operations.find(task_id), connection)

    def fetch_and_touch_task(self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.fetch_and_touch_task``."""
        self._fetches = True
        begin = partial(conversations.touch, self._operations, task_type, self._manual_pool_id)
        return self._converse(lambda **_: begin(), connection)

    def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
        """See ``Queueable.update_task_state``."""
        return self._change(change_by_hand(task, state), connection)

    def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """See ``Queueable.fail_task``."""
        return self._change(fail_by_hand(task, error_message), connection)

    def schedule_retry(self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None) -> Task:
        """See ``Queueable.schedule_retry``."""
        return self._change(retry_by_hand(task, backoff, error_message), connection)

    def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_task``."""
        return self._run(self._operations.remove_one(task_id), connection)

    def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_task_by_metadata``."""
        return self._run(self._operations.remove_twin(self.rules.hash_of_unique(task)), connection)

    def remove_tasks_type(self, task_type: str, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_tasks_type``."""
        return self._run(self._operations.remove_type(task_type), connection)

    def remove_all_tasks(self, *, connection: Any = None) -> int:
        """See ``Queueable.remove_all_tasks``."""
        return self._run(self._operations.remove_all(), connection)

    def remove_all_scheduled_tasks(self, *, connection: Any = None) -> int:
        """See ``Queueable.remove_all_scheduled_tasks``."""
        return self._run(self._operations.remove_scheduled(), connection)

    # How they are run -------------------------------------------------------------------------------------------------

    def _run(self, operation: Operation[T], connection: Any) -> T:
        if connection is not None:
            return run_on(connection, operation)
        return self._opened().run(operation)

    def _change(self, change: Change, connection: Any) -> Task:
        return self._converse(partial(conversations.change, self._operations, change), connection)

    def _converse(self, begin: Callable[..., Conversation[T]], connection: Any) -> T:
        if connection is not None:
            return self._converse_on(connection, begin)
        return (self._opened()).converse(begin(notify=True))

    def _converse_on(self, connection: Any, begin: Callable[..., Conversation[T]]) -> T:
        return converse_on(connection, begin(notify=may_notify(connection)))


@contextmanager
def _unknown_unless_typed(what: str, ids: tuple[UUID, ...]) -> Iterator[None]:
    """Names the ids of what may stand although no reply came."""
    try:
        yield
    except BackendUnavailable as error:
        raise OutcomeUnknown(f"it is not known {what}: {error}", ids) from error
