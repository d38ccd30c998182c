"""Writes values in one canonical form, by which equal ones are found equal in every process.

It has sorted keys, no blanks, and the items of sets sorted, since Python iterates over a set in no fixed order. JSON
does not show which of its arrays were sets, so the value is walked together with its JSON.

A type of your own that holds a set is not looked into: its serializer has to write the items in a fixed order.
"""

import dataclasses
import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import BaseModel, RootModel

_LEAVES: Final = frozenset({str, int, float, bool, type(None)})  # most values are of these, and hold no set


def canonical(payload: Any) -> str:
    """Writes JSON with sorted keys and no blanks, as serde_json does, except for floats with exponents."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class HiddenSet(Exception):
    """Says that a set is not written as an array of its items, and where it is."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def settled(value: Any, node: Any, path: str) -> Any:
    """Returns ``node``, the JSON of ``value``, with the items of sets sorted. Raises ``HiddenSet``."""
    if type(value) in _LEAVES:
        return node
    match value, node:
        case (set() | frozenset(), list()) if len(value) == len(node):
            return sorted(_settled_items(value, node, path), key=canonical)
        case (list() | tuple() | deque(), list()) if len(value) == len(node):
            return _settled_items(value, node, path)
        case (dict(), dict()) if len(value) == len(node):
            pairs = zip(value.values(), node.items(), strict=True)
            return {key: settled(item, part, f"{path}[{key!a:.40}]") for item, (key, part) in pairs}
        case (RootModel(), _):
            return settled(value.root, node, path)
        case (BaseModel(), dict()):
            names = [name for name, field in type(value).model_fields.items() if not field.exclude]
            return settled_fields(value, (*names, *(value.model_extra or ())), node, path)
        case (_, dict()) if dataclasses.is_dataclass(value):
            return settled_fields(value, (field.name for field in dataclasses.fields(value)), node, path)
    # The value is written in a form of its own, which is fine as long as it holds no set.
    _refuse_sets(value, path, set())
    return node


def _settled_items(items: Iterable[Any], nodes: list[Any], path: str) -> list[Any]:
    pairs = enumerate(zip(items, nodes, strict=True))
    return [settled(item, node, f"{path}[{index}]") for index, (item, node) in pairs]


def settled_fields(value: Any, names: Iterable[str], node: dict[str, Any], path: str) -> dict[str, Any]:
    """Returns ``node``, the JSON of some fields of ``value``, with the items of sets sorted."""
    written, extra = dict(node), getattr(value, "__pydantic_extra__", None) or {}
    for name in names:
        item = extra[name] if name in extra else getattr(value, name, None)  # an attribute of pydantic's may hide one
        if name in node:
            written[name] = settled(item, node[name], f"{path}.{name}")
        else:
            _refuse_sets(item, f"{path}.{name}", set())
    return written


def _refuse_sets(value: Any, path: str, seen: set[int]) -> None:
    if isinstance(value, set | frozenset):
        raise HiddenSet(path)
    if id(value) not in seen:
        seen.add(id(value))
        for step, child in children(value):
            _refuse_sets(child, path + step, seen)


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the values inside a value, each after the step that leads there, like ``.name`` or ``[2]``."""
    match value:
        case BaseModel():
            for name in type(value).model_fields:
                yield f".{name}", getattr(value, name, None)
            for name, extra in (value.model_extra or {}).items():
                yield f".{name}", extra
        case dict():
            for key, item in value.items():
                yield key_step(key), key
                yield item_step(key), item
        case list() | tuple() | set() | frozenset() | deque():
            for index, item in enumerate(value):
                yield f"[{index}]", item
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                yield f".{field.name}", getattr(value, field.name, None)


def key_step(key: object) -> str:
    """Returns the step to a key of a dictionary."""
    return f"[key {key!a:.40}]"


def item_step(key: object) -> str:
    """Returns the step to the value under a key."""
    return f"[{key!a:.40}]"
