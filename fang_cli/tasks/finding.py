"""Finds tasks for commands: says that one is not there, and looks for several for as long as a person waits."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from fang_core.errors import FangError
from fang_core.record import Task

if TYPE_CHECKING:
    from fang_backends.queues import OwnQueue
    from fang_core.monitoring.listing import TaskPage
    from fang_core.tasks.selecting.filter import TaskFilter

_LOOKS_FOR: Final = 1.0
"""Seconds after which no further page is begun."""


class NoSuchTask(FangError):
    """Raised when there is no task with the id that a command was given."""


def found_task(task: Task | None, task_id: UUID) -> Task:
    """Returns the task. Raises ``NoSuchTask`` if there is none."""
    if task is None:
        raise NoSuchTask(f"there is no task {task_id}: it was removed, as finished tasks are, or never inserted")
    return task


def found_page(
    queue: "OwnQueue",
    which: "TaskFilter",
    limit: int,
    cursor: str | None,
    clock: Callable[[], float] = time.monotonic,
) -> "TaskPage":
    """Returns a page, made of several if those stop before they are full.

    The first of them hardly looks at anything: a process that has just begun spends the time for a page on its
    connection and on making the statements.
    """
    until = clock() + _LOOKS_FOR
    page = queue.list_tasks(which, limit=limit, cursor=cursor)
    while page.stopped and page.cursor is not None and len(page.tasks) < limit and clock() < until:
        more = queue.list_tasks(which, limit=limit - len(page.tasks), cursor=page.cursor)
        page = replace(
            more,
            tasks=page.tasks + more.tasks,
            looked_at=page.looked_at + more.looked_at,
            looked_to=more.looked_to or page.looked_to,
        )
    return page
