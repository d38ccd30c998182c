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
    """A queue for threaded code."""

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
            task: of either mode; a worker of its mode runs it.
            priority: -2 (first) to 2 (last), instead of the class's.
            scheduled_at: not before this time, which needs a zone.
            delay: not before this long from now, by the database's clock; not together with ``scheduled_at``.
            task_type: instead of the class's.
            max_retries: instead of the class's.
            uniq: instead of the class's. Where an equal unique task is waiting or running nothing is written, and that
                one is returned, its ``conflict`` being true.
            id: of the new row, so that an insert can be repeated whose reply was lost: where the row is there already
                with the same fields it is returned, its ``conflict`` being true.
            connection: the caller's own; the task then commits or rolls back with what else the caller does there.

        Raises:
            PayloadError: a field cannot be stored; nothing was sent.
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
        """Inserts many, all or none, and returns their rows in the order given. Options hold for all of them.

        Some may be on their way when another one turns out bad, unless ``connection=`` is given: then nothing stands.
        """
        ...

    def schedule_task(self, task: BaseRunnable, /, *, connection: Any = None) -> Task:
        """Inserts a task of a class with ``cron`` for the next tick of its schedule.

        A tick is inserted once: where somebody did it before, that task is returned, its ``conflict`` being true. So is
        an equal unique task that waits or runs; nothing is written then, and a pool does the tick when its time comes.
        Raises ``UsageError`` for a class without ``cron``, and where no tick is left.
        """
        ...

    def complete(self, *, connection: Any) -> None:
        """Inside of a run: marks its task finished in the caller's transaction.

        What the run writes in that transaction and its completion then commit together or not at all: the effect is
        there once, whatever dies when. The transaction is the last thing that a run does; after a rollback and a normal
        return the task is finished as usual.

        Raises:
            TaskLost: this run no longer holds its task. The statement has failed in the database, so that the
                transaction, or the savepoint, can only be rolled back.
            NotInRun: there is no run.
            UsageError: the connection is in autocommit, where nothing could be rolled back.
        """
        ...

    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """The row as it is now, or None. Raises ``UnreadablePayload`` for JSON that Python cannot read."""
        ...

    def fetch_and_touch_task(self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None) -> Task | None:
        """Claims the first due task of a type, of any kind, for this queue; None where there is none.

        The caller does its work, and ends it with ``update_task_state``, ``fail_task``, ``schedule_retry`` or
        ``remove_task``.
        """
        ...

    def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
        """Moves a task by hand, if its row still is as it was read; returns the new row.

        ``lifecycle.BY_HAND`` says where to. A finished, failed or cancelled one that is made new begins its life again:
        with no retries charged, due now at the earliest. A run that is under way is lost.

        Raises:
            UsageError: there is no such move.
            StaleTask: the row was changed or removed meanwhile.
            TwinExists: a unique task cannot be revived, since an equal one is waiting or running. Where another is
                being revived at that very moment, the caller's own ``connection`` fails with the database's error.
        """
        ...

    def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """Fails a task by hand, whatever retries are left; otherwise like ``update_task_state``."""
        ...

    def schedule_retry(self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None) -> Task:
        """Charges a failure of a task in progress; it is due again after ``backoff``.

        Otherwise like ``update_task_state``.
        """
        ...

    def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """Removes a task in whatever state; a run of it that is under way is lost. How many were there: 0 or 1."""
        ...

    def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """Removes the unique task that equals this one and is waiting or running; how many: 0 or 1.

        It does not matter what made it unique: its class, ``uniq=`` of its insert, or the queue. One that was not
        inserted as unique is not found by its fields, but by its id.
        """
        ...

    def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
    ) -> int:
        """Removes all tasks of a type, in whatever state; how many.

        On Postgres it works in batches of about a second, and goes on for as long as there are tasks that were there
        when it began. Without ``connection`` each batch is committed by itself: if the call is interrupted, cancelled
        or fails, what is done stays done, and the exception has a note of how many were removed.

        Args:
            task_type: the type.
            on_progress: called after each batch with the number of tasks removed so far. What it raises stops the
                removal.
            connection: the caller's own; then all is part of one transaction.
        """
        ...

    def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes every task, in whatever state; how many. See ``remove_tasks_type``."""
        ...

    def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes the tasks that wait for their first run at a later time; how many. See ``remove_tasks_type``.

        A retry in backoff and a snoozed task are no such ones, and stay.
        """
        ...


@runtime_checkable
class AsyncQueueable(Protocol):
    """A queue for asyncio code; see ``Queueable``."""

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
        """See ``Queueable.insert_task``."""
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
        """See ``Queueable.insert_tasks``."""
        ...

    async def schedule_task(self, task: BaseRunnable, /, *, connection: Any = None) -> Task:
        """See ``Queueable.schedule_task``."""
        ...

    async def complete(self, *, connection: Any) -> None:
        """See ``Queueable.complete``."""
        ...

    async def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        ...

    async def fetch_and_touch_task(
        self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None
    ) -> Task | None:
        """See ``Queueable.fetch_and_touch_task``."""
        ...

    async def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
        """See ``Queueable.update_task_state``."""
        ...

    async def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """See ``Queueable.fail_task``."""
        ...

    async def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None
    ) -> Task:
        """See ``Queueable.schedule_retry``."""
        ...

    async def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_task``."""
        ...

    async def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_task_by_metadata``."""
        ...

    async def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
    ) -> int:
        """See ``Queueable.remove_tasks_type``."""
        ...

    async def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """See ``Queueable.remove_all_tasks``."""
        ...

    async def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """See ``Queueable.remove_all_scheduled_tasks``."""
        ...
