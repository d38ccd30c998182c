"""Shows one task: why it does not run, its life, its payload, its attempts; and changes it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from fang_core.lifecycle import TERMINAL_STATES
from fang_core.masking.masks import Masks, masks_of
from fang_core.monitoring.explanation import Explanation
from fang_core.record import Task, TaskState
from fang_core.tasks.registry import REGISTRY
from fang_web.errors import NotFound
from fang_web.figures import Reader, done_by
from fang_web.pages.tasks.many import VERBS
from fang_web.pages.tasks.rows import payload_of
from fang_web.routing import Route, page
from fang_web.view import View

MOST_SHOWN: Final = 100_000
"""Characters of a payload, and of a traceback, on the page."""

WAITING: Final = frozenset({TaskState.NEW, TaskState.RETRIED})


class Moment(NamedTuple):
    """One moment in the life of a task."""

    at: datetime | None
    text: str
    is_bad: bool = False
    is_ahead: bool = False


class Failure(NamedTuple):
    """One failed attempt; ``at`` is None if the row does not say when it was."""

    number: str
    at: datetime | None
    error: str
    traceback: str


async def task(view: View) -> Response:
    """Shows the task of an id."""
    found = await found_task(view)
    reader = Reader(view)
    explanation: Explanation | None = await reader.read("why", view.queue.explain(found.id), None)
    failures = failures_of(found)
    masks = masks_of(found.kind, view.settings.masked)
    return view.render(
        "task.html",
        task=found,
        explanation=explanation,
        unread=reader.unread,
        actions=actions_of(found, view, datetime.now(UTC) if explanation is None else explanation.at),
        moments=life_of(found, failures),
        failures=failures[::-1],
        payload=pretty(masks.beginning(payload_of(found), MOST_SHOWN)),
        headers=Masks(view.settings.masked).masked(found.headers or {}),
        is_known=REGISTRY.get(found.kind) is not None,
        is_over=found.state in TERMINAL_STATES,
        done=await done_by(view),
    )


async def found_task(view: View) -> Task:
    """Returns the task of the address. Raises ``NotFound``."""
    task_id = view.request.path_params["id"]
    found: Task | None = await view.queue.find_task_by_id(task_id)
    if found is None:
        raise NotFound(f"there is no task {task_id}: finished tasks are removed, and so are old ones")
    return found


def actions_of(task: Task, view: View, now: datetime) -> list[str]:
    """Returns what this user can do with the task now, by the backend's clock."""
    actions = []
    is_known = REGISTRY.get(task.kind) is not None
    if view.may("operator"):
        actions += [name for name in ("retry", "cancel") if task.state in VERBS[name].states]
        if is_known and task.state == TaskState.NEW and task.scheduled_at > now:
            actions.append("run")
    if view.may("admin"):
        actions.append("remove")
        if is_known and task.state in WAITING:
            actions.append("edit")
    return actions


def failures_of(task: Task) -> list[Failure]:
    """Returns the failed attempts that the row tells of, the first one first. Anybody may have written the row."""
    return [_failure(each) for each in task.errors if isinstance(each, Mapping)]


def _failure(told: Mapping[str, Any]) -> Failure:
    try:
        at = datetime.fromisoformat(str(told.get("time")))
    except ValueError:
        at = None
    return Failure(
        str(told.get("number", "")),
        at if at is not None and at.tzinfo is not None else None,
        str(told.get("error", "")),
        str(told.get("traceback") or "")[:MOST_SHOWN],
    )


def life_of(task: Task, failures: list[Failure]) -> list[Moment]:
    """Returns the moments of a task's life that its row tells of, in order."""
    moments = [Moment(task.created_at, "inserted")]
    moments += [Moment(each.at, f"attempt {each.number} failed: {each.error}", is_bad=True) for each in failures]
    request = task.cancel_request
    if request is not None:
        moments.append(Moment(_time_of(request), _asked(request), is_bad=True))
    if task.state in WAITING:
        moments.append(Moment(task.scheduled_at, "due" if task.attempt == 0 else "next run due", is_ahead=True))
    if task.claimed_at is not None:
        moments.append(Moment(task.claimed_at, f"attempt {task.attempt} claimed by pool {task.pool_id}"))
    if task.expires_at is not None and task.state in WAITING:
        moments.append(Moment(task.expires_at, "expires", is_ahead=True))
    if task.state in TERMINAL_STATES:
        is_bad = task.state != TaskState.FINISHED
        moments.append(Moment(task.updated_at, f"{task.state} after attempt {task.attempt}", is_bad=is_bad))
    return sorted(moments, key=lambda moment: (moment.at or task.created_at).timestamp())


def _time_of(request: Mapping[str, Any]) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(request.get("at")))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _asked(request: Mapping[str, Any]) -> str:
    reason = request.get("reason")
    return f"{request.get('by')} asked to cancel it" + (f": {reason}" if reason else "")


def pretty(value: Any) -> str:
    """Returns JSON for people, cut where a page would grow too long."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "\n… cut here"


ROUTES: Final[list[Route]] = [page("/tasks/{id:uuid}", task)]
