"""Defines which tasks a call for many tasks is about."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fang_core.errors import UsageError
from fang_core.naming import names_arguments
from fang_core.record import Task, TaskState
from fang_core.tasks.arguments import checked_headers, checked_id, checked_moment


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Says which tasks a call is about: those for which all of the given conditions hold.

    A condition with several values holds for a task that has one of them, and for no task if it is empty. A call that
    changes many tasks refuses a filter without conditions, unless it says ``all_tasks=True``.

    Attributes:
        kinds: the names under which the tasks' classes are registered; one name, or several.
        task_types: one task type, or several.
        states: one state, or several.
        ids: ids of tasks.
        headers: a task has all of these headers, with these values.
        inserted_before, inserted_after: the task was inserted before this time, or at it or later; with a time zone.
        all_tasks: every task; cannot be given together with a condition.

    Raises ``UsageError`` for values that no task can have.
    """

    kinds: str | Collection[str] | None = None
    task_types: str | Collection[str] | None = None
    states: TaskState | Collection[TaskState] | None = None
    ids: Collection[UUID] | None = None
    headers: Mapping[str, str] | None = None
    inserted_before: datetime | None = None
    inserted_after: datetime | None = None
    all_tasks: bool = False

    def __post_init__(self) -> None:
        self._set("kinds", _names("kinds", self.kinds))
        self._set("task_types", _names("task_types", self.task_types))
        self._set("states", _states(self.states))
        self._set("ids", None if self.ids is None else _several("ids", self.ids, checked_id))
        self._set("headers", _headers(self.headers))
        for name in ("inserted_before", "inserted_after"):
            if getattr(self, name) is not None:
                checked_moment(name, getattr(self, name))
        if not isinstance(self.all_tasks, bool):
            raise UsageError("TaskFilter: all_tasks must be True or False")
        if self.all_tasks and not self.is_empty:
            raise UsageError("TaskFilter: all_tasks cannot be given together with a condition")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def is_empty(self) -> bool:
        """Whether there are no conditions."""
        return all(getattr(self, name) is None for name in CONDITIONS)

    def matches(self, task: Task) -> bool:
        """Returns whether all conditions hold for the task."""
        has_one = (
            (self.kinds, task.kind),
            (self.task_types, task.task_type),
            (self.states, task.state),
            (self.ids, task.id),
        )
        headers = task.headers or {}
        return (
            all(values is None or value in values for values, value in has_one)
            and (self.headers is None or all(headers.get(name) == text for name, text in self.headers.items()))
            and (self.inserted_before is None or task.created_at < self.inserted_before)
            and (self.inserted_after is None or task.created_at >= self.inserted_after)
        )


CONDITIONS: Final = tuple(name for name in TaskFilter.__annotations__ if name != "all_tasks")
"""The names of the conditions."""


def checked_filter(which: TaskFilter) -> TaskFilter:
    """Returns the filter of a call that changes many tasks. Raises ``UsageError`` if it may be meant for fewer."""
    if not isinstance(which, TaskFilter):
        raise UsageError(f"give a TaskFilter, not {type(which).__name__}")
    if which.is_empty and not which.all_tasks:
        raise UsageError("the filter has no condition: give one, or TaskFilter(all_tasks=True) for every task")
    return which


def _headers(values: Any) -> dict[str, str] | None:
    if values is None:
        return None
    if not isinstance(values, Mapping) or not values:
        raise UsageError("TaskFilter: headers must be a dict that names at least one header")
    return checked_headers(dict(values))


def _names(name: str, values: object) -> tuple[str, ...] | None:
    if values is None:
        return None
    return _several(name, [values] if isinstance(values, str) else values, _checked_name)


def _checked_name(value: object, name: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise UsageError(f"TaskFilter: {name} must be names, as str without NUL characters")
    return value


def _states(values: object) -> tuple[TaskState, ...] | None:
    if values is None:
        return None
    return _several("states", [values] if isinstance(values, str) else values, _checked_state)


def _checked_state(value: Any, name: str) -> TaskState:
    try:
        return TaskState(value)
    except ValueError:
        raise UsageError(f"TaskFilter: {name} must be states of tasks, such as {', '.join(TaskState)}") from None


def _several(name: str, values: Any, check: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    """Returns the checked values without repetitions, in the given order."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Collection):
        given = f"the class {values.__name__}" if isinstance(values, type) else type(values).__name__
        or_one = "" if name == "ids" else "a name, or "
        raise UsageError(f"TaskFilter: {name} must be {or_one}a list, a tuple or a set, not {given}")
    return tuple(dict.fromkeys(check(value, name) for value in values))
