"""Shows one task: why it does not run, its life, its payload, its attempts; and changes it."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from fang_core.errors import UnreadablePayload
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.masking.keys import shown_key, without_key
from fang_core.masking.masks import Masks, masks_of
from fang_core.monitoring.explanation import Explanation
from fang_core.record import DEFAULT_MAX_RETRIES, Task, TaskState, payload_of
from fang_core.tasks.life import failed_attempts, life
from fang_core.tasks.registry import REGISTRY
from fang_core.tasks.selecting.filter import TaskFilter
from fang_web.errors import NotFound
from fang_web.figures import Reader, done_by
from fang_web.pages.tasks.many import VERBS
from fang_web.routing import Route, page
from fang_web.view import View

MOST_SHOWN: Final = 100_000
"""Characters of a payload, and of a traceback, on the page."""


async def task(view: View) -> Response:
    """Shows the task of an id."""
    found, is_readable = await _shown_task(view)
    reader = Reader(view)
    explanation: Explanation | None = await reader.read("why", view.queue.explain(found.id), None)
    masks = masks_of(found.kind, view.settings.masked)
    return view.render(
        "task.html",
        task=found,
        key=shown_key(found, masks),
        explanation=None if explanation is None else without_key(explanation, masks),
        unread=reader.unread,
        actions=actions_of(found, view, datetime.now(UTC) if explanation is None else explanation.at, is_readable),
        is_readable=is_readable,
        moments=life(found),
        failures=failed_attempts(found)[::-1],
        payload=pretty(masks.beginning(payload_of(found.metadata), MOST_SHOWN)),
        headers=Masks(view.settings.masked).masked(found.headers or {}),
        is_known=REGISTRY.get(found.kind) is not None,
        most_retries=DEFAULT_MAX_RETRIES if found.max_retries is None else found.max_retries,
        most_shown=MOST_SHOWN,
        is_over=found.state in TERMINAL_STATES,
        done=await done_by(view),
    )


async def _shown_task(view: View) -> tuple[Task, bool]:
    """Returns the task of the address, and whether all of its row can be read; if not, the rest of it."""
    try:
        return await found_task(view), True
    except UnreadablePayload:
        listed = await view.queue.list_tasks(TaskFilter(ids=[view.request.path_params["id"]]), limit=1)
        if not listed.tasks:
            raise
        return listed.tasks[0], False


async def found_task(view: View) -> Task:
    """Returns the task of the address. Raises ``NotFound``."""
    task_id = view.request.path_params["id"]
    found: Task | None = await view.queue.find_task_by_id(task_id)
    if found is None:
        raise NotFound(f"there is no task {task_id}: finished tasks are removed, and so are old ones")
    return found


def actions_of(task: Task, view: View, now: datetime, is_readable: bool) -> list[str]:
    """Returns what this user can do with the task now, by the backend's clock."""
    actions = []
    # The class says what of a unique task is compared, and how the key of a limited one is made.
    can_write = is_readable and (REGISTRY.get(task.kind) is not None or not (task.uniq_hash is not None or task.lane))
    if view.may("operator"):
        actions += [name for name in ("retry", "cancel") if task.state in VERBS[name].states]
        if can_write and task.state == TaskState.NEW and task.scheduled_at > now:
            actions.append("run")
    if view.may("admin"):
        actions.append("remove")
        if can_write and task.state in DUE_STATES:
            actions.append("edit")
    return actions


def pretty(value: Any) -> str:
    """Returns JSON for people, cut if a page would grow too long."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "\n… cut here"


ROUTES: Final[list[Route]] = [page("/tasks/{id:uuid}", task)]
