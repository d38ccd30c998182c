"""Defines the protocol of queues that asyncio applications and runs see, with no word of SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, Unpack, runtime_checkable
from uuid import UUID

from fang_core.flow.info import TypeInfo
from fang_core.messages import PoolMessage
from fang_core.monitoring.audit import AsyncAudit
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_core.record import DEFAULT_TASK_TYPE, PoolInfo, Task, TaskState
from fang_core.tasks.managing import AsyncLimits
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.selecting.batches import OnProgress
from fang_core.tasks.selecting.filter import ANY_TASK, TaskFilter

if TYPE_CHECKING:
    from fang_core.tasks.runnable import BaseRunnable
    from fang_core.tasks.scheduling import AsyncQueueSchedules


@runtime_checkable
class AsyncQueueable(Protocol):
    """The methods of every queue for asyncio code. Runs are handed such a queue."""

    async def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        id: UUID | None = None,
        connection: Any = None,
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
        ...

    async def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        connection: Any = None,
        **options: Unpack[InsertOptions],
    ) -> list[Task]:
        """Inserts many tasks, all or none, and returns their rows in the order given.

        The options hold for all of the tasks; ``InsertOptions`` explains each of them.

        Raises what ``insert_task`` raises. If a bad task is found after earlier ones were sent, these are rolled back;
        with ``connection`` nothing is sent before all tasks have been checked.
        """
        ...

    async def schedule_task(self, task: BaseRunnable, /, *, connection: Any = None) -> Task:
        """Inserts a task of a class with ``cron`` for the next tick of its schedule, and returns its row.

        A tick is inserted once: if its task is there already, that one is returned with ``conflict`` true. So is an
        equal unique task that waits or runs; nothing is written then, and a pool inserts the tick when its time comes.

        Raises ``UsageError`` if the class has no ``cron``, or its schedule has no tick left; otherwise like
        ``insert_task``.
        """
        ...

    @property
    def schedules(self) -> AsyncQueueSchedules:
        """Puts, pauses, lists and removes the schedules in the database."""
        ...

    async def complete(self, *, connection: Any) -> None:
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
        ...

    async def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """Returns the row as it is now, or None if there is none.

        Raises ``UnreadablePayload`` for JSON that Python cannot read.
        """
        ...

    async def fetch_and_touch_task(
        self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None
    ) -> Task | None:
        """Claims the first due task of a type, of any kind, for the caller; returns None if no task is due.

        The caller runs the task, and ends it with ``update_task_state``, ``fail_task``, ``schedule_retry`` or
        ``remove_task``.
        """
        ...

    async def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
        """Moves a task to another state by hand, if its row is still as it was read; returns the new row.

        ``lifecycle.BY_HAND`` has the moves. A finished, failed or cancelled task that is made new begins its life
        again, with no retries charged, and due now at the earliest. A run that is under way loses its task.

        Raises:
            UsageError: there is no such move.
            StaleTask: the row was changed or removed meanwhile.
            TwinExists: a unique task cannot be revived, since an equal one is waiting or running. If another one is
                being revived at the same moment, the caller's own ``connection`` fails with the database's error.
        """
        ...

    async def update_task(
        self,
        task: Task,
        new_task: BaseRunnable,
        /,
        *,
        connection: Any = None,
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
        ...

    async def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """Fails a task by hand, whatever retries are left, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        ...

    async def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None
    ) -> Task:
        """Charges a failure to a task in progress, makes it due again after ``backoff``, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        ...

    async def pools(self) -> list[PoolInfo]:
        """Returns the registered pools, in the order in which they started.

        A pool whose process has died is among them until another pool has found it dead. What a pool does now,
        ``busy``, ``waiting`` and ``live``, is as of ``seen_at``: a second ago, or unchanged since.
        """
        ...

    async def explain(self, task_id: UUID, /) -> Explanation:
        """Explains why a task is not running, or that it runs, and what would change that.

        It names the one cause that has to change first: ``Explanation.cause`` says which, ``text`` in a sentence,
        ``remedy`` what to do. All facts are of one moment, ``at``. If there is no such task, that is the cause.

        Raises ``UnreadablePayload`` for a row with JSON that Python cannot read, and ``BackendError`` if the database
        does not answer within a second, or the role may not read the tables of pools and types.
        """
        ...

    async def stats(
        self,
        since: timedelta = timedelta(hours=1),
        /,
        *,
        task_types: str | Sequence[str] | None = None,
        kinds: str | Sequence[str] | None = None,
    ) -> Stats:
        """Returns what pools have counted in the last hour, or since ``since`` ago: by kind, by minute, and for their
        workers.

        A range of more than two hours is read from hours, which are kept for 90 days, a shorter one from minutes. The
        range begins at the start of a minute or an hour. The counts of the last few seconds are missing.

        Args:
            since: how long ago it begins.
            task_types, kinds: only these; all unless given. Shares and utilisation are of all kinds nevertheless.

        Raises ``UsageError`` for arguments that cannot be used, ``BackendError`` if the database takes over 5 s.
        """
        ...

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
        ...

    async def control(self, pool_id: UUID, message: PoolMessage, /) -> None:
        """Sends a pool a message: ``Stop()``, ``Resize(workers=..)`` or ``SetLogLevel(level=..)``.

        Returns when the message is stored, without waiting for the pool, which handles it within milliseconds if NOTIFY
        reaches it, otherwise with its next beat, a second later at most. If the pool ends before that, the message is
        dropped; a pool of an older version ignores a message that it does not know.

        Raises ``UnknownPool`` if there is no such pool, and ``UsageError`` for anything but such a message.
        """
        ...

    @property
    def audit(self) -> AsyncAudit:
        """Writes and lists who has changed what on the page."""
        ...

    @property
    def limits(self) -> AsyncLimits:
        """Lists, sets and removes the limits of task types at run time."""
        ...

    async def pause(
        self,
        task_type: str,
        /,
        *,
        until: datetime | timedelta | None = None,
        reason: str | None = None,
        by: str | None = None,
        connection: Any = None,
    ) -> TypeInfo:
        """Lets no task of a type start until ``resume`` is called, or ``until``. Current runs are not stopped.

        Claims that start after this has returned take no task of the type. A pool still begins the few tasks that it
        claimed before. Tasks can be inserted as usual, and wait. A second pause replaces the first one.

        Args:
            task_type: the type.
            until: when the pause ends by itself: a time with a zone, or a ``timedelta`` from now.
            reason, by: kept with the pause; ``by`` is host and pid of this process unless given.
            connection: a connection of the caller's; the pause begins when its transaction is committed.

        Raises ``UsageError`` for arguments that cannot be used, such as a time that has passed.
        """
        ...

    async def resume(self, task_type: str, /, *, connection: Any = None) -> TypeInfo | None:
        """Ends the pause of a task type: its pools look for its tasks at once. It does nothing if there is no pause.

        Returns None if the type has no limits. Raises ``UsageError``.
        """
        ...

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
        ...

    async def count_tasks(self, which: TaskFilter = ANY_TASK, /, *, up_to: int = 10_000) -> Count:
        """Returns how many tasks match the filter: all, if they are not more than ``up_to``, or else at least how many.

        On Postgres it takes about a quarter of a second at most, and as long again for each further 10,000 of
        ``up_to``. If that does not suffice, as few tasks match among many, ``is_exact`` is false too.

        Args:
            which: all tasks unless given.
            up_to: 100,000 at most.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        ...

    async def cancel_task(
        self, task_id: UUID, /, reason: str = "", *, by: str | None = None, connection: Any = None
    ) -> Task | None:
        """Cancels a task that waits, at once; asks the pool of one that runs to interrupt its run. Returns the row.

        A run is interrupted within 50 ms or so if its pool listens, otherwise within 1.2 s; ``current_run().interrupt``
        says why, and the result of the run counts. If the pool has not begun the run, or takes the task back first, no
        run begins. A task that has ended is returned unchanged.

        Args:
            task_id: the task's id.
            reason: kept in the row: as the error message, and in ``cancel_request``. 2,000 bytes at most, cut.
            by: who cancels it, for ``cancel_request``; host and pid of this process unless given.
            connection: a connection of the caller's; the run is interrupted when that transaction is committed.

        Returns None if there is no such task. Raises ``UsageError`` for arguments that cannot be used, and
        ``BackendError`` if another transaction has locked the row for 10 s.
        """
        ...

    async def cancel_tasks(
        self,
        which: TaskFilter,
        /,
        reason: str = "",
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: Any = None,
    ) -> int:
        """Cancels all tasks that match the filter, as ``cancel_task`` does; returns how many.

        Tasks in progress whose pools are asked to interrupt them are counted; those that had been asked before are
        not. On Postgres it works in batches, as ``remove_tasks_type`` does, on the tasks that were there when it began.

        Args:
            which: refused without a condition, unless it says ``all_tasks=True``.
            reason, by, connection: as in ``cancel_task``.
            on_progress: called after each batch with the number of tasks so far. An exception from it stops the call.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        ...

    async def retry_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: Any = None,
    ) -> int:
        """Makes all tasks that match the filter run again, and returns how many.

        A task that has ended is new again, as by ``update_task_state``: it is due now at the earliest, and its retries
        start from 0. One that waits for a retry is due now, with the retries that it has left. If the filter names
        neither states nor ids, only failed tasks and those that wait for a retry run again: ask for finished and
        cancelled ones.

        A unique task is left alone while an equal one waits or runs, and of equal ones that match the last one is
        taken. On Postgres it works in batches of at most 500, as ``remove_tasks_type`` does, on the tasks that were
        there when it began; a task that ends once more meanwhile is not taken again. Tasks that other transactions have
        locked at that moment are left alone.

        Args:
            which: refused without a condition, unless it says ``all_tasks=True``.
            by: who asks for it, for the log; host and pid of this process unless given.
            on_progress: called after each batch with the number of tasks so far. An exception from it stops the call.
            connection: a connection of the caller's; then all is part of one transaction.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        ...

    async def remove_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        on_progress: OnProgress | None = None,
        connection: Any = None,
    ) -> int:
        """Removes all tasks that match the filter, in any state, and returns how many.

        Current runs lose their tasks, unless ``states`` of the filter spares them. It works in batches, as
        ``remove_tasks_type`` does, on the tasks that were there when it began. Tasks that other transactions have
        locked at that moment are left alone.

        Args:
            which: refused without a condition, unless it says ``all_tasks=True``.
            on_progress: called after each batch with the number of tasks so far. An exception from it stops the call.
            connection: a connection of the caller's; then all is part of one transaction.

        Raises ``UsageError`` for arguments that cannot be used.
        """
        ...

    async def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """Removes a task in any state, and returns how many were removed: 0 or 1.

        A run that is under way loses its task. The period of a unique task ends, even if its row is gone already.
        """
        ...

    async def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """Removes the unique task that equals this one and waits or runs; returns how many: 0 or 1.

        It does not matter whether its class, ``uniq=`` of its insert or the queue made it unique; the class says which
        fields count. Its period ends too, if it has one. A task that was not inserted as unique is not found by its
        fields: remove it by its id.
        """
        ...

    async def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
    ) -> int:
        """Removes all tasks of a type, in any state, and returns how many.

        On Postgres it works in batches of about a second, and removes the tasks that were there when it began. Without
        ``connection`` each batch is committed by itself: if the call is interrupted, cancelled or fails, finished
        batches stay removed, and the exception has a note that says how many tasks that is.

        Args:
            task_type: the type.
            on_progress: called after each batch with the number of tasks removed so far. An exception from it stops the
                removal.
            connection: a connection of the caller's; then all is part of one transaction.
        """
        ...

    async def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes every task, in any state, and returns how many.

        It works in batches, as ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        ...

    async def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes the tasks that wait for their first run at a later time, and returns how many.

        A task that was run before stays: a retry in backoff, or a snoozed one. It works in batches, as
        ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        ...
