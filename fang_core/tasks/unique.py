"""Computes the hash by which unique tasks are compared: that of the canonical form of their compared fields."""

import hashlib
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from fang_core.errors import PayloadError, UsageError
from fang_core.tasks.payloads.codec import encode_as_read, insertable_kind
from fang_core.tasks.runnable import BaseRunnable
from fang_core.words.canonical import HiddenSet, canonical, settled, settled_fields


def uniq_hash(task: BaseRunnable, text: str, fields: Sequence[str] | None = None) -> str:
    """Returns the SHA-256 in hex, as in Rust's Fang, of the canonical form of ``text``, the task's JSON by ``encode``.

    With ``fields`` only these and the kind count.

    Raises ``PayloadError`` if a serializer writes a set as something other than the array of its items, and
    ``UsageError`` if the task has no such field.
    """
    payload = from_json(encode_as_read(task, text))
    try:
        if fields is None:
            payload = settled(task, payload, "")
        else:
            chosen = {"type": payload["type"], **{name: _of_field(task, payload, name) for name in fields}}
            payload = settled_fields(task, fields, chosen, "")
    except HiddenSet as hidden:
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
