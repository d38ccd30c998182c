"""Computes the hash by which unique tasks are compared: that of the canonical form of their compared fields.

The canonical form has sorted keys, no blanks, and the items of sets sorted, since Python iterates over a set in no
fixed order. The JSON does not show which of its arrays were sets, so the task is walked together with it.

A type of your own that holds a set is not looked into: its serializer has to write the items in a fixed order.
"""

import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import BaseModel, RootModel
from pydantic_core import from_json

from fang_core.errors import PayloadError, UsageError
from fang_core.tasks.payloads.codec import insertable_kind
from fang_core.tasks.payloads.payload import children
from fang_core.tasks.runnable import BaseRunnable

_LEAVES: Final = frozenset({str, int, float, bool, type(None)})  # most values are of these, and hold no set


def uniq_hash(task: BaseRunnable, text: str, fields: Sequence[str] | None = None) -> str:
    """Returns the SHA-256 in hex, as in Rust's Fang, of the canonical form of ``text``, the task's JSON by ``encode``.

    With ``fields`` only these and the kind count.

    Raises ``PayloadError`` if a serializer writes a set as something other than the array of its items, and
    ``UsageError`` if the task has no such field.
    """
    payload = from_json(text)
    try:
        if fields is None:
            payload = _settled(task, payload, "")
        else:
            chosen = {"type": payload["type"], **{name: _of_field(task, payload, name) for name in fields}}
            payload = _settled_fields(task, fields, chosen, "")
    except _HiddenSet as hidden:
        why = "this set is not written as an array of its items, so that equal tasks may differ; insert without uniq"
        raise PayloadError(insertable_kind(task), hidden.path, why) from None
    return hashlib.sha256(canonical(payload).encode()).hexdigest()


def _of_field(task: BaseRunnable, payload: dict[str, Any], name: str) -> Any:
    if name not in type(task).model_fields:
        raise UsageError(f"{insertable_kind(task)} has no field {name!r:.60}, by which its unique tasks are compared")
    if name not in payload:
        why = "the field is not part of the payload, so that tasks cannot be compared by it"
        raise PayloadError(insertable_kind(task), f".{name}", why)
    return payload[name]


def canonical(payload: Any) -> str:
    """Writes JSON with sorted keys and no blanks, as serde_json does, except for floats with exponents."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class _HiddenSet(Exception):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def _settled(value: Any, node: Any, path: str) -> Any:
    """Returns ``node``, the JSON of ``value``, with the items of sets sorted."""
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
    # The value is written in a form of its own, which is fine as long as it holds no set.
    _refuse_sets(value, path, set())
    return node


def _settled_items(items: Iterable[Any], nodes: list[Any], path: str) -> list[Any]:
    pairs = enumerate(zip(items, nodes, strict=True))
    return [_settled(item, node, f"{path}[{index}]") for index, (item, node) in pairs]


def _settled_fields(value: Any, names: Iterable[str], node: dict[str, Any], path: str) -> dict[str, Any]:
    settled, extra = dict(node), getattr(value, "__pydantic_extra__", None) or {}
    for name in names:
        item = extra[name] if name in extra else getattr(value, name, None)  # an attribute of pydantic's may hide one
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
