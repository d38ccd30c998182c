"""Defines the queue on Postgres for threaded code."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Self, TypeVar, Unpack
from uuid import UUID

from fang_core.errors import MissingExtra

try:
    import psycopg as _driver  # noqa: F401
except ImportError:
    raise MissingExtra("fang_threaded.Queue needs its driver: pip install 'fang-tasks[threaded]'") from None

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, sessionmaker

from fang_core.backends.capabilities import Capabilities
from fang_core.copying import Uncopyable
from fang_core.driving import drive
from fang_core.errors import BackendUnavailable, NotConnected, OutcomeUnknown, StatementRefused, TaskLost, UsageError
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import Change, change_by_hand, fail_by_hand, retry_by_hand, spelled
from fang_core.messages import PoolMessage, unknown_pool
from fang_core.monitoring.audit import Audit, AuditCall
from fang_core.monitoring.explaining import explained
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.monitoring.reading import checked_range
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_core.naming import names_arguments
from fang_core.record import DEFAULT_TASK_TYPE, PoolInfo, Task, TaskState
from fang_core.runs.run import current_run
from fang_core.tasks.arguments import checked_id, checked_task_type
from fang_core.tasks.batches import Batches, OnProgress, cancelling, removal, retrying
from fang_core.tasks.cancelling import cancellation
from fang_core.tasks.codec import MAX_PAYLOAD_BYTES
from fang_core.tasks.editing import edit
from fang_core.tasks.filter import ANY_TASK, TaskFilter, checked_filter, retried_filter
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Bulk, Inject, NewTask, Overrides, Rules, name_unstorable
from fang_core.tasks.managing import LimitChange, Limits, limited_type, pause
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.scheduling import QueueSchedules, ScheduleCall
from fang_postgres import scheduling, scripts
from fang_postgres.bulk import remove_many, retry_many
from fang_postgres.cancelling import cancel, cancel_many
from fang_postgres.managing import list_types, pause_type, resume_type, set_limits
from fang_postgres.monitoring.listing import counts, lists
from fang_postgres.monitoring.reading import read_heat, read_stats
from fang_postgres.operations import Operations
from fang_postgres.operations.by_hand import Removing
from fang_postgres.planner_guard import AlwaysOn, Reading, Summing
from fang_postgres.pool.capabilities import capabilities
from fang_postgres.pool.store import PostgresStore
from fang_postgres.schema import DEFAULT_SCHEMA
from fang_postgres.sql.outcomes import STALE_RUN
from fang_postgres.statement import Operation, Script
from fang_threaded.caller_connection import CallersConnection, adapt
from fang_threaded.connections import Connections
from fang_threaded.database import Database, PsycopgDatabase, logger

T = TypeVar("T")
W = TypeVar("W")

_GUARD_OF_BATCHES: Final = AlwaysOn()
_READING: Final = Reading()
_SUMMING: Final = Summing()


@names_arguments
class Queue(Uncopyable):
    """A ``Queueable`` on Postgres. Threads may share one.

    Args:
        database: a URL, or an ``Engine`` or ``sessionmaker`` of the application's, on psycopg 3. The queue
            never closes the latter.
        max_pool_size: connections for the application's calls and for completions, if the queue makes its own.
        schema: the Postgres schema of the tables.
        max_payload_bytes: larger payloads are refused.
        duplicated_tasks: False makes every task unique whose insert does not say otherwise.
        inject: functions that are called with the headers of each insert, which they may change: once for each call,
            before anything is sent, on the caller's thread. What one raises is raised by the insert. They are not
            called for tasks of schedules, by pools or by ``schedule_task``, since a tick has no caller.
        insert_middleware: functions from an ``Insertion`` to a context manager that goes around each ``insert_task``
            and ``insert_tasks``, in the context of the caller. Not around tasks of schedules.
        behind_pooler: whether connections go through a transaction pooler, such as PgBouncer. Then nothing is kept in
            a session: pools on this queue poll and hold no lock, and an operation is a transaction of its own.
        wait_for_database: how long ``open`` and the calls of the application, and a pool's start, wait for a database
            that cannot be reached, starts, stops, or is a standby, instead of failing at once: as long as it is certain
            that nothing was written. A call waits without a connection. Without effect on calls with ``connection=``.
        password: returns the password, for a URL without one. It is called for each connection that is made, on the
            thread that makes it; and once more if the password is refused.

    Raises ``UsageError`` if the URL has parameters that cannot be honoured.
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
        inject: Sequence[Inject] = (),
        insert_middleware: Sequence[InsertMiddleware] = (),
        behind_pooler: bool = False,
        wait_for_database: timedelta = timedelta(0),
        password: Callable[[], str] | None = None,
    ) -> None:
        self.rules = Rules(
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            inject=inject,
            insert_middleware=insert_middleware,
        )
        self._operations = Operations(schema)
        self._connections = Connections(
            database,
            max_pool_size,
            self._operations,
            behind_pooler=behind_pooler,
            password=password,
            wait_for_database=wait_for_database,
        )
        self._manual = self._connections.manual_pool()
        same = partial(
            type(self),
            database,
            max_pool_size=max_pool_size,
            schema=schema,
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            behind_pooler=behind_pooler,
            wait_for_database=wait_for_database,
            password=password,
            inject=inject,
            insert_middleware=insert_middleware,
        )
        self._recipe = same if isinstance(database, str | URL) else None

    # Opening and closing ----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it holds connections."""
        return self._connections.is_open

    @property
    def capabilities(self) -> Capabilities:
        """What it can do beyond what every backend must do."""
        return capabilities(self._connections.keeps_session)

    @property
    def recipe(self) -> Callable[[], "Queue"] | None:
        """A function that makes an equal queue in another process; None if its database was handed in."""
        return self._recipe

    @property
    def connects_within(self) -> float:
        """Seconds within which one of the servers answers a connect, if any does."""
        return self._connections.connects_within

    def open(self) -> None:
        """Connects and checks the tables. Calls of the queue connect by themselves; pools do it when they start.

        Raises ``BackendUnavailable``, ``AccessRefused``, or ``SchemaError`` with the command that mends it.
        """
        drive(self._connections.open())

    def close(self) -> None:
        """Closes the queue's own connections; if pools still run on it, the last one to stop closes them.

        Idempotent; the queue can be opened again. Tasks that were fetched by hand and not ended are given back.
        """
        drive(self._manual.end())
        drive(self._connections.close())

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store(self) -> PostgresStore:
        """Makes a store for a pool, which closes it at its end; opens the queue until then. Raises like ``open``."""
        return drive(self._connections.lend_store())

    # What applications and runs call ----------------------------------------------------------------------------------

    def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        id: UUID | None = None,
        connection: CallersConnection | None = None,
        **options: Unpack[InsertOptions],
    ) -> Task:
        """Inserts one task and returns its row.

        Args:
            task: a task of either mode; a worker of its mode runs it.
            id: the id of the new row, so that an insert whose reply was lost can be repeated: if the row is there
                already, with the same fields, it is returned with ``conflict`` true.
            connection: a connection of the caller's; the task is then committed or rolled back with the caller's own
                writes. It can be a SQLAlchemy ``Session``, ``scoped_session`` or ``Connection``, a psycopg or psycopg2
                connection, or ``django.db.connection``. On a connection in autocommit the insert stands at once.
            **options: override the options of the task's class. ``InsertOptions`` explains each option.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was sent.
            UsageError: an argument cannot be used; nothing was sent. ``WrongArguments`` if there is no such option.
            IdInUse: a task with other fields has this id.
            TwinExists: an equal task is there, and ``on_conflict`` of its ``Unique`` is "raise"; nothing was written.
            NotConnected: the backend cannot be reached; nothing was sent.
            OutcomeUnknown: the connection broke before the reply came: the task may be there, or not.
            BackendError: the backend refused, or failed: nothing was written.
        """
        if not self.rules.insert_middleware:
            return self._insert(task, id, connection, options)
        with self.rules.inserting((task,), options, is_bulk=False) as insertion:
            row = self._insert(task, id, connection, insertion.options)
            insertion.rows = (row,)
            return row

    def _insert(
        self, task: BaseRunnable, task_id: UUID | None, connection: CallersConnection | None, options: InsertOptions
    ) -> Task:
        overrides = self.rules.overrides(task_id, **options)
        row = overrides.new_task(task, self.rules)
        begin = partial(scripts.insert, self._operations, row, overrides)
        if connection is not None:
            return self._run_script_on(connection, begin)
        with _unknown_unless_typed("whether the task was inserted", (row,)):
            if row.terms is not None and row.terms.period is not None:  # it may be taken back
                return self._connections.call(lambda writes: writes.in_transaction(partial(begin, notify=True)))
            return self._connections.call(lambda writes: writes.run_script(begin(notify=True)))

    def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        connection: CallersConnection | None = None,
        **options: Unpack[InsertOptions],
    ) -> list[Task]:
        """Inserts many tasks, all or none, and returns their rows in the order given.

        The options hold for all of the tasks; ``InsertOptions`` explains each of them.

        Raises what ``insert_task`` raises. If a bad task is found after others were sent, these are rolled back; with
        ``connection`` nothing is sent before all of them have been checked.
        """
        if not self.rules.insert_middleware:
            return self._insert_many(tasks, connection, options)
        with self.rules.inserting(tasks, options, is_bulk=True) as insertion:
            rows = insertion.rows = self._insert_many(insertion.tasks, connection, insertion.options)
            return rows

    def _insert_many(
        self, tasks: Iterable[BaseRunnable], connection: CallersConnection | None, options: InsertOptions
    ) -> list[Task]:
        overrides = self.rules.overrides(**options)
        bulk = Bulk(tasks, overrides, self.rules)
        if connection is not None:
            bulk.make_all()
            begin = partial(scripts.insert_many, self._operations, bulk, overrides, is_callers=True)
            return self._run_script_on(connection, begin)
        return self._insert_bulk(bulk, overrides)

    def schedule_task(self, task: BaseRunnable, /, *, connection: CallersConnection | None = None) -> Task:
        """Inserts a task of a class with ``cron`` for the next tick of its schedule, and returns its row.

        A tick is inserted once: if its task is there already, that one is returned with ``conflict`` true. So is an
        equal unique task that waits or runs; nothing is written then, and a pool inserts the tick when its time comes.

        Raises ``UsageError`` if the class has no ``cron``, or its schedule has no tick left; otherwise like
        ``insert_task``.
        """
        return self._run_script(partial(scripts.schedule, self._operations, task, self.rules), connection)

    @property
    def schedules(self) -> QueueSchedules:
        """Puts, pauses, lists and removes the schedules in the database."""
        return QueueSchedules(self._do_schedule, self.rules)

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
        callers = adapt(connection)
        drive(callers.refuse_autocommit())
        run.completed = True
        try:
            drive(callers.run(self._operations.complete_one(run)))
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
            pool_id = drive(self._manual.begin())
            fetch = partial(scripts.fetch, self._operations, checked_task_type(task_type), pool_id)
            registered, task = self._run_script(fetch, connection)
            if registered:
                return task
            drive(self._manual.doubt(pool_id))  # others took it for dead, or the transaction does not see it yet
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

    def update_task(
        self,
        task: Task,
        new_task: BaseRunnable,
        /,
        *,
        connection: CallersConnection | None = None,
        **options: Unpack[InsertOptions],
    ) -> Task:
        """Gives a task that waits other fields and options, if its row is still as it was read; returns the new row.

        Its kind stays. Options that are not given stay as they are in the row, also those of the class. The fields are
        checked as in an insert; ``headers`` replaces all headers, ``{}`` removes them. A unique task stays unique, and
        is compared by its new fields from now on, as its class has it; a period that its insert began goes on.

        Args:
            task: the task, as it was read; one that waits.
            new_task: a task of the same class, with the new fields.
            **options: those of an insert, but ``uniq``.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was sent.
            UsageError: the task does not wait, the other one is of another kind, or an option cannot be used.
            StaleTask: the row was changed, claimed or removed meanwhile.
            TwinExists: the task is unique, and an equal one is waiting or running.
        """
        wanted = edit(task, new_task, self.rules, **options)
        try:
            return self._run_script(partial(scripts.edit, self._operations, wanted), connection)
        except StatementRefused as error:
            name_unstorable((wanted.row,), error.character)
            raise

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

    def pools(self) -> list[PoolInfo]:
        """Returns the registered pools, in the order in which they started.

        A pool whose process has died is among them until another pool has found it dead. What a pool does now,
        ``busy``, ``waiting`` and ``live``, is as of ``seen_at``: a second ago, or unchanged since.
        """
        return self._run(self._operations.list_pools(), None)

    def explain(self, task_id: UUID, /) -> Explanation:
        """Explains why a task is not running, or that it runs, and what would change that.

        It names the one cause that has to change first: ``Explanation.cause`` says which, ``text`` in a sentence,
        ``remedy`` what to do. All facts are of one moment, ``at``. If there is no such task, that is the cause.

        Raises ``UnreadablePayload`` for a row with JSON that Python cannot read, and ``BackendError`` if the database
        does not answer within a second, or the role may not read the tables of pools and types.
        """
        operation = self._operations.explain(task_id)
        return explained(self._connections.call(lambda writes: writes.run(operation, _READING)))

    def stats(
        self,
        since: timedelta = timedelta(hours=1),
        /,
        *,
        task_types: str | Sequence[str] | None = None,
        kinds: str | Sequence[str] | None = None,
    ) -> Stats:
        """Returns what pools have counted in the last hour, or since then: by kind, by minute, and of their workers.

        A range of more than two hours is read from hours, which are kept for 90 days, others from minutes. It begins
        with the minute, or the hour, that ``since`` ago was in. What pools have counted in the last few seconds is
        missing.

        Args:
            since: how long ago it begins.
            task_types, kinds: only these; all unless given. Shares and utilisation are of all kinds nevertheless.

        Raises ``UsageError`` for arguments that cannot be used, ``BackendError`` if the database takes over 5 s.
        """
        asked = checked_range(since, task_types, kinds)
        return self._connections.call(lambda writes: writes.run_script(read_stats(self._operations, asked), _SUMMING))

    def heat_map(
        self, kind: str, since: timedelta = timedelta(hours=1), /, *, task_type: str | None = None
    ) -> tuple[HeatPoint, ...]:
        """Returns how long the tasks of a kind waited and ran, minute by minute, or hour by hour if that is long ago.

        Args:
            kind: the kind, ``TaskConfig.kind`` or the name of the class.
            since: how long ago it begins, as in ``stats``.
            task_type: only that of this task type; all unless given.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        asked = checked_range(since, task_type, [kind])
        return self._connections.call(lambda writes: writes.run_script(read_heat(self._operations, asked), _SUMMING))

    def control(self, pool_id: UUID, message: PoolMessage, /) -> None:
        """Tells a pool something: ``Stop()``, ``Resize(workers=..)`` or ``SetLogLevel(level=..)``.

        Returns when the message is stored, and does not wait for the pool. That heeds it within milliseconds if NOTIFY
        reaches it, otherwise with its next beat, a second later at most. If the pool ends before that, the message is
        dropped; a pool of an older version ignores a message that it does not know.

        Raises ``UnknownPool`` if there is no such pool, and ``UsageError`` for anything but such a message.
        """
        if not self._run(self._operations.send(pool_id, message), None):
            raise unknown_pool(pool_id)

    @property
    def audit(self) -> Audit:
        """Writes and lists who has changed what on the page."""
        return Audit(self._do_audit)

    @property
    def limits(self) -> Limits:
        """Lists, sets and removes the limits of task types at run time."""
        return Limits(self)

    def pause(
        self,
        task_type: str,
        /,
        *,
        until: datetime | timedelta | None = None,
        reason: str | None = None,
        by: str | None = None,
        connection: CallersConnection | None = None,
    ) -> TypeInfo:
        """Has no task of a type start until ``resume`` is called, or ``until``. Runs that go on are not stopped.

        Claims that start after this has returned take nothing of it. A pool still begins the few tasks that it has
        claimed before. Tasks may be inserted as ever, and wait. A pause of a type that is paused replaces that one.

        Args:
            task_type: the type.
            until: when the pause ends by itself: a time with a zone, or a ``timedelta`` from now.
            reason, by: kept with the pause; ``by`` is host and pid of this process unless given.
            connection: a connection of the caller's; the pause begins when its transaction is committed.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        begin = partial(pause_type, self._operations, limited_type(task_type))
        wanted = pause(until, reason, by)
        return _in_ascii_if_need_be(
            lambda written: self._run_script(partial(begin, written), connection), wanted, wanted.in_ascii()
        )

    def resume(self, task_type: str, /, *, connection: CallersConnection | None = None) -> TypeInfo | None:
        """Ends the pause of a task type: its pools look for its tasks at once. It does nothing if there is no pause.

        Returns None if the type has no limits either, and is like any other again. Raises ``UsageError``.
        """
        return self._run_script(partial(resume_type, self._operations, limited_type(task_type)), connection)

    def list_tasks(self, which: TaskFilter = ANY_TASK, /, *, limit: int = 50, cursor: str | None = None) -> TaskPage:
        """Returns a page of the tasks that match the filter, in the order that the filter's states have.

        Tasks that wait come in the order in which they are claimed: by type, priority and due time; tasks in progress
        by when they were claimed; ended ones by when they ended, the last ones first. For other filters, or none, the
        tasks that were inserted last come first, by their ids.

        On Postgres a page takes about 50 ms at most, however many tasks there are: if few match, it ends earlier, and
        says with ``stopped`` that it did. Tasks that move meanwhile may be missing, or come again further on.

        Args:
            which: all tasks unless given.
            limit: the most tasks of the page, up to 500.
            cursor: the ``cursor`` of the page before, with the same filter.

        Raises ``UsageError`` for arguments that cannot be used, or a cursor of another filter.
        """
        begin = lists(self._operations, which, limit, cursor)
        return self._connections.call(lambda writes: writes.run_script(begin(), _READING))

    def count_tasks(self, which: TaskFilter = ANY_TASK, /, *, up_to: int = 10_000) -> Count:
        """Returns how many tasks match the filter: counted, if they are not more than ``up_to``, or else estimated.

        On Postgres it takes about a quarter of a second at most. If that does not suffice, as few tasks match among
        many, ``is_exact`` is false too.

        Args:
            which: all tasks unless given.
            up_to: 100,000 at most.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        begin = counts(self._operations, which, up_to)
        return self._connections.call(lambda writes: writes.run_script(begin(), _READING))

    def cancel_task(
        self, task_id: UUID, /, reason: str = "", *, by: str | None = None, connection: CallersConnection | None = None
    ) -> Task | None:
        """Cancels a task that waits, at once; asks the pool of one that runs to interrupt its run. Returns the row.

        A run hears of it within 50 ms or so if its pool listens, otherwise within 1.2 s; ``current_run().interrupt``
        says why it is interrupted, and what it answers counts. If the pool has not begun the run, or takes the task
        back first, no run begins. A task that has ended is returned unchanged.

        Args:
            task_id: the task's id.
            reason: kept in the row: as the error message, and in ``cancel_request``. 2,000 bytes at most, cut.
            by: who cancels it, for ``cancel_request``; host and pid of this process unless given.
            connection: a connection of the caller's; a run hears of it when that transaction is committed.

        Returns None if there is no such task. Raises ``UsageError`` for arguments that cannot be used, and
        ``BackendError`` if another transaction has locked the row for 10 s.
        """
        begin = partial(cancel, self._operations, checked_id(task_id))
        wanted = cancellation(reason, by)
        return _in_ascii_if_need_be(
            lambda text: self._run_script(partial(begin, text), connection), wanted, wanted.in_ascii()
        )

    def cancel_tasks(
        self,
        which: TaskFilter,
        /,
        reason: str = "",
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: CallersConnection | None = None,
    ) -> int:
        """Cancels all tasks that match the filter, as ``cancel_task`` does; returns how many.

        Tasks in progress whose pools are asked to interrupt them are counted; those that had been asked before are
        not. On Postgres it works in batches, as ``remove_tasks_type`` does, on the tasks that were there when it began.

        Args:
            which: refused without a condition, unless it says ``all_tasks=True``.
            reason, by, connection: as in ``cancel_task``.
            on_progress: called after each batch with the number of tasks so far. What it raises stops the call.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        batches = cancelling(on_progress)
        begin = partial(cancel_many, self._operations, checked_filter(which), batches)
        wanted = cancellation(reason, by)
        return _in_ascii_if_need_be(
            lambda text: self._in_batches(batches, partial(begin, text), connection), wanted, wanted.in_ascii()
        )

    def retry_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: CallersConnection | None = None,
    ) -> int:
        """Has all tasks that match the filter run again, and returns how many.

        A task that has ended begins its life anew, as if ``update_task_state`` made it new: it is due now at the
        earliest, and its retries start from 0. One that waits for a retry is due now, with the retries that it has
        left. If the filter names neither states nor ids, these are the failed tasks and those that wait for a retry:
        finished and cancelled ones run again only if you ask for them.

        A unique task is left alone while an equal one waits or runs, and of equal ones that match the last one is
        taken. On Postgres it works in batches of at most 500, as ``remove_tasks_type`` does, on the tasks that were
        there when it began; a task that ends once more meanwhile is not taken again. Tasks that others have locked at
        that moment are left alone.

        Args:
            which: refused without a condition, unless it says ``all_tasks=True``.
            by: who wants it, for the log; host and pid of this process unless given.
            on_progress: called after each batch with the number of tasks so far. What it raises stops the call.
            connection: a connection of the caller's; then all is part of one transaction.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        batches = retrying(on_progress)
        wanted, who = retried_filter(which), cancellation("", by).by
        count = self._in_batches(batches, partial(retry_many, self._operations, wanted, batches), connection)
        logger.info("%d tasks retried by %s", count, who)
        return count

    def remove_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        on_progress: OnProgress | None = None,
        connection: CallersConnection | None = None,
    ) -> int:
        """Removes all tasks that match the filter, in whatever state, and returns how many.

        Runs that are under way lose their tasks; ``states`` of the filter spares them. It works in batches, as
        ``remove_tasks_type`` does, on the tasks that were there when it began. Tasks that others have locked at that
        moment are left alone.

        Args:
            which: refused without a condition, unless it says ``all_tasks=True``.
            on_progress: called after each batch with the number of tasks so far. What it raises stops the call.
            connection: a connection of the caller's; then all is part of one transaction.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        batches = removal(on_progress)
        begin = partial(remove_many, self._operations, checked_filter(which), batches)
        return self._in_batches(batches, begin, connection)

    def remove_task(self, task_id: UUID, /, *, connection: CallersConnection | None = None) -> int:
        """Removes a task in whatever state, and returns how many were removed: 0 or 1.

        A run that is under way loses its task. The period of a unique task ends, even if its row is gone already.
        """
        begin = partial(scripts.remove_one, self._operations, checked_id(task_id))
        return self._run_script(begin, connection)

    def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: CallersConnection | None = None) -> int:
        """Removes the unique task that equals this one and waits or runs; returns how many: 0 or 1.

        It does not matter whether its class, ``uniq=`` of its insert or the queue made it unique; the class says which
        fields count. Its period ends too, if it has one. A task that was not inserted as unique is not found by its
        fields: remove it by its id.
        """
        begin = partial(scripts.remove_twin, self._operations, self.rules.hash_of_unique(task))
        return self._run_script(begin, connection)

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

        def insert(writes: Database) -> list[Task]:
            if bulk.is_unique:
                return writes.in_transaction(partial(scripts.insert_many, *inserting, notify=True))
            if len(bulk) > scripts.AHEAD and isinstance(writes, PsycopgDatabase) and writes.can_pipeline:
                return writes.pipeline(partial(scripts.insert_ahead, *inserting, notify=True))
            chunks = writes.run_all(scripts.insert_chunks(*inserting, notify=True))
            return [task for chunk in chunks for task in chunk]

        with _unknown_unless_typed("whether the tasks were inserted", bulk):
            if bulk.is_unique:
                bulk.make_all()
            return self._connections.call(insert)

    def _run(self, operation: Operation[T], connection: CallersConnection | None) -> T:
        if connection is not None:
            return drive(adapt(connection).run(operation))
        return self._connections.call(lambda writes: writes.run(operation))

    def _remove(self, batch: Removing, on_progress: OnProgress | None, connection: CallersConnection | None) -> int:
        batches = removal(on_progress)
        return self._in_batches(batches, partial(scripts.remove, self._operations, batch, batches), connection)

    def _in_batches(
        self, batches: Batches, begin: Callable[..., Script[int]], connection: CallersConnection | None
    ) -> int:
        with batches.told(logger, in_transaction=connection is not None):
            if connection is not None:
                return self._run_script_on(connection, begin)
            return self._connections.call(lambda writes: writes.run_script(begin(notify=True), _GUARD_OF_BATCHES))

    def _change(self, change: Change, connection: CallersConnection | None) -> Task:
        begin = partial(scripts.change, self._operations)
        return _in_ascii_if_need_be(
            lambda text: self._run_script(partial(begin, text), connection), change, spelled(change)
        )

    def _list_types(self) -> list[TypeInfo]:
        return self._run_script(partial(list_types, self._operations), None)

    def _set_limits(self, task_type: str, change: LimitChange) -> TypeInfo | None:
        begin = partial(set_limits, self._operations, task_type)
        return _in_ascii_if_need_be(
            lambda written: self._connections.call(
                lambda writes: writes.run_script(begin(written, notify=True), _GUARD_OF_BATCHES)
            ),
            change,
            change.in_ascii(),
        )

    def _do_audit(self, call: AuditCall[T]) -> T:
        def write(written: AuditCall[T]) -> T:
            operation: Operation[T] = written.on(self._operations)
            return self._run(operation, None)

        return _in_ascii_if_need_be(write, call, call.in_ascii())

    def _do_schedule(self, call: ScheduleCall[T], connection: CallersConnection | None) -> T:
        def write(written: ScheduleCall[T]) -> T:
            begin = scheduling.begin(self._operations, written)
            if connection is None and written.is_transaction:
                return self._connections.call(lambda writes: writes.in_transaction(partial(begin, notify=True)))
            return self._run_script(begin, connection)

        try:
            return _in_ascii_if_need_be(write, call, call.in_ascii())
        except StatementRefused as error:
            name_unstorable(call.rows, error.character)
            raise

    def _run_script(self, begin: Callable[..., Script[T]], connection: CallersConnection | None) -> T:
        if connection is not None:
            return self._run_script_on(connection, begin)
        return self._connections.call(lambda writes: writes.run_script(begin(notify=True)))

    def _run_script_on(self, connection: CallersConnection, begin: Callable[..., Script[T]]) -> T:
        return drive(adapt(connection).run_script(begin))


def _in_ascii_if_need_be(write: Callable[[W], T], text: W, in_ascii: W) -> T:
    """Writes a text; in its second form if the database lacks a character of the first."""
    try:
        return write(text)
    except StatementRefused as error:
        if error.character is None or in_ascii == text:
            raise
    return write(in_ascii)


@contextmanager
def _unknown_unless_typed(what: str, rows: Iterable[NewTask]) -> Iterator[None]:
    """Adds the ids of the tasks that may be there to an error, or the place of a value that cannot be stored."""
    try:
        yield
    except NotConnected:
        raise
    except StatementRefused as error:
        name_unstorable(rows, error.character)
        raise
    except BackendUnavailable as error:
        raise OutcomeUnknown(f"it is not known {what}: {error}", tuple(row.id for row in rows)) from error
