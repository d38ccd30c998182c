"""What applications and runs see of a queue, in both colours and in domain terms: no word of SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from uuid import UUID

from fang_core.record import DEFAULT_TASK_TYPE, Task, TaskState
from fang_core.removal import OnProgress

if TYPE_CHECKING:
    from fang_core.runnable import BaseRunnable


@runtime_checkable
class Queueable(Protocol):
    """What every queue for threaded code offers. Runs are handed one."""

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
                writes.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was sent.
            UsageError: an argument cannot be used; nothing was sent.
            IdInUse: a task with other fields has this id.
            NotConnected: the backend cannot be reached; nothing was sent.
            OutcomeUnknown: the connection broke before the reply came: the task may be there, or not.
            BackendError: the backend refused, or failed: nothing was written.
        """
        ...

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
        """Inserts many tasks, all or none, and returns their rows in the order given.

        The options are those of ``insert_task`` but for ``id``, and hold for all of the tasks.

        Raises what ``insert_task`` raises. Some tasks may be on their way when another one turns out bad, and are
        rolled back; with ``connection`` nothing is sent before all of them are known to be good.
        """
        ...

    def schedule_task(self, task: BaseRunnable, /, *, connection: Any = None) -> Task:
        """Inserts a task of a class with ``cron`` for the next tick of its schedule, and returns its row.

        A tick is inserted once: if its task is there already, that one is returned with ``conflict`` true. So is an
        equal unique task that waits or runs; nothing is written then, and a pool inserts the tick when its time comes.

        Raises ``UsageError`` if the class has no ``cron``, or its schedule has no tick left; otherwise like
        ``insert_task``.
        """
        ...

    def complete(self, *, connection: Any) -> None:
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

    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """Returns the row as it is now, or None if there is none.

        Raises ``UnreadablePayload`` for JSON that Python cannot read.
        """
        ...

    def fetch_and_touch_task(self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None) -> Task | None:
        """Claims the first due task of a type, of any kind, for this queue; returns None if no task is due.

        The caller does the work, and ends the task with ``update_task_state``, ``fail_task``, ``schedule_retry`` or
        ``remove_task``.
        """
        ...

    def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
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

    def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """Fails a task by hand, whatever retries are left, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        ...

    def schedule_retry(self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None) -> Task:
        """Charges a failure to a task in progress, has it run again after ``backoff``, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        ...

    def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """Removes a task in whatever state, and returns how many were removed: 0 or 1.

        A run that is under way loses its task.
        """
        ...

    def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """Removes the unique task that equals this one and waits or runs; returns how many: 0 or 1.

        It does not matter whether its class, ``uniq=`` of its insert or the queue made it unique. A task that was not
        inserted as unique is not found by its fields: remove it by its id.
        """
        ...

    def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
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
        ...

    def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes every task, in whatever state, and returns how many.

        It works in batches, as ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        ...

    def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes the tasks that wait for their first run at a later time, and returns how many.

        A task that was run before stays: a retry in backoff, or a snoozed one. It works in batches, as
        ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        ...


@runtime_checkable
class AsyncQueueable(Protocol):
    """What every queue for asyncio code offers. Runs are handed one."""

    async def insert_task(
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
                writes.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was sent.
            UsageError: an argument cannot be used; nothing was sent.
            IdInUse: a task with other fields has this id.
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
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        uniq: bool | None = None,
        connection: Any = None,
    ) -> list[Task]:
        """Inserts many tasks, all or none, and returns their rows in the order given.

        The options are those of ``insert_task`` but for ``id``, and hold for all of the tasks.

        Raises what ``insert_task`` raises. Some tasks may be on their way when another one turns out bad, and are
        rolled back; with ``connection`` nothing is sent before all of them are known to be good.
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
        """Claims the first due task of a type, of any kind, for this queue; returns None if no task is due.

        The caller does the work, and ends the task with ``update_task_state``, ``fail_task``, ``schedule_retry`` or
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

    async def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """Fails a task by hand, whatever retries are left, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        ...

    async def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None
    ) -> Task:
        """Charges a failure to a task in progress, has it run again after ``backoff``, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        ...

    async def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """Removes a task in whatever state, and returns how many were removed: 0 or 1.

        A run that is under way loses its task.
        """
        ...

    async def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """Removes the unique task that equals this one and waits or runs; returns how many: 0 or 1.

        It does not matter whether its class, ``uniq=`` of its insert or the queue made it unique. A task that was not
        inserted as unique is not found by its fields: remove it by its id.
        """
        ...

    async def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
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
        ...

    async def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes every task, in whatever state, and returns how many.

        It works in batches, as ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        ...

    async def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes the tasks that wait for their first run at a later time, and returns how many.

        A task that was run before stays: a retry in backoff, or a snoozed one. It works in batches, as
        ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        ...
