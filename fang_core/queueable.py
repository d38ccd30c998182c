"""What applications and runs see of a queue, in both colours and in domain terms: no word of SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from fang_core.record import Task

if TYPE_CHECKING:
    from fang_core.runnable import BaseRunnable


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
            connection: the caller's own; the task then commits or rolls back with what else the caller does there.

        Raises:
            PayloadError: a field cannot be stored; nothing was sent.
            UsageError: an argument cannot be used; nothing was sent.
            OutcomeUnknown: the connection broke while committing.
            BackendError: the backend refused, or does not answer.
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
        connection: Any = None,
    ) -> list[Task]:
        """Inserts many, all or none, and returns their rows in the order given. Options hold for all of them."""
        ...

    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """The row as it is now, or None."""
        ...


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
        connection: Any = None,
    ) -> list[Task]:
        """See ``Queueable.insert_tasks``."""
        ...

    async def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        ...
