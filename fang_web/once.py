"""Forms that bring the id of the task that they insert: sending one twice, as by a double click, inserts one."""

from typing import Final
from uuid import UUID

from uuid_utils import uuid7

from fang_core.record import Task
from fang_web.view import View

_LATEST: Final = 50
"""How many of the latest changes are looked at: the second click comes at once."""


def new_task_id() -> UUID:
    """Returns the id of the task that a form inserts."""
    return UUID(int=uuid7().int)


async def is_sent_already(view: View, id: UUID) -> bool:
    """Returns whether a form with this id has inserted its task. That may have run, and its row be gone, since then: so
    the audit's entry for the form counts, besides the id of the row."""
    said = inserted(id)
    return any(entry.result == said for entry in await view.queue.audit.list(limit=_LATEST))


def inserted(id: UUID) -> str:
    """Returns what came of a form that has inserted its task."""
    return f"inserted {id}"


def sent_already(id: UUID) -> str:
    """Returns what came of a form that had inserted its task before."""
    return f"sent already: task {id}"


def came_of(task: Task, id: UUID) -> str:
    """Returns what came of a form: an insert has returned this task."""
    if not task.conflict:
        return inserted(id)
    return sent_already(id) if task.id == id else f"an equal task was there: {task.id}"
