"""When two tasks are the same: the hash of a unique task's canonical form.

The canonical form of a payload sorts keys, drops blanks, and sorts the items of what were sets: Python walks a set in
no certain order. The JSON alone does not tell which of its arrays were sets, so the task is walked beside it.

A type of your own that holds a set is not looked into: its serializer has to write the items in a certain order.
"""

import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel, RootModel
from pydantic_core import from_json

from fang_core.codec import insertable_kind
from fang_core.errors import PayloadError
from fang_core.payload import children
from fang_core.runnable import BaseRunnable

_LEAVES: Final = frozenset({str, int, float, bool, type(None)})  # most values: no need to ask further


def uniq_hash(task: BaseRunnable, text: str) -> str:
    """SHA-256 in hex, as Rust's Fang computes it, over the canonical form of ``text``, the task as ``encode`` wrote it.

    Raises ``PayloadError`` where a serializer writes a set as something else than the array of its items.
    """
    try:
        payload = _settled(task, from_json(text), "")
    except _HiddenSet as hidden:
        why = "this set is not written as an array of its items, so that equal tasks may differ; insert without uniq"
        raise PayloadError(insertable_kind(task), hidden.path, why) from None
    return hashlib.sha256(canonical(payload).encode()).hexdigest()


def canonical(payload: Any) -> str:
    """Sorted keys, no blanks; equal to serde_json's writing but for floats with exponents."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class _HiddenSet(Exception):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def _settled(value: Any, node: Any, path: str) -> Any:
    """``node``, the JSON of ``value``, with the items of sets in order."""
    if type(value) in _LEAVES:
        return node
    match value, node:
        case (set() | frozenset(), list()) if len(value) == len(node):
            return sorted(_settled_items(value, node, path), key=canonical)
        case (list() | tuple() | deque(), list()) if len(value) == len(node):
            return _settled_items(value, node, path)
        case (dict(), dict()) if len(value) == len(node):
            pairs = zip(value.values(), node.items(), strict=True)
            return {key: _settled(item, part, f"{path}[{key!a:.40}]") for item, (key, part) in pairs}
        case (RootModel(), _):
            return _settled(value.root, node, path)
        case (BaseModel(), dict()):
            names = [name for name, field in type(value).model_fields.items() if not field.exclude]
            return _settled_fields(value, (*names, *(value.model_extra or ())), node, path)
        case (_, dict()) if dataclasses.is_dataclass(value):
            return _settled_fields(value, (field.name for field in dataclasses.fields(value)), node, path)
    # Written in a form of its own, which is good as long as there was no set.
    _refuse_sets(value, path, set())
    return node


def _settled_items(items: Iterable[Any], nodes: list[Any], path: str) -> list[Any]:
    pairs = enumerate(zip(items, nodes, strict=True))
    return [_settled(item, node, f"{path}[{index}]") for index, (item, node) in pairs]


def _settled_fields(value: Any, names: Iterable[str], node: dict[str, Any], path: str) -> dict[str, Any]:
    settled = dict(node)
    for name in names:
        item = getattr(value, name, None)
        if name in node:
            settled[name] = _settled(item, node[name], f"{path}.{name}")
        else:
            _refuse_sets(item, f"{path}.{name}", set())
    return settled


def _refuse_sets(value: Any, path: str, seen: set[int]) -> None:
    if isinstance(value, set | frozenset):
        raise _HiddenSet(path)
    if id(value) not in seen:
        seen.add(id(value))
        for step, child in children(value):
            _refuse_sets(child, path + step, seen)
