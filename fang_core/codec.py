"""Task <-> the JSON text of its row: ``{"type": <kind>, <fields>}``, as Rust's Fang writes it.

What Postgres or JSON cannot hold, and what a worker could not read back, is refused here, before any SQL, with the path
to the value. The canonical form sorts keys and drops blanks; its SHA-256 decides whether two tasks are the same.

Known limits: dicts lose the order of their keys in jsonb; ``-0.0`` comes back as ``0.0``; a NaN assigned to a
``float | None`` field of a nested plain model becomes null, since that model's own configuration writes it so.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, ValidationError, from_json

from fang_core.errors import DefinitionError, PayloadError, UnreadablePayload, UsageError
from fang_core.failure import clean
from fang_core.runnable import BaseRunnable

MAX_PAYLOAD_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 190  # pydantic-core's reader stops at 200
_MAX_INT_BITS: Final = 14_000  # about 4300 digits: what int() reads from text
# Text that may stand for a NUL, for what is no number in JSON, or for a datetime without a zone.
_SUSPICIOUS: Final = re.compile(r'\\u0000|NaN|Infinity|\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?"')


def encode(task: BaseRunnable, *, max_bytes: int = MAX_PAYLOAD_BYTES) -> str:
    """The row's metadata as JSON text. Raises ``PayloadError``, or ``UsageError`` for what is no task at all."""
    cls = type(task)
    kind = insertable_kind(task)
    try:
        body = cls.__pydantic_serializer__.to_json(task, round_trip=True, by_alias=False, warnings="error").decode()
        # Reading it back at once is the cheapest strong promise: no worker will meet what it cannot read.
        cls.__pydantic_validator__.validate_json(body, by_alias=False, by_name=True)
    except (PydanticSerializationError, ValidationError, ValueError, RecursionError) as error:
        raise _explain(kind, task, error) from None
    if _SUSPICIOUS.search(body) or body.count("[") + body.count("{") > MAX_DEPTH:
        _refuse_faults(kind, task)
    if len(body) > max_bytes // 4 and len(body.encode()) > max_bytes:
        raise PayloadError(kind, "", f"the payload is larger than {max_bytes} bytes; store it elsewhere and pass a key")
    head = f'{{"type":{json.dumps(kind, ensure_ascii=False)}'
    return head + "}" if body == "{}" else f"{head},{body[1:]}"


def decode(cls: type[BaseRunnable], payload: str) -> BaseRunnable:
    """``payload`` is the metadata without its type. Raises ``UnreadablePayload``, naming the field."""
    try:
        task: BaseRunnable = cls.__pydantic_validator__.validate_json(payload, by_alias=False, by_name=True)
    except ValidationError as error:
        raise UnreadablePayload(_unreadable(cls, error)) from None
    return task


def canonical(text: str) -> str:
    """Sorted keys, no blanks; equal to serde_json's writing but for floats with exponents."""
    return json.dumps(from_json(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def uniq_hash(text: str) -> str:
    """SHA-256 of the canonical form, in hex, as Rust's Fang computes it."""
    return hashlib.sha256(canonical(text).encode()).hexdigest()


def insertable_kind(task: object) -> str:
    """The kind of a task that can be inserted. Raises ``UsageError`` or ``DefinitionError`` with what to do instead."""
    if not isinstance(task, BaseRunnable):
        if isinstance(task, type) and issubclass(task, BaseRunnable):
            raise UsageError(f"{task.__name__} is a class: insert an instance of it")
        raise UsageError(f"{type(task).__name__} is not a task: derive it from Runnable or AsyncRunnable")
    if not task.__fang_insertable__:
        raise DefinitionError(f"{type(task).__name__} cannot be inserted: derive a class of its own from it, with run")
    return task.__fang_options__.kind


# The slow walk, only after a fast check or an exception spoke up ------------------------------------------------------


def _refuse_faults(kind: str, task: BaseModel) -> None:
    found = next(_faults(task), None)
    if found is not None:
        raise PayloadError(kind, *found)


Fault = tuple[str, str]
"""(path, reason)"""


def _faults(value: Any, path: str = "", depth: int = 0, above: frozenset[int] = frozenset()) -> Iterator[Fault]:
    """Yields what cannot be stored."""
    if depth > MAX_DEPTH:
        yield path[:60] + "...", f"is nested deeper than {MAX_DEPTH} levels"
        return
    reason = _leaf_fault(value)
    if reason is not None:
        yield path, reason
    children = list(_children(value))
    if children and id(value) in above:
        yield path, "refers to itself"
        return
    for step, child in children:
        yield from _faults(child, path + step, depth + 1, above | {id(value)})


def _leaf_fault(value: Any) -> str | None:
    match value:
        case str():
            if "\0" in value:
                return "the text contains NUL (\\x00), which Postgres cannot store"
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return f"the text contains a lone surrogate at position {error.start}"
        case float() if not math.isfinite(value):
            return f"{value} is not JSON"
        case Decimal() if not value.is_finite():
            return f"{value} is not JSON"
        case int() if value.bit_length() > _MAX_INT_BITS:
            return "the integer has more than 4300 digits"
        case datetime() if value.tzinfo is None:
            return "the datetime has no time zone"
    return None


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case BaseModel():
            for name in type(value).model_fields:
                yield f".{name}", getattr(value, name, None)
            for name, extra in (value.model_extra or {}).items():
                yield f".{name}", extra
        case dict():
            for key, item in value.items():
                yield f"[key {key!a:.40}]", key
                yield f"[{key!a:.40}]", item
        case list() | tuple() | set() | frozenset():
            for index, item in enumerate(value):
                yield f"[{index}]", item


def _explain(kind: str, task: BaseModel, error: Exception) -> PayloadError:
    try:
        found = next(_faults(task), None)
    except RecursionError:
        found = ("", "is nested too deeply")
    if found is not None:
        return PayloadError(kind, *found)
    if isinstance(error, ValidationError):
        path, message = _first(error)
        return PayloadError(kind, path, f"cannot be read back by a worker: {message}")
    return PayloadError(kind, "", f"cannot be written as JSON: {clean(str(error).splitlines()[-1], 200)}")


def _unreadable(cls: type[BaseRunnable], error: ValidationError) -> str:
    path, message = _first(error)
    return f"the payload does not fit {cls.__qualname__}{path}: {message}"


def _first(error: ValidationError) -> tuple[str, str]:
    """Path and message of the first fault; not the messages of a user's validators, which may quote the payload."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    own = first["type"] in {"value_error", "assertion_error"}
    return clean(path, 200), f"refused by a validator ({first['type']})" if own else clean(first["msg"], 200)
