"""Defines which tasks a call for many tasks is about."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from fang_core.errors import UsageError
from fang_core.record import Task, TaskState
from fang_core.tasks.arguments import checked_headers, checked_id, checked_moment
from fang_core.words.naming import names_arguments
from fang_core.words.stored_json import from_json
from fang_core.words.texts import is_storable

SHORTEST_ERROR: Final = 3
"""The fewest characters of a text that is searched for: a shorter one is in too many messages to be of use."""

MOST_SEARCHED: Final = 2_000
"""The most characters of such a text: error messages have 2,000 bytes at most."""

MOST_PAYLOAD: Final = 8_192
"""The most bytes of the JSON that payloads are compared with."""

_MOMENTS: Final = (
    *("inserted_before", "inserted_after", "updated_before", "updated_after", "due_before", "due_after"),
)


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Says which tasks a call is about: those for which all of the given conditions hold.

    A condition with several values holds for a task that has one of them; an empty one holds for no task. A call that
    changes many tasks refuses a filter without conditions, unless it says ``all_tasks=True``.

    Attributes:
        kinds: the names under which the tasks' classes are registered; one name, or several.
        task_types: one task type, or several.
        states: one state, or several.
        ids: ids of tasks.
        headers: a task has all of these headers, with these values.
        inserted_before, inserted_after: the task was inserted before this time, or at it or later; with a time zone.
        updated_before, updated_after: the same for the last change of its row; for an ended task, when it ended.
        due_before, due_after: the same for its due time.
        error: its error message has this text, of at least 3 characters; capital letters and small ones differ.
        payload: its payload has all of these fields, with these values. An object has to have all of the given one's
            keys, a list all of its items; ``{"items": [{"sku": "A7"}]}`` finds an order that has this item.
        pool_ids: one of these pools holds it, so that it is in progress.
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
    updated_before: datetime | None = None
    updated_after: datetime | None = None
    due_before: datetime | None = None
    due_after: datetime | None = None
    error: str | None = None
    payload: Mapping[str, Any] | None = None
    pool_ids: Collection[UUID] | None = None
    all_tasks: bool = False

    def __post_init__(self) -> None:
        self._set("kinds", _names("kinds", self.kinds))
        self._set("task_types", _names("task_types", self.task_types))
        self._set("states", _states(self.states))
        self._set("ids", None if self.ids is None else _several("ids", self.ids, checked_id))
        self._set("headers", _headers(self.headers))
        self._set("error", _searched(self.error))
        self._set("payload", _payload(self.payload))
        self._set("pool_ids", None if self.pool_ids is None else _several("pool_ids", self.pool_ids, checked_id))
        for name in _MOMENTS:
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
        """Returns whether there are no conditions."""
        return all(getattr(self, name) is None for name in CONDITIONS)

    @property
    def digest(self) -> str:
        """A short text that differs from that of every other filter, but not from an equal one's."""
        text = json.dumps({name: _plain(getattr(self, name)) for name in CONDITIONS}, sort_keys=True)
        return sha256(text.encode()).hexdigest()[:16]

    def matches(self, task: Task) -> bool:
        """Returns whether all conditions hold for the task."""
        has_one = (
            (self.kinds, task.kind),
            (self.task_types, task.task_type),
            (self.states, task.state),
            (self.ids, task.id),
            (self.pool_ids, task.pool_id),
        )
        ranges = (
            (self.inserted_after, task.created_at, self.inserted_before),
            (self.updated_after, task.updated_at, self.updated_before),
            (self.due_after, task.scheduled_at, self.due_before),
        )
        headers = task.headers or {}
        return (
            all(values is None or value in values for values, value in has_one)
            and all(
                (after is None or moment >= after) and (before is None or moment < before)
                for after, moment, before in ranges
            )
            and (self.headers is None or all(headers.get(name) == text for name, text in self.headers.items()))
            and (self.error is None or self.error in (task.error_message or ""))
            and (self.payload is None or contains(task.metadata, self.payload))
        )


CONDITIONS: Final = tuple(name for name in TaskFilter.__annotations__ if name != "all_tasks")
"""The names of the conditions."""


def any_filter(which: TaskFilter) -> TaskFilter:
    """Returns the filter of a call that changes nothing. Raises ``UsageError`` if it is none."""
    if not isinstance(which, TaskFilter):
        raise UsageError(f"give a TaskFilter, not {type(which).__name__}")
    return which


def checked_filter(which: TaskFilter) -> TaskFilter:
    """Returns the filter of a call that changes many tasks. Raises ``UsageError`` if it may be meant for fewer."""
    if any_filter(which).is_empty and not which.all_tasks:
        raise UsageError("the filter has no condition: give one, or TaskFilter(all_tasks=True) for every task")
    return which


def retried_filter(which: TaskFilter) -> TaskFilter:
    """Returns the filter of a call that has tasks run again; if it does not say which, of those that have failed.

    Raises ``UsageError`` like ``checked_filter``.
    """
    if checked_filter(which).states is not None or which.ids is not None:
        return which
    return replace(which, states=(TaskState.FAILED, TaskState.RETRIED), all_tasks=False)


def _headers(values: Any) -> dict[str, str] | None:
    if values is None:
        return None
    if not isinstance(values, Mapping) or not values:
        raise UsageError("TaskFilter: headers must be a dict that names at least one header")
    return checked_headers(dict(values))


def _searched(text: Any) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise UsageError(f"TaskFilter: error must be one text, as str, not {type(text).__name__}")
    if not SHORTEST_ERROR <= len(text) <= MOST_SEARCHED:
        raise UsageError(f"TaskFilter: error must have between {SHORTEST_ERROR} and {MOST_SEARCHED} characters")
    _check_storable("error", text)
    return text


def _payload(values: Any) -> dict[str, Any] | None:
    if values is None:
        return None
    if not isinstance(values, Mapping) or not values:
        raise UsageError("TaskFilter: payload must be a dict that names at least one field")
    try:
        text = json.dumps(dict(values), allow_nan=False, ensure_ascii=False)
        read: dict[str, Any] = from_json(text)  # a copy, as the backend reads it; no payload is nested more deeply
    except (TypeError, ValueError, RecursionError):
        raise UsageError(
            "TaskFilter: payload must be what JSON can hold: dicts, lists, str, int, float, bool"
        ) from None
    for each in _texts_in(read):
        _check_storable("payload", each)
    if len(text.encode()) > MOST_PAYLOAD:
        raise UsageError(f"TaskFilter: payload must have {MOST_PAYLOAD} bytes at most, as JSON")
    return read


def _check_storable(name: str, text: str) -> None:
    if "\0" in text:
        raise UsageError(f"TaskFilter: {name} must not have NUL characters, which no task has")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"TaskFilter: {name} must not have lone surrogates, which no task has") from None


def _texts_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            yield from value
            yield from _texts_in(list(value.values()))
        case list():
            for each in value:
                yield from _texts_in(each)


def contains(whole: Any, part: Any) -> bool:
    """Returns whether a JSON value has another one in it, as the operator ``@>`` of Postgres has it.

    An object has all keys of the other one, a list all of its items, in any order.
    """
    match whole, part:
        case Mapping(), Mapping():
            return all(key in whole and contains(whole[key], value) for key, value in part.items())
        case list() | tuple(), list() | tuple():
            return all(any(contains(each, wanted) for each in whole) for wanted in part)
        case Mapping() | list() | tuple(), _:
            return False
        case _, Mapping() | list() | tuple():
            return False
    return isinstance(whole, bool) is isinstance(part, bool) and bool(whole == part)


def _plain(value: Any) -> Any:
    """Returns a condition as JSON, the same for equal ones."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case tuple():
            return sorted(map(str, value))
    return value


def _names(name: str, values: object) -> tuple[str, ...] | None:
    if values is None:
        return None
    return _several(name, [values] if isinstance(values, str) else values, _checked_name)


def _checked_name(value: object, name: str) -> str:
    if not isinstance(value, str) or not is_storable(value):
        raise UsageError(f"TaskFilter: {name} must be names, as str without NUL characters and lone surrogates")
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
        or_one = "" if name in {"ids", "pool_ids"} else "a name, or "
        raise UsageError(f"TaskFilter: {name} must be {or_one}a list, a tuple or a set, not {given}")
    return tuple(dict.fromkeys(check(value, name) for value in values))


ANY_TASK: Final = TaskFilter()
"""The filter without conditions, of calls that change nothing."""
