"""Sets a waiting task aside, so that no pool runs it while it is moved from one queue to another. Pure."""

import json
from datetime import UTC, datetime
from typing import Final, NamedTuple

from fang_core.errors import UsageError
from fang_core.record import Task, as_time
from fang_core.words.stored_json import from_json

ASIDE: Final = "fang:aside"
"""The task type of tasks that are set aside."""

MARK: Final = "fang:aside"
"""The header of a task that is set aside."""

_DUE: Final = datetime(9999, 12, 29, tzinfo=UTC)
"""When it is due: the latest time that backends keep."""


class Route(NamedTuple):
    """Names the two queues for people, and for the header: without passwords."""

    source: str
    target: str


def set_aside(task: Task, route: Route) -> Task:
    """Returns a waiting task as it is while it is set aside."""
    mark = {"type": task.task_type, "due": task.scheduled_at.isoformat(), "from": route.source, "to": route.target}
    headers = {**(task.headers or {}), MARK: json.dumps(mark)}
    return task._replace(task_type=ASIDE, scheduled_at=_DUE, headers=headers)


def released(task: Task) -> Task:
    """Returns a task that is set aside as it was before. Raises ``UsageError`` if its header does not say that."""
    task_type, due, _ = _marked(task)
    headers = {name: text for name, text in (task.headers or {}).items() if name != MARK}
    return task._replace(task_type=task_type, scheduled_at=due, headers=headers or None)


def route_of(task: Task) -> Route:
    """Returns the way that a task goes. Raises ``UsageError`` if its header does not say that."""
    return _marked(task)[2]


def _marked(task: Task) -> tuple[str, datetime, Route]:
    try:
        mark = from_json((task.headers or {})[MARK])
        due = as_time(mark["due"])
        task_type, route = str(mark["type"]), Route(str(mark["from"]), str(mark["to"]))
    except (KeyError, TypeError, ValueError):
        due = None
    if due is None:
        raise UsageError(f"task {task.id} is set aside, and its header {MARK} does not say what it was: remove it")
    return task_type, due, route
