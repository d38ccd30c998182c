"""The queue on Postgres for threaded code."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Self, TypeVar
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, sessionmaker

from fang_core.codec import MAX_PAYLOAD_BYTES
from fang_core.copying import Uncopyable
from fang_core.errors import BackendUnavailable, NotConnected, OutcomeUnknown, StatementRefused, TaskLost, UsageError
from fang_core.guard import AlwaysOn
from fang_core.insertion import Bulk, NewTask, Overrides, Rules, name_unstorable
from fang_core.lifecycle import Change, change_by_hand, fail_by_hand, retry_by_hand, spelled
from fang_core.record import DEFAULT_TASK_TYPE, Task, TaskState
from fang_core.removal import OnProgress, Removal
from fang_core.run import current_run
from fang_core.runnable import BaseRunnable
from fang_postgres import conversations
from fang_postgres.operations import Operations, Removing
from fang_postgres.schema import DEFAULT_SCHEMA
from fang_postgres.sql.outcomes import STALE_RUN
from fang_postgres.statement import Conversation, Operation
from fang_threaded.connections import Connections
from fang_threaded.handed import CallersConnection, handed
from fang_threaded.manual import ManualPool
from fang_threaded.runner import OwnRunner, Runner, logger
from fang_threaded.store import PostgresStore

T = TypeVar("T")

_GUARD_OF_REMOVALS: Final = AlwaysOn()


class Queue(Uncopyable):
    """A ``Queueable`` on Postgres. Threads may share one.

    Args:
        database: a URL, or an ``Engine`` or ``sessionmaker`` of the application's, on psycopg 3. What was handed in is
            used and never closed.
        max_pool_size: connections for the application's calls and for completions, where the queue has its own.
        schema: the Postgres schema of the tables.
        max_payload_bytes: larger payloads are refused.
        duplicated_tasks: False makes every task unique whose insert does not say otherwise.
        behind_pooler: whether connections go through a transaction pooler, such as PgBouncer. Then nothing is kept in
            a session: pools on this queue poll and hold no lock, and an operation is a transaction of its own.
        wait_for_database: how long ``open`` and the calls of the application, and a pool's start, wait for a database
            that cannot be reached, starts, stops, or is a standby, instead of failing at once: as long as it is certain
            that nothing was written. A call waits without a connection. Without effect on calls with ``connection=``.
        password: returns the password, for a URL without one. It is called for each connection that is made, on the
            thread that makes it; and once more if the password is refused.

    Raises ``UsageError`` for a URL that says what cannot be honoured.
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
        behind_pooler: bool = False,
        wait_for_database: timedelta = timedelta(0),
        password: Callable[[], str] | None = None,
    ) -> None:
        self.rules = Rules(max_payload_bytes=max_payload_bytes, duplicated_tasks=duplicated_tasks)
        self._operations = Operations(schema)
        self._connections = Connections(
            database,
            max_pool_size,
            self._operations,
            behind_pooler=behind_pooler,
            password=password,
            wait_for_database=wait_for_database,
        )
        self._manual = ManualPool(self._operations, self._connections)

    # Opening and closing ----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it holds connections."""
        return self._connections.is_open

    @property
    def keeps_session(self) -> bool:
        """Whether a pool can listen and hold a lock: not behind a pooler."""
        return self._connections.keeps_session

    @property
    def connects_within(self) -> float:
        """Seconds within which one of its servers has answered a connect, if any does."""
        return self._connections.connects_within

    def open(self) -> None:
        """Connects and checks the tables. Calls of the queue connect by themselves; pools do it when they start.

        Raises ``BackendUnavailable``, ``AccessRefused``, or ``SchemaError`` with the command that mends it.
        """
        self._connections.open()

    def close(self) -> None:
        """Closes the queue's own connections; where pools still run on it, the last of them does when it stops.

        Idempotent; the queue can be opened again. What was fetched by hand and not ended is given back.
        """
        self._manual.end()
        self._connections.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store(self) -> PostgresStore:
        """A store for one pool, which closes it when it ends; opens the queue until then. Raises like ``open``."""
        claims, writes = self._connections.lend()
        return PostgresStore(self._operations, claims, writes, self._connections)

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
        connection: CallersConnection | None = None,
    ) -> Task:
        """Inserts one task and returns its row.

        Args:
            task: a task of either mode; a worker of its mode runs it.
            priority: -2 (first) to 2 (last), instead of the class's.
            scheduled_at: the earliest time to run it, with a time zone.
            delay: how long to wait at least, by the database's clock; not together with ``scheduled_at``.
            task_type: which pools take it, instead of the class's.
            max_retries: how often a failure leads to another run, instead of the class's.
            uniq: whether it is unique, instead of the class's. If an equal unique task is waiting or running, nothing
                is written, and that one is returned with ``conflict`` true.
            id: the id of the new row, so that an insert whose reply was lost can be repeated: if the row is there
                already, with the same fields, it is returned with ``conflict`` true.
            connection: a connection of the caller's; the task is then committed or rolled back with the caller's own
                writes. It can be a SQLAlchemy ``Session``, ``scoped_session`` or ``Connection``, a psycopg or psycopg2
                connection, or ``django.db.connection``. On a connection in autocommit the insert stands at once.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was sent.
            UsageError: an argument cannot be used; nothing was sent.
            IdInUse: a task with other fields has this id.
            NotConnected: the backend cannot be reached; nothing was sent.
            OutcomeUnknown: the connection broke before the reply came: the task may be there, or not.
            BackendError: the backend refused, or failed: nothing was written.
        """
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
        with _unknown_unless_typed("whether the task was inserted", (row,)):
            return self._connections.call(lambda writes: writes.converse(begin(notify=True)))

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
        connection: CallersConnection | None = None,
    ) -> list[Task]:
        """Inserts many tasks, all or none, and returns their rows in the order given.

        The options are those of ``insert_task`` but for ``id``, and hold for all of the tasks.

        Raises what ``insert_task`` raises. Some tasks may be on their way when another one turns out bad, and are
        rolled back; with ``connection`` nothing is sent before all of them are known to be good.
        """
        overrides = Overrides(
            priority=priority,
            scheduled_at=scheduled_at,
            delay=delay,
            task_type=task_type,
            max_retries=max_retries,
            uniq=uniq,
        )
        bulk = Bulk(tasks, overrides, self.rules)
        if connection is not None:
            bulk.make_all()
            begin = partial(conversations.insert_many, self._operations, bulk, overrides)
            return self._converse_on(connection, begin)
        return self._insert_bulk(bulk, overrides)

    def schedule_task(self, task: BaseRunnable, /, *, connection: CallersConnection | None = None) -> Task:
        """Inserts a task of a class with ``cron`` for the next tick of its schedule, and returns its row.

        A tick is inserted once: if its task is there already, that one is returned with ``conflict`` true. So is an
        equal unique task that waits or runs; nothing is written then, and a pool inserts the tick when its time comes.

        Raises ``UsageError`` if the class has no ``cron``, or its schedule has no tick left; otherwise like
        ``insert_task``.
        """
        return self._converse(partial(conversations.schedule, self._operations, task, self.rules), connection)

    def complete(self, *, connection: CallersConnection) -> None:
        """Marks the task of this run as finished, in the caller's transaction.

        What the run writes in that transaction and the completion of its task are committed together, or not at all, so
        that the effect happens once even if the process dies. Let the transaction be the last thing that the run does.
        If it is rolled back and the run returns, the task is finished as usual.

        Raises:
            TaskLost: this run no longer holds its task. The statement has failed in the database, so that the
                transaction, or the savepoint, can only be rolled back.
            NotInRun: it was called outside of a run.
            UsageError: the connection is in autocommit, so that nothing could be rolled back.
        """
        run = current_run()
        callers = handed(connection)
        callers.refuse_autocommit()
        run.completed = True
        try:
            callers.run(self._operations.complete_one(run))
        except Exception as error:
            if STALE_RUN in str(error):
                raise TaskLost(f"the run no longer holds task {run.task.id}: roll back") from error
            raise

    def find_task_by_id(self, task_id: UUID, /, *, connection: CallersConnection | None = None) -> Task | None:
        """Returns the row as it is now, or None if there is none.

        Raises ``UnreadablePayload`` for JSON that Python cannot read.
        """
        return self._run(self._operations.find(task_id), connection)

    def fetch_and_touch_task(
        self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: CallersConnection | None = None
    ) -> Task | None:
        """Claims the first due task of a type, of any kind, for this queue; returns None if no task is due.

        The caller does the work, and ends the task with ``update_task_state``, ``fail_task``, ``schedule_retry`` or
        ``remove_task``.
        """
        for _ in range(2):
            pool_id = self._manual.begin()
            registered, task = self._run(self._operations.touch(task_type, pool_id), connection)
            if registered:
                return task
            self._manual.doubt(pool_id)  # others have taken it for dead, or the transaction does not see it yet
        raise UsageError("a snapshot of the transaction is older than this queue's first fetch: begin another one")

    def update_task_state(
        self, task: Task, state: TaskState, /, *, connection: CallersConnection | None = None
    ) -> Task:
        """Moves a task to another state by hand, if its row is still as it was read; returns the new row.

        ``lifecycle.BY_HAND`` has the moves. A finished, failed or cancelled task that is made new begins its life
        again, with no retries charged, and due now at the earliest. A run that is under way loses its task.

        Raises:
            UsageError: there is no such move.
            StaleTask: the row was changed or removed meanwhile.
            TwinExists: a unique task cannot be revived, since an equal one is waiting or running. If another one is
                being revived at the same moment, the caller's own ``connection`` fails with the database's error.
        """
        return self._change(change_by_hand(task, state), connection)

    def fail_task(self, task: Task, error_message: str, /, *, connection: CallersConnection | None = None) -> Task:
        """Fails a task by hand, whatever retries are left, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        return self._change(fail_by_hand(task, error_message), connection)

    def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: CallersConnection | None = None
    ) -> Task:
        """Charges a failure to a task in progress, has it run again after ``backoff``, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        return self._change(retry_by_hand(task, backoff, error_message), connection)

    def remove_task(self, task_id: UUID, /, *, connection: CallersConnection | None = None) -> int:
        """Removes a task in whatever state, and returns how many were removed: 0 or 1.

        A run that is under way loses its task.
        """
        return self._run(self._operations.remove_one(task_id), connection)

    def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: CallersConnection | None = None) -> int:
        """Removes the unique task that equals this one and waits or runs; returns how many: 0 or 1.

        It does not matter whether its class, ``uniq=`` of its insert or the queue made it unique. A task that was not
        inserted as unique is not found by its fields: remove it by its id.
        """
        return self._run(self._operations.remove_twin(self.rules.hash_of_unique(task)), connection)

    def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: CallersConnection | None = None
    ) -> int:
        """Removes all tasks of a type, in whatever state, and returns how many.

        On Postgres it works in batches of about a second, and removes the tasks that were there when it began. Without
        ``connection`` each batch is committed by itself: if the call is interrupted, cancelled or fails, what is done
        stays done, and the exception has a note that says how many were removed.

        Args:
            task_type: the type.
            on_progress: called after each batch with the number of tasks removed so far. What it raises stops the
                removal.
            connection: a connection of the caller's; then all is part of one transaction.
        """
        return self._remove(self._operations.remove_type(task_type), on_progress, connection)

    def remove_all_tasks(
        self, *, on_progress: OnProgress | None = None, connection: CallersConnection | None = None
    ) -> int:
        """Removes every task, in whatever state, and returns how many.

        It works in batches, as ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        return self._remove(self._operations.remove_all(), on_progress, connection)

    def remove_all_scheduled_tasks(
        self, *, on_progress: OnProgress | None = None, connection: CallersConnection | None = None
    ) -> int:
        """Removes the tasks that wait for their first run at a later time, and returns how many.

        A task that was run before stays: a retry in backoff, or a snoozed one. It works in batches, as
        ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        return self._remove(self._operations.remove_scheduled(), on_progress, connection)

    # For tests --------------------------------------------------------------------------------------------------------

    def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: CallersConnection | None = None) -> list[Task]:
        """Returns the rows of these kinds, in the order of their insertion: for tests."""
        return self._run(self._operations.of_kinds(kinds), connection)

    def count_by_kind(self, *, connection: CallersConnection | None = None) -> dict[str, int]:
        """Returns how many tasks of each kind there are: for tests."""
        return self._run(self._operations.kinds(), connection)

    # How they are run -------------------------------------------------------------------------------------------------

    def _insert_bulk(self, bulk: Bulk, overrides: Overrides) -> list[Task]:
        inserting = (self._operations, bulk, overrides)

        def insert(writes: Runner) -> list[Task]:
            if bulk.is_unique:
                return writes.transact(partial(conversations.insert_many, *inserting, notify=True))
            if len(bulk) > conversations.AHEAD and isinstance(writes, OwnRunner) and writes.can_pipeline:
                return writes.pipeline(partial(conversations.insert_ahead, *inserting, notify=True))
            chunks = writes.run_all(conversations.insert_chunks(*inserting, notify=True))
            return [task for chunk in chunks for task in chunk]

        with _unknown_unless_typed("whether the tasks were inserted", bulk):
            if bulk.is_unique:
                bulk.make_all()
            return self._connections.call(insert)

    def _run(self, operation: Operation[T], connection: CallersConnection | None) -> T:
        if connection is not None:
            return handed(connection).run(operation)
        return self._connections.call(lambda writes: writes.run(operation))

    def _remove(self, batch: Removing, on_progress: OnProgress | None, connection: CallersConnection | None) -> int:
        removal = Removal(on_progress)
        begin = partial(conversations.remove, self._operations, batch, removal)
        with removal.told(logger, in_transaction=connection is not None):
            if connection is not None:
                return self._converse_on(connection, begin)
            return self._connections.call(lambda writes: writes.converse(begin(), _GUARD_OF_REMOVALS))

    def _change(self, change: Change, connection: CallersConnection | None) -> Task:
        begin = partial(conversations.change, self._operations)
        try:
            return self._converse(partial(begin, change), connection)
        except StatementRefused as error:
            in_ascii = spelled(change)
            if error.character is None or in_ascii == change:
                raise
        return self._converse(partial(begin, in_ascii), connection)

    def _converse(self, begin: Callable[..., Conversation[T]], connection: CallersConnection | None) -> T:
        if connection is not None:
            return self._converse_on(connection, begin)
        return self._connections.call(lambda writes: writes.converse(begin(notify=True)))

    def _converse_on(self, connection: CallersConnection, begin: Callable[..., Conversation[T]]) -> T:
        return handed(connection).converse(begin)


@contextmanager
def _unknown_unless_typed(what: str, rows: Iterable[NewTask]) -> Iterator[None]:
    """Names the ids of what may stand although no reply came, and the place of what cannot be stored."""
    try:
        yield
    except NotConnected:
        raise
    except StatementRefused as error:
        name_unstorable(rows, error.character)
        raise
    except BackendUnavailable as error:
        raise OutcomeUnknown(f"it is not known {what}: {error}", tuple(row.id for row in rows)) from error
