"""Says that a task is not there."""

from uuid import UUID

from fang_core.errors import FangError
from fang_core.record import Task


class NoSuchTask(FangError):
    """Raised when there is no task with the id that a command was given."""


def found_task(task: Task | None, task_id: UUID) -> Task:
    """Returns the task. Raises ``NoSuchTask`` if there is none."""
    if task is None:
        raise NoSuchTask(f"there is no task {task_id}: it was removed, as finished tasks are, or never inserted")
    return task
