"""Hides the keys by which limits count tasks if they tell what a payload's masks hide."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from fang_core.flow.keys import fields_of
from fang_core.masking.masks import HIDDEN, Masks
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.wording import key_name
from fang_core.record import Task, payload_of
from fang_core.tasks.registry import REGISTRY

KEY: Final = "key"
"""The name of a key among the details of an explanation."""


def shown_key(task: Task, masks: Masks) -> str | None:
    """Returns the task's key, or what stands in its place if the key tells a hidden field."""
    return HIDDEN if task.lane and _tells(task, task.lane, masks) else task.lane


def without_key(told: Explanation, masks: Masks) -> Explanation:
    """Returns the explanation without the task's key, if that tells a hidden field."""
    task = told.task
    if task is None or shown_key(task, masks) == task.lane:
        return told
    details = {name: HIDDEN if name == KEY else value for name, value in told.details.items()}
    return replace(told, text=told.text.replace(key_name(task), repr(HIDDEN)), details=details)


def _tells(task: Task, key: str, masks: Masks) -> bool:
    """Returns whether the key is made of a hidden field, or has its value in it.

    A function may have made the key, and its code says nothing of the fields; so the values are looked for.
    """
    cls = REGISTRY.get(task.kind)
    by = None if cls is None else cls.__fang_options__.by
    if by is not None and any(name in masks for name in fields_of(by)):
        return True
    key = key.casefold()
    return any(text.casefold() in key for text in _hidden(payload_of(task.metadata), masks))


def _hidden(payload: Any, masks: Masks) -> Iterator[str]:
    """Yields the texts and numbers of hidden fields, as a key has them: plain, or in a list of JSON."""
    pending: list[tuple[Any, bool]] = [(payload, False)]
    while pending:
        value, is_hidden = pending.pop()
        if isinstance(value, Mapping):
            pending += [(each, is_hidden or name in masks) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(each, is_hidden) for each in value]
        elif is_hidden and isinstance(value, str) and value:
            yield value
            yield json.dumps(value, ensure_ascii=False)[1:-1]
        elif is_hidden and isinstance(value, int | float) and not isinstance(value, bool):
            yield json.dumps(value)
