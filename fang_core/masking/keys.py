"""Hides the keys by which limits count tasks if they reveal what a payload's masks hide."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from fang_core.flow.info import TypeInfo
from fang_core.flow.keys import By, fields_of
from fang_core.flow.limits import Fair, FlowRule
from fang_core.masking.masks import HIDDEN, Masks, masks_of
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.wording import key_name
from fang_core.record import Task, payload_of
from fang_core.tasks.registry import REGISTRY

KEY: Final = "key"
"""The name of a key among the details of an explanation."""


def shown_key(task: Task, masks: Masks) -> str | None:
    """Returns the task's key, or a placeholder if the key reveals a hidden field."""
    return HIDDEN if task.lane and _tells(task, task.lane, masks) else task.lane


def without_key(told: Explanation, masks: Masks) -> Explanation:
    """Returns the explanation without the task's key, if that reveals a hidden field."""
    task = told.task
    if task is None or shown_key(task, masks) == task.lane:
        return told
    details = {name: HIDDEN if name == KEY else value for name, value in told.details.items()}
    return replace(told, text=told.text.replace(key_name(task), repr(HIDDEN)), details=details)


def shown_type(info: TypeInfo, words: frozenset[str]) -> TypeInfo:
    """Returns the task type with the keys of weights hidden if a masked field makes them.

    Only the names of fields decide: no payload is here whose values could be looked for. Limits set at run time count
    by the key of some declared class, so the masks of all of these hold for them.
    """
    masks = {kind: masks_of(kind, words) for kind in info.declared}
    every = [*masks.values(), Masks(words)]
    return info._replace(
        declared={kind: _shown_rules(rules, [masks[kind]]) for kind, rules in info.declared.items()},
        changed=None if info.changed is None else _shown_rules(info.changed, every),
        settings=info.settings._replace(weights=_shown_weights(info, every)),
    )


def shown_rules(info: TypeInfo | None, rules: Iterable[FlowRule], words: frozenset[str]) -> tuple[FlowRule, ...]:
    """Returns rules that are about to be set for a task type, masked as in ``shown_type``."""
    kinds = () if info is None else info.declared
    return _shown_rules(rules, [*(masks_of(kind, words) for kind in kinds), Masks(words)])


def _shown_rules(rules: Iterable[FlowRule], masks: Collection[Masks]) -> tuple[FlowRule, ...]:
    return tuple(
        replace(rule, weights=_numbered(rule.weights))
        if isinstance(rule, Fair) and _is_masked(rule.by, masks)
        else rule
        for rule in rules
    )


def _shown_weights(info: TypeInfo, masks: Collection[Masks]) -> Mapping[str, int] | None:
    """Returns the weights that hold; they do not say which rule they come from, so each of them may hide them."""
    weights = info.settings.weights
    is_masked = any(isinstance(rule, Fair) and _is_masked(rule.by, masks) for rule in info.rules)
    return _numbered(weights) if weights and is_masked else weights


def _numbered(weights: Mapping[str, int]) -> dict[str, int]:
    """Returns the weights without their keys: the first one is hidden, and the rest are hidden and counted."""
    return {
        HIDDEN if number == 1 else f"{HIDDEN} ({number})": weight for number, weight in enumerate(weights.values(), 1)
    }


def _is_masked(by: By, masks: Collection[Masks]) -> bool:
    """Returns whether one of the fields that make a key is hidden."""
    return any(name in each for name in fields_of(by) for each in masks)


def _tells(task: Task, key: str, masks: Masks) -> bool:
    """Returns whether the key is made from a hidden field, or contains its value.

    A function may have made the key, and its code says nothing of the fields; so the values are looked for.
    """
    cls = REGISTRY.get(task.kind)
    by = None if cls is None else cls.__fang_options__.by
    if by is not None and _is_masked(by, [masks]):
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
