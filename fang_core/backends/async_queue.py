"""The public methods of a queue for asyncio code, over the verbs of whatever backend: ``AsyncBaseQueue``.

``fang_core.backends.queue`` says what the author of a backend supplies: here ``_do`` and the like are coroutines. Both
have the same methods; what is not a matter of colour stands in ``verbs``, ``shells`` and ``fang_core.tasks``.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, Unpack
from uuid import UUID

from fang_core.backends.moving import AsyncMovingCalls
from fang_core.backends.shells import fetch_unseen, refine_failure, too_busy, without_transactions
from fang_core.backends.ticking import next_tick
from fang_core.backends.verbs import Batch, Call, Verbs, call
from fang_core.copying import Uncopyable
from fang_core.errors import BackendError, StatementRefused
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import change_by_hand, fail_by_hand, retry_by_hand
from fang_core.logs import SafeLogger
from fang_core.messages import PoolMessage, body_of, checked_message, this_process, unknown_pool
from fang_core.monitoring.audit import AsyncAudit, AuditCall
from fang_core.monitoring.explaining import explained
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.listing import Count, TaskPage, checked_limit, checked_up_to
from fang_core.monitoring.reading import checked_range
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_core.record import DEFAULT_TASK_TYPE, PoolInfo, Task, TaskState
from fang_core.runs.run import current_run
from fang_core.tasks.arguments import checked_id, checked_task_type
from fang_core.tasks.cancelling import cancellation
from fang_core.tasks.editing import edit
from fang_core.tasks.insertion import Bulk, Rules, name_unstorable
from fang_core.tasks.managing import AsyncLimits, LimitChange, limited_type, pause
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.scheduling import AsyncQueueSchedules, ScheduleCall
from fang_core.tasks.selecting.batches import Batches, OnProgress, cancelling, removal, retrying
from fang_core.tasks.selecting.filter import ANY_TASK, TaskFilter, any_filter, checked_filter, retried_filter

C = TypeVar("C")
T = TypeVar("T")

_TRIES: Final = 20  # to insert a tick while others make and remove it


class AsyncBaseQueue(Uncopyable, Generic[C]):
    """An ``AsyncQueueable`` on the verbs of a backend. ``C`` is what its ``connection=`` takes."""

    rules: Rules
    _logger: ClassVar = SafeLogger("fang_core")
    _takes_connections: ClassVar[bool] = True
    _makes_rows_ahead: ClassVar[bool] = False
    """Whether ``insert_many`` makes the rows of its bulk by itself, while it sends others."""

    # What the backend supplies ----------------------------------------------------------------------------------------

    @abstractmethod
    async def _do(self, call: Call[T], connection: C | None, /) -> T:
        """Has the backend carry out a call, in the caller's transaction if a connection is given."""

    @abstractmethod
    async def _begin_to_hold(self) -> UUID:
        """Returns the pool that holds tasks fetched by hand; registers it, and starts its heart, if need be."""

    @abstractmethod
    async def _doubt(self, pool_id: UUID) -> None:
        """Looks whether the record of that pool is gone, after a fetch did not find it."""

    @abstractmethod
    async def open(self) -> None:
        """See ``AsyncBackend.open``."""

    @abstractmethod
    async def close(self) -> None:
        """See ``AsyncBackend.close``."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What applications and runs call ----------------------------------------------------------------------------------

    async def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        id: UUID | None = None,
        connection: C | None = None,
        **options: Unpack[InsertOptions],
    ) -> Task:
        """Inserts one task and returns its row.

        Args:
            task: a task of either mode; a worker of its mode runs it.
            id: the id of the new row, so that an insert whose reply was lost can be repeated: if the row is there
                already, with the same fields, it is returned with ``conflict`` true.
            connection: a connection of the caller's; the task is then committed or rolled back with the caller's own
                writes.
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
            return await self._insert(task, id, connection, options)
        with self.rules.inserting((task,), options, is_bulk=False) as insertion:
            row = await self._insert(task, id, connection, insertion.options)
            insertion.rows = (row,)
            return row

    async def _insert(
        self, task: BaseRunnable, task_id: UUID | None, connection: C | None, options: InsertOptions
    ) -> Task:
        overrides = self.rules.overrides(task_id, **options)
        row = overrides.new_task(task, self.rules)
        inserting = call(Verbs.insert, row, overrides)
        if connection is not None:
            return await self._run(inserting, connection)
        try:
            return await self._run(inserting)
        except BackendError as error:
            refine_failure(error, "whether the task was inserted", (row,))
            raise

    async def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        connection: C | None = None,
        **options: Unpack[InsertOptions],
    ) -> list[Task]:
        """Inserts many tasks, all or none, and returns their rows in the order given.

        The options hold for all of the tasks; ``InsertOptions`` explains each of them.

        Raises what ``insert_task`` raises. If a bad task is found after others were sent, these are rolled back; with
        ``connection`` nothing is sent before all of them have been checked.
        """
        if not self.rules.insert_middleware:
            return await self._insert_many(tasks, connection, options)
        with self.rules.inserting(tasks, options, is_bulk=True) as insertion:
            rows = insertion.rows = await self._insert_many(insertion.tasks, connection, insertion.options)
            return rows

    async def _insert_many(
        self, tasks: Iterable[BaseRunnable], connection: C | None, options: InsertOptions
    ) -> list[Task]:
        overrides = self.rules.overrides(**options)
        bulk = Bulk(tasks, overrides, self.rules)
        if connection is not None or not self._makes_rows_ahead:
            bulk.make_all()
        inserting = call(Verbs.insert_many, bulk, overrides)
        if connection is not None:
            return await self._run(inserting, connection)
        try:
            return await self._run(inserting)
        except BackendError as error:
            refine_failure(error, "whether the tasks were inserted", bulk)
            raise

    async def schedule_task(self, task: BaseRunnable, /, *, connection: C | None = None) -> Task:
        """Inserts a task of a class with ``cron`` for the next tick of its schedule, and returns its row.

        A tick is inserted once: if its task is there already, that one is returned with ``conflict`` true. So is an
        equal unique task that waits or runs; nothing is written then, and a pool inserts the tick when its time comes.

        Raises ``UsageError`` if the class has no ``cron``, or its schedule has no tick left; otherwise like
        ``insert_task``.
        """
        for _ in range(_TRIES):
            tick = next_tick(task, await self._run(call(Verbs.clock), connection), self.rules)
            scheduled = await self._run(call(Verbs.tick_by_hand, tick), connection)
            if scheduled is not None:  # otherwise its time has come meanwhile
                return scheduled
        raise too_busy(type(task).__name__)

    @property
    def schedules(self) -> AsyncQueueSchedules:
        """Puts, pauses, lists and removes the schedules in the database."""
        return AsyncQueueSchedules(self._do_schedule, self.rules)

    @property
    def moving(self) -> AsyncMovingCalls:
        """Reads and writes whole tasks, for ``fang move``: see ``fang_core.backends.moving``."""
        return AsyncMovingCalls(self._run)

    async def complete(self, *, connection: C) -> None:
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
        await self._run(call(Verbs.complete_run, current_run()), connection)

    async def find_task_by_id(self, task_id: UUID, /, *, connection: C | None = None) -> Task | None:
        """Returns the row as it is now, or None if there is none.

        Raises ``UnreadablePayload`` for JSON that Python cannot read.
        """
        return await self._run(call(Verbs.find, checked_id(task_id)), connection)

    async def fetch_and_touch_task(
        self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: C | None = None
    ) -> Task | None:
        """Claims the first due task of a type, of any kind, for this queue; returns None if no task is due.

        The caller does the work, and ends the task with ``update_task_state``, ``fail_task``, ``schedule_retry`` or
        ``remove_task``.
        """
        checked_task_type(task_type)
        for _ in range(2):
            pool_id = await self._begin_to_hold()
            fetched = await self._run(call(Verbs.fetch, task_type, pool_id), connection)
            if fetched.registered:
                return fetched.task
            await self._doubt(pool_id)  # others took it for dead, or the transaction does not see it yet
        raise fetch_unseen()

    async def update_task_state(self, task: Task, state: TaskState, /, *, connection: C | None = None) -> Task:
        """Moves a task to another state by hand, if its row is still as it was read; returns the new row.

        ``lifecycle.BY_HAND`` has the moves. A finished, failed or cancelled task that is made new begins its life
        again, with no retries charged, and due now at the earliest. A run that is under way loses its task.

        Raises:
            UsageError: there is no such move.
            StaleTask: the row was changed or removed meanwhile.
            TwinExists: a unique task cannot be revived, since an equal one is waiting or running. If another one is
                being revived at the same moment, the caller's own ``connection`` fails with the database's error.
        """
        return await self._run(call(Verbs.change, change_by_hand(task, state)), connection)

    async def update_task(
        self,
        task: Task,
        new_task: BaseRunnable,
        /,
        *,
        connection: C | None = None,
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
            return await self._run(call(Verbs.edit, wanted), connection)
        except StatementRefused as error:
            name_unstorable((wanted.row,), error.character)
            raise

    async def fail_task(self, task: Task, error_message: str, /, *, connection: C | None = None) -> Task:
        """Fails a task by hand, whatever retries are left, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        return await self._run(call(Verbs.change, fail_by_hand(task, error_message)), connection)

    async def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: C | None = None
    ) -> Task:
        """Charges a failure to a task in progress, has it run again after ``backoff``, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        return await self._run(call(Verbs.change, retry_by_hand(task, backoff, error_message)), connection)

    async def pools(self) -> list[PoolInfo]:
        """Returns the registered pools, in the order in which they started.

        A pool whose process has died is among them until another pool has found it dead. What a pool does now,
        ``busy``, ``waiting`` and ``live``, is as of ``seen_at``: a second ago, or unchanged since.
        """
        return await self._run(call(Verbs.list_pools))

    async def explain(self, task_id: UUID, /) -> Explanation:
        """Explains why a task is not running, or that it runs, and what would change that.

        It names the one cause that has to change first: ``Explanation.cause`` says which, ``text`` in a sentence,
        ``remedy`` what to do. All facts are of one moment, ``at``. If there is no such task, that is the cause.

        Raises ``UnreadablePayload`` for a row with JSON that Python cannot read, and ``BackendError`` if the database
        does not answer within a second, or the role may not read the tables of pools and types.
        """
        return explained(await self._run(call(Verbs.explain, checked_id(task_id))))

    async def stats(
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
        return await self._run(call(Verbs.stats, checked_range(since, task_types, kinds)))

    async def heat_map(
        self, kind: str, since: timedelta = timedelta(hours=1), /, *, task_type: str | None = None
    ) -> tuple[HeatPoint, ...]:
        """Returns how long the tasks of a kind waited and ran, minute by minute, or hour by hour if that is long ago.

        Args:
            kind: the kind, ``TaskConfig.kind`` or the name of the class.
            since: how long ago it begins, as in ``stats``.
            task_type: only that of this task type; all unless given.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        return await self._run(call(Verbs.heat_map, checked_range(since, task_type, [kind])))

    async def control(self, pool_id: UUID, message: PoolMessage, /) -> None:
        """Tells a pool something: ``Stop()``, ``Resize(workers=..)`` or ``SetLogLevel(level=..)``.

        Returns when the message is stored, and does not wait for the pool. That heeds it within milliseconds if NOTIFY
        reaches it, otherwise with its next beat, a second later at most. If the pool ends before that, the message is
        dropped; a pool of an older version ignores a message that it does not know.

        Raises ``UnknownPool`` if there is no such pool, and ``UsageError`` for anything but such a message.
        """
        checked_id(pool_id, "pool_id")
        checked_message(message)
        if not await self._run(call(Verbs.send, pool_id, message.kind, body_of(message), this_process())):
            raise unknown_pool(pool_id)

    @property
    def audit(self) -> AsyncAudit:
        """Writes and lists who has changed what on the page."""
        return AsyncAudit(self._do_audit)

    @property
    def limits(self) -> AsyncLimits:
        """Lists, sets and removes the limits of task types at run time."""
        return AsyncLimits(self)

    async def pause(
        self,
        task_type: str,
        /,
        *,
        until: datetime | timedelta | None = None,
        reason: str | None = None,
        by: str | None = None,
        connection: C | None = None,
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
        return await self._run(call(Verbs.pause_type, limited_type(task_type), pause(until, reason, by)), connection)

    async def resume(self, task_type: str, /, *, connection: C | None = None) -> TypeInfo | None:
        """Ends the pause of a task type: its pools look for its tasks at once. It does nothing if there is no pause.

        Returns None if the type has no limits either, and is like any other again. Raises ``UsageError``.
        """
        return await self._run(call(Verbs.resume_type, limited_type(task_type)), connection)

    async def list_tasks(
        self, which: TaskFilter = ANY_TASK, /, *, limit: int = 50, cursor: str | None = None
    ) -> TaskPage:
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
        return await self._run(call(Verbs.list_tasks, any_filter(which), checked_limit(limit), cursor))

    async def count_tasks(self, which: TaskFilter = ANY_TASK, /, *, up_to: int = 10_000) -> Count:
        """Returns how many tasks match the filter: all, if they are not more than ``up_to``, or else at least how many.

        On Postgres it takes about a quarter of a second at most, and as long again for each further 10,000 of
        ``up_to``. If that does not suffice, as few tasks match among many, ``is_exact`` is false too.

        Args:
            which: all tasks unless given.
            up_to: 100,000 at most.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        return await self._run(call(Verbs.count_tasks, any_filter(which), checked_up_to(up_to)))

    async def cancel_task(
        self, task_id: UUID, /, reason: str = "", *, by: str | None = None, connection: C | None = None
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
        return await self._run(call(Verbs.cancel, checked_id(task_id), cancellation(reason, by)), connection)

    async def cancel_tasks(
        self,
        which: TaskFilter,
        /,
        reason: str = "",
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: C | None = None,
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
        batches, wanted = cancelling(on_progress), cancellation(reason, by)
        return await self._in_batches(batches, Verbs.cancel_batch, (checked_filter(which), wanted), connection)

    async def retry_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: C | None = None,
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
        batches, who = retrying(on_progress), cancellation("", by).by
        count = await self._in_batches(batches, Verbs.retry_batch, (retried_filter(which),), connection)
        self._logger.info("%d tasks retried by %s", count, who)
        return count

    async def remove_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        on_progress: OnProgress | None = None,
        connection: C | None = None,
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
        return await self._in_batches(removal(on_progress), Verbs.remove_batch, (checked_filter(which),), connection)

    async def remove_task(self, task_id: UUID, /, *, connection: C | None = None) -> int:
        """Removes a task in whatever state, and returns how many were removed: 0 or 1.

        A run that is under way loses its task. The period of a unique task ends, even if its row is gone already.
        """
        return await self._run(call(Verbs.remove, checked_id(task_id)), connection)

    async def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: C | None = None) -> int:
        """Removes the unique task that equals this one and waits or runs; returns how many: 0 or 1.

        It does not matter whether its class, ``uniq=`` of its insert or the queue made it unique; the class says which
        fields count. Its period ends too, if it has one. A task that was not inserted as unique is not found by its
        fields: remove it by its id.
        """
        return await self._run(call(Verbs.remove_twin, self.rules.hash_of_unique(task)), connection)

    async def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: C | None = None
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
        checked_task_type(task_type)
        return await self._remove_all(TaskFilter(task_types=(task_type,)), on_progress, connection)

    async def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: C | None = None) -> int:
        """Removes every task, in whatever state, and returns how many.

        It works in batches, as ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        return await self._remove_all(TaskFilter(all_tasks=True), on_progress, connection)

    async def remove_all_scheduled_tasks(
        self, *, on_progress: OnProgress | None = None, connection: C | None = None
    ) -> int:
        """Removes the tasks that wait for their first run at a later time, and returns how many.

        A task that was run before stays: a retry in backoff, or a snoozed one. It works in batches, as
        ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        return await self._in_batches(removal(on_progress), Verbs.remove_scheduled_batch, (), connection)

    # For tests --------------------------------------------------------------------------------------------------------

    async def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: C | None = None) -> list[Task]:
        """Returns the rows of these kinds, in the order of their insertion: for tests."""
        return await self._run(call(Verbs.tasks_of_kinds, kinds), connection)

    async def count_by_kind(self, *, connection: C | None = None) -> dict[str, int]:
        """Returns how many tasks of each kind there are: for tests."""
        return await self._run(call(Verbs.count_by_kind), connection)

    # How calls are made -----------------------------------------------------------------------------------------------

    async def _run(self, call: Call[T], connection: C | None = None) -> T:
        if connection is not None and not self._takes_connections:
            raise without_transactions(type(self).__name__)
        return await self._do(call, connection)

    async def _in_batches(
        self, batches: Batches, verb: Callable[..., Any], args: tuple[Any, ...], connection: C | None
    ) -> int:
        """Repeats a verb until nothing is left; each batch is a call of its own. Returns how many tasks these were."""
        with batches.told(self._logger, in_transaction=connection is not None):
            place: Any = None
            while True:
                batches.begin()
                batch: Batch = await self._run(call(verb, *args, batches.limit, place), connection)
                batches.ended(batch.dealt_with)
                if batch.place is None:
                    return batches.done
                place = batch.place

    async def _remove_all(self, which: TaskFilter, on_progress: OnProgress | None, connection: C | None) -> int:
        """Removes the tasks of one type, or all. A backend may have a better way than that for other filters."""
        return await self._in_batches(removal(on_progress), Verbs.remove_batch, (which,), connection)

    async def _do_schedule(self, wanted: ScheduleCall[T], connection: C | None) -> T:
        try:
            return await self._run(Call[T](f"schedules.{wanted.verb}", wanted.args), connection)
        except StatementRefused as error:
            name_unstorable(wanted.rows, error.character)
            raise

    async def _do_audit(self, wanted: AuditCall[T]) -> T:
        return await self._run(Call[T](f"audit.{wanted.verb}", wanted.args))

    async def _list_types(self) -> list[TypeInfo]:
        return await self._run(call(Verbs.list_types))

    async def _set_limits(self, task_type: str, change: LimitChange) -> TypeInfo | None:
        return await self._run(call(Verbs.set_limits, task_type, change))
