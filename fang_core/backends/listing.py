"""Lists tasks for a backend that looks at all of them for each page, or at all that may match."""

from collections.abc import Iterable

from fang_core.monitoring.listing import Place, TaskPage, cursor_of
from fang_core.record import Task
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.selecting.walks import DESCENDING, place_in, position

_ERROR_SHOWN = 200  # characters


def page_of(tasks: Iterable[Task], which: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
    """Returns a page of the tasks that match. Raises ``UsageError`` for a cursor that is not of this filter."""
    place = place_in(which, cursor)
    if place is None:
        return TaskPage(tasks=(), cursor=None, looked_at=0, stopped=False, looked_to=None)
    walk, behind = place
    is_descending = walk in DESCENDING
    rows = [(position(walk, task), task) for task in tasks if which.matches(task)]
    rows.sort(key=lambda row: row[0].key, reverse=is_descending)
    if behind is not None:
        rows = [row for row in rows if (row[0].key < behind if is_descending else row[0].key > behind)]
    shown = rows[:limit]
    has_more = len(rows) > limit
    return TaskPage(
        tasks=tuple(as_listed(task) for _, task in shown),
        cursor=cursor_of(Place(walk, shown[-1][0].key), which.digest) if has_more else None,
        looked_at=len(shown),
        stopped=False,
        looked_to=shown[-1][0].at if shown else None,
    )


def as_listed(task: Task) -> Task:
    """Returns a task as a page has it."""
    message = task.error_message
    return task._replace(errors=(), error_message=None if message is None else message[:_ERROR_SHOWN])
