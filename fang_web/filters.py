"""Reads which tasks a page is about from its parameters, and writes the parameters that say the same.

Lengths of time are relative to now, and become times at once: a cursor, a preview and the change that follows it are
all about the same filter.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from fang_core.errors import UsageError
from fang_core.masking.masks import Masks, masks_of, masks_of_all
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.words.naming import meant
from fang_core.words.spans import length_of
from fang_web.errors import BadRequest
from fang_web.parameters import Parameters, checked_uuid

TIMES: Final[Mapping[str, str]] = {"inserted": "inserted", "updated": "changed", "due": "due"}
"""The times of a task by which it can be filtered, as the filter calls them, and as the page does."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tasks that a page is about.

    Attributes:
        which: the filter.
        query: the parameters that say the same, with times instead of lengths of time.
        words: the conditions, for people.
    """

    which: TaskFilter
    query: Mapping[str, Any]
    words: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Returns whether there is no condition."""
        return self.which.is_empty

    @property
    def target(self) -> str:
        """Returns the conditions without payloads: for the audit, which outlives the tasks."""
        if self.which.payload is None:
            return ", ".join(self.words)
        return ", ".join([*self.words[:-1], f"whose payload has certain {', '.join(self.which.payload)}"])


@dataclass(slots=True)
class _Choosing:
    conditions: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def add(self, said: tuple[str, Any], wanted: tuple[str, Any], words: str) -> None:
        """Adds a condition: the parameter that says it, the filter's, and the words."""
        self.query[said[0]] = said[1]
        self.conditions[wanted[0]] = wanted[1]
        self.words.append(words)


_CONDITIONS: Final = (
    *("state", "task_type", "kind", "id", "pool", "error", "header", "payload", "of", "newer", "older"),
    *(f"{name}_{end}" for name in TIMES for end in ("after", "before")),
)


def chosen(parameters: Parameters, masked: frozenset[str], now: datetime, besides: Collection[str] = ()) -> Chosen:
    """Returns what the parameters choose. Raises ``BadRequest``, also if they search in what is masked.

    It also does if there is a parameter that is neither a condition nor one of ``besides``: without a condition that
    the user relies on, the page would show more tasks than were meant, and the change that follows would affect them.
    """
    for name in parameters:
        if name not in _CONDITIONS and name not in besides:
            raise BadRequest(f"{name!r:.60} is no condition{meant(name, _CONDITIONS)}")
    choosing = _Choosing()
    _states(parameters, choosing)
    for name, condition, words in (
        ("task_type", "task_types", "of the type {}"),
        ("kind", "kinds", "of the kind {}"),
    ):
        text = parameters.text(name, most=500)
        if text:
            choosing.add((name, text), (condition, (text,)), words.format(text))
    for name, condition, words in (("id", "ids", "with the id {}"), ("pool", "pool_ids", "held by the pool {}")):
        ids = _ids(parameters, name)
        if ids:
            text = " ".join(map(str, ids))
            choosing.add((name, text), (condition, ids), words.format(text))
    _times(parameters, choosing, now)
    _headers(parameters, choosing, Masks(masked))
    error = parameters.text("error", most=500)
    if error:
        choosing.add(("error", error), ("error", error), f"whose error contains “{error}”")
    _payload(parameters, choosing, masked)  # the last one: see Chosen.target
    try:
        which = TaskFilter(**choosing.conditions)
    except UsageError as refused:
        raise BadRequest(str(refused).removeprefix("TaskFilter: ")) from None
    return Chosen(which, choosing.query, tuple(choosing.words))


def in_states(choice: Chosen, states: Collection[TaskState]) -> Chosen:
    """Returns those of the chosen tasks that are in one of these states."""
    if choice.which.states is None and set(states) == set(TaskState):
        return choice
    wanted = [state for state in TaskState if state in states and state in (choice.which.states or states)]
    return replace(choice, which=replace(choice.which, states=wanted), query={**choice.query, "state": wanted})


def until(query: Mapping[str, Any], name: str, moment: datetime) -> dict[str, Any]:
    """Returns the parameters with one more, such as ``updated_before``: only tasks from before this moment."""
    times = [moment.astimezone(UTC)]
    if name in query:
        times.append(datetime.fromisoformat(query[name]))
    return {**query, name: min(times).isoformat()}


def _states(parameters: Parameters, choosing: _Choosing) -> None:
    states = [state for state in parameters.texts("state", many=len(TaskState) + 1) if state]
    for state in states:
        if state not in set(TaskState):
            raise BadRequest(f"state is one of {', '.join(TaskState)}")
    if states:
        choosing.add(("state", states), ("states", states), " or ".join(states).replace("_", " "))


def _ids(parameters: Parameters, name: str) -> tuple[UUID, ...]:
    texts = parameters.text(name, most=5_000).replace(",", " ").split()
    if len(texts) > 100:
        raise BadRequest(f"{name} has 100 ids at most")
    return tuple(checked_uuid(text, name) for text in texts)


def _times(parameters: Parameters, choosing: _Choosing, now: datetime) -> None:
    """Reads ``inserted_after=2026-11-29T08:00Z`` and the like, or ``of=inserted`` with ``newer=1h``."""
    of = parameters.choice("of", TIMES, default="inserted")
    for name, said in TIMES.items():
        for end, relative, words in (("after", "newer", "{} at {} or later"), ("before", "older", "{} before {}")):
            text = parameters.text(f"{name}_{end}", most=40)
            moment = _moment(text, f"{name}_{end}", now)
            near = _moment(parameters.text(relative, most=40), relative, now) if of == name else None
            both = [each for each in (moment, near) if each is not None]
            if both:
                bound = max(both) if end == "after" else min(both)
                text = bound.astimezone(UTC).isoformat()
                clock = bound.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
                choosing.add((f"{name}_{end}", text), (f"{name}_{end}", bound), words.format(said, clock))


def _moment(text: str, name: str, now: datetime) -> datetime | None:
    if not text:
        return None
    length = length_of(text)
    moment = time_of(text) if length is None else now - length
    if moment is None:
        raise BadRequest(f"{name} is a length of time like 15m, 2h or 3d, or a time like 2026-11-29T08:00Z")
    return moment


def time_of(text: str) -> datetime | None:
    """Returns the time that a text says, in UTC unless it names a zone; None if it says none, or one far from ours."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not 1970 < moment.year < 3000:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _headers(parameters: Parameters, choosing: _Choosing, masks: Masks) -> None:
    headers: dict[str, str] = {}
    lines = [line for line in parameters.texts("header", most=1_000, many=10) if line]
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise BadRequest("header is a name and a value: tenant=acme")
        if name.strip() in masks:
            raise BadRequest("header names one that is masked, which cannot be searched here")
        headers[name.strip()] = value.strip()
    if headers:
        words = ", ".join(f"{name}={value}" for name, value in headers.items())
        choosing.add(("header", lines), ("headers", headers), f"with the header {words}")


def _payload(parameters: Parameters, choosing: _Choosing, masked: frozenset[str]) -> None:
    text = parameters.text("payload", most=2_000)
    if not text:
        return
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict) or not payload:
        raise BadRequest('payload is a JSON object, like {"order_id": 5}')
    # A user who may not see a secret must not find it by guessing either.
    kind = parameters.text("kind", most=500)
    masks = masks_of(kind, masked) if kind else masks_of_all(masked)
    if masks.touch(payload):
        hint = "" if kind else "; with a kind, only what is masked in its class counts"
        raise BadRequest(f"payload names a field that is masked, which cannot be searched here{hint}")
    choosing.add(("payload", text), ("payload", payload), f"whose payload contains {text}")
