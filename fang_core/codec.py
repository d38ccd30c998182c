"""Task <-> the JSON text of its row: ``{"type": <kind>, <fields>}``, as Rust's Fang writes it.

What Postgres or JSON cannot hold, and what a worker could not read back, is refused here, before any SQL, with the path
to the value; and so is what it would read back without being told that something is missing: a secret that is written
as asterisks, or a field's subclass whose own fields are dropped.

Known limits: dicts lose the order of their keys in jsonb; ``-0.0`` comes back as ``0.0``; a NaN assigned to a
``float | None`` field of a nested plain model becomes null, since that model's own configuration writes it so.
"""

import dataclasses
import json
import math
import re
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, get_args

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, ValidationError, from_json
from pydantic_core.core_schema import ErrorType

from fang_core.errors import DefinitionError, PayloadError, UnreadablePayload, UsageError
from fang_core.failure import clean
from fang_core.runnable import BaseRunnable

MAX_PAYLOAD_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 190  # pydantic-core's reader stops at 200
_MAX_INT_BITS: Final = 14_000  # about 4300 digits: what int() reads from text
# Text that may stand for a NUL, for what is no number in JSON, or for a datetime without a zone.
_SUSPICIOUS: Final = re.compile(r'\\u0000|NaN|Infinity|\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?"')
# pydantic's own messages may be shown, but for those that repeat the input or carry the text of another exception.
_SHOWN: Final = frozenset(get_args(ErrorType)) - {
    "assertion_error",
    "bytes_invalid_encoding",
    "get_attribute_error",
    "import_error",
    "iteration_error",
    "mapping_type",
    "union_tag_invalid",
    "uuid_parsing",
    "value_error",
}
# What may be shown of pydantic's message about a value that it could not write: these name types and functions only.
_UNWRITABLE: Final = re.compile(
    r"Unable to serialize unknown type: <class '[\w.<>]+'>|Error calling function `\w+`: \w+"
)

Fault = tuple[str, str]
"""(path, reason)"""


def encode(task: BaseRunnable, *, max_bytes: int = MAX_PAYLOAD_BYTES) -> str:
    """The row's metadata as JSON text. Raises ``PayloadError``, or ``UsageError`` for what is no task at all."""
    cls = type(task)
    kind = insertable_kind(task)
    try:
        body = cls.__pydantic_serializer__.to_json(task, round_trip=True, by_alias=False, warnings=False).decode()
        # Reading it back at once is the cheapest strong promise: no worker will meet what it cannot read.
        read = cls.__pydantic_validator__.validate_json(body, by_alias=False, by_name=True)
        if not _is_equal(task, read):
            _refuse_what_changes(kind, task, read)
    except PayloadError:
        raise
    except Exception as error:  # noqa: BLE001 - fields may have validators and serializers that raise anything
        raise _explain(kind, task, _error_of_writing(task) or error) from None
    if not body.startswith("{"):
        raise PayloadError(kind, "", "does not serialize to a JSON object")
    if '"type":' in body and "type" in from_json(body):
        raise PayloadError(kind, ".type", "this key holds the kind; no extra field can have its name")
    if _SUSPICIOUS.search(body) or (len(body) > MAX_DEPTH and body.count("[") + body.count("{") > MAX_DEPTH):
        _refuse_faults(kind, task, body)
    if len(body) > max_bytes // 4 and len(body.encode()) > max_bytes:
        raise PayloadError(kind, "", f"the payload is larger than {max_bytes} bytes; store it elsewhere and pass a key")
    return _head(kind) + "}" if body == "{}" else f"{_head(kind)},{body[1:]}"


@lru_cache(maxsize=1024)
def _head(kind: str) -> str:
    return f'{{"type":{json.dumps(kind, ensure_ascii=False)}'


def decode(cls: type[BaseRunnable], payload: str) -> BaseRunnable:
    """``payload`` is the metadata without its type. Raises ``UnreadablePayload``, naming the field."""
    try:
        task: BaseRunnable = cls.__pydantic_validator__.validate_json(payload, by_alias=False, by_name=True)
    except ValidationError as error:
        path, message = _first(error)
        raise UnreadablePayload(f"the payload does not fit {cls.__qualname__}{path}: {message}") from None
    except Exception as error:  # noqa: BLE001 - a validator that raises anything must not stop a worker
        raise UnreadablePayload(f"a validator of {cls.__qualname__} raised {type(error).__name__}") from None
    return task


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


def _is_equal(task: BaseModel, read: Any) -> bool:
    """Whether it was read back as it was: most are. (What a task is not equal to for other reasons is looked at.)"""
    try:
        return bool(task.__dict__ == read.__dict__ and task.__pydantic_extra__ == read.__pydantic_extra__)
    except Exception:  # noqa: BLE001 - values may compare in their own way
        return False


def _refuse_what_changes(kind: str, task: BaseModel, read: Any) -> None:
    error = _error_of_writing(task)
    if error is not None:
        raise error
    found = next(_losses(task, read), None)
    if found is not None:
        raise PayloadError(kind, *found)


def _error_of_writing(task: BaseModel) -> Exception | None:
    """What pydantic says of values that are not of their declared types. It takes a microsecond to ask: what is equal
    when it is read back is not asked about, whatever its type was, since no worker sees a difference."""
    try:
        type(task).__pydantic_serializer__.to_json(task, round_trip=True, by_alias=False, warnings="error")
    except Exception as error:  # noqa: BLE001 - fields may have serializers that raise anything
        return error
    return None


def _losses(value: Any, read: Any, path: str = "") -> Iterator[Fault]:
    """Yields what looks whole when it is read back, and is not."""
    if isinstance(value, Secret | SecretStr | SecretBytes):
        if value != read:
            yield path, "a secret is written as asterisks: store a key to it, or give the field a serializer"
        return
    if isinstance(value, BaseModel) and isinstance(read, BaseModel):
        lost = type(value).model_fields.keys() - type(read).model_fields.keys() - (read.model_extra or {}).keys()
        if lost:
            declared, given = type(read).__qualname__, type(value).__qualname__
            yield (
                path,
                f"holds a {given}, of which only what a {declared} has is kept: declare it as {given}, or a union",
            )
    if not isinstance(value, set | frozenset):  # which are in no order
        of_read = dict(children(read))
        for step, child in children(value):
            if step in of_read:
                yield from _losses(child, of_read[step], path + step)


def _refuse_faults(kind: str, task: BaseModel, body: str) -> None:
    # The text itself shows what stands in types that the walk does not know, like a Path.
    found = next(_faults(task), None) or next(_faults(from_json(body)), None)
    if found is not None:
        raise PayloadError(kind, *found)


def _faults(value: Any, path: str = "", depth: int = 0, above: frozenset[int] = frozenset()) -> Iterator[Fault]:
    """Yields what cannot be stored."""
    if depth > MAX_DEPTH:
        yield path[:60] + "...", f"is nested deeper than {MAX_DEPTH} levels"
        return
    reason = _leaf_fault(value)
    if reason is not None:
        yield path, reason
    inner = list(children(value))
    if inner and id(value) in above:
        yield path, "refers to itself"
        return
    for step, child in inner:
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
        case datetime() if value.utcoffset() is None:
            return "the datetime has no time zone"
    return None


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """What stands in a value, with the step that leads there, like ``.name`` or ``[2]``."""
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
        case list() | tuple() | set() | frozenset() | deque():
            for index, item in enumerate(value):
                yield f"[{index}]", item
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                yield f".{field.name}", getattr(value, field.name, None)


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
    if isinstance(error, PydanticSerializationError):
        return PayloadError(kind, _unwritable_field(task), f"cannot be written as JSON: {_unwritable_reason(error)}")
    return PayloadError(kind, "", f"cannot be read back by a worker: a validator raised {type(error).__name__}")


def _unwritable_field(model: BaseModel) -> str:
    """The path to the first field that cannot be written; empty where the model as a whole cannot."""
    if not _is_writable(model, include=set()):
        return ""
    for name in type(model).model_fields:
        if not _is_writable(model, include={name}):
            value = getattr(model, name, None)
            return f".{name}" + (_unwritable_field(value) if isinstance(value, BaseModel) else "")
    return ""


def _is_writable(model: BaseModel, include: set[str]) -> bool:
    try:
        type(model).__pydantic_serializer__.to_json(
            model, include=include, round_trip=True, by_alias=False, warnings="error"
        )
    except Exception:  # noqa: BLE001 - this is the question
        return False
    return True


def _unwritable_reason(error: PydanticSerializationError) -> str:
    text = str(error)
    shown = _UNWRITABLE.search(text)
    if shown is not None:
        return clean(shown[0], 200)
    return "a value is not of the declared type" if "UnexpectedValue" in text else "pydantic refuses it"


def _first(error: ValidationError) -> tuple[str, str]:
    """Path and message of the first fault; not a message that may quote the payload, as a user's validator's may."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = "".join(f".{part}" if str(part).isidentifier() else f"[{part!a:.40}]" for part in first["loc"])
    message = first["msg"] if first["type"] in _SHOWN else f"refused by a validator ({first['type']})"
    return clean(path, 200), clean(message, 200)
