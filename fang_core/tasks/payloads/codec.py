"""Converts a task to the JSON text of its row, ``{"type": <kind>, <fields>}`` as in Rust's Fang, and back.

Values that Postgres or JSON cannot hold, or that a worker would read back changed, are refused here, before any SQL,
with the path to the value. docs/payloads.md says what a payload may be.

Known limits: dicts lose the order of their keys in jsonb, ``-0.0`` comes back as ``0.0``, and untyped floats of 1e16
and more come back as integers of the same value.
"""

import json
import re
import sys
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails, PydanticSerializationError, ValidationError, from_json
from pydantic_core.core_schema import ErrorType

from fang_core.errors import DefinitionError, PayloadError, UnreadablePayload, UsageError
from fang_core.failure import clean
from fang_core.tasks.payloads.changes import changes
from fang_core.tasks.payloads.coreschema import Hints
from fang_core.tasks.payloads.payload import MAX_DEPTH, faults
from fang_core.tasks.payloads.reading import reader_of
from fang_core.tasks.runnable import BaseRunnable

MAX_PAYLOAD_BYTES: Final = 1_000_000
# Matches text that may be a NUL, a number that JSON does not have, or a datetime without a zone.
_SUSPICIOUS: Final = re.compile(r'\\u0000|NaN|Infinity|\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?"')
_EXPONENT: Final = re.compile(r"\d[eE]\+?\d")
# Matches strings, which stay as they are, and complete numbers, so that no digit is looked at twice.
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')
# The types of pydantic errors whose message may be shown: it neither repeats the input nor quotes another exception.
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
# The parts of pydantic's message about an unwritable value that may be shown: they name only types and functions.
_UNWRITABLE: Final = re.compile(
    r"Unable to serialize unknown type: <class '[\w.<>]+'>|Error calling function `\w+`: \w+"
)


def encode(task: BaseRunnable, *, max_bytes: int = MAX_PAYLOAD_BYTES) -> str:
    """Returns the row's metadata as JSON text. Raises ``PayloadError``, or ``UsageError`` if this is not a task."""
    cls = type(task)
    kind = insertable_kind(task)
    try:
        body = cls.__pydantic_serializer__.to_json(task, round_trip=True, by_alias=False, warnings=False).decode()
        # Reading it back at once is the cheapest way to promise that every worker can read it.
        reader = reader_of(cls)
        text = _as_jsonb(body) if reader.tells_by_digits else body
        read = reader.validate_json(text, by_alias=reader.by_alias, by_name=reader.by_name)
        if not _is_equal(task, read):
            _refuse_what_changes(kind, task, read, reader.hints, _error_of_writing(task))
        elif reader.hides_changes:
            _refuse_what_changes(kind, task, read, reader.hints)
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


def encode_as_read(task: BaseRunnable, text: str) -> str:
    """Returns ``text``, which ``encode`` has made of the task, as it would be if the task had been read from its row.

    A default of a similar type is written otherwise than the value that is read: the ``0`` of ``price: Decimal = 0``
    is read as ``Decimal(0)``, which is written as text.
    """
    if _error_of_writing(task) is None:
        return text
    fields = from_json(text)
    del fields["type"]
    return encode(decode(type(task), json.dumps(fields)), max_bytes=sys.maxsize)


def _as_jsonb(body: str) -> str:
    """Writes numbers without exponents, as Postgres does; 1e16 becomes an integer."""
    if not _EXPONENT.search(body):
        return body
    return _TOKEN.sub(_written_out, body)


def _written_out(found: re.Match[str]) -> str:
    token = found[0]
    return f"{Decimal(token):f}" if token[0] != '"' and "e" in token.lower() else token


@lru_cache(maxsize=1024)
def _head(kind: str) -> str:
    return f'{{"type":{json.dumps(kind, ensure_ascii=False)}'


def decode(cls: type[BaseRunnable], payload: str) -> BaseRunnable:
    """Reads a task from ``payload``, the metadata without its type. Raises ``UnreadablePayload``, naming the field."""
    try:
        reader = reader_of(cls)
        task: BaseRunnable = reader.validate_json(payload, by_alias=reader.by_alias, by_name=reader.by_name)
    except ValidationError as error:
        path, message, sort = _first(error)
        text = f"the payload does not fit {cls.__qualname__}{path}: {message}"
        raise UnreadablePayload(text, path=path, reason=sort) from None
    except Exception as error:  # noqa: BLE001 - a validator that raises anything must not stop a worker
        name = type(error).__name__
        text = f"a validator of {cls.__qualname__} raised {name}"
        raise UnreadablePayload(text, reason=f"a validator raised {name}") from None
    return task


def insertable_kind(task: object) -> str:
    """Returns the kind of an insertable task. Raises ``UsageError`` or ``DefinitionError`` that says what to do."""
    if not isinstance(task, BaseRunnable):
        if isinstance(task, type) and issubclass(task, BaseRunnable):
            raise UsageError(f"{task.__name__} is a class: insert an instance of it")
        raise UsageError(f"{type(task).__name__} is not a task: derive it from Runnable or AsyncRunnable")
    if not task.__fang_insertable__:
        raise DefinitionError(f"{type(task).__name__} cannot be inserted: derive a class of its own from it, with run")
    return task.__fang_options__.kind


# The slow walk, only after a fast check or an exception has shown a problem -------------------------------------------


def _is_equal(task: BaseModel, read: Any) -> bool:
    """Returns whether the task was read back equal, as most are. If not, the slow walk looks for the reason."""
    try:
        return bool(task.__dict__ == read.__dict__ and task.__pydantic_extra__ == read.__pydantic_extra__)
    except Exception:  # noqa: BLE001 - a value's own __eq__ may raise anything
        return False


def _refuse_what_changes(kind: str, task: BaseModel, read: Any, hints: Hints, error: Exception | None = None) -> None:
    if error is not None:
        raise error
    found = next(changes(task, read, hints), None)
    if found is not None:  # a value that cannot be stored is the better reason: a nan is not changed, it is no JSON
        raise PayloadError(kind, *(next(faults(task), None) or found))


def _error_of_writing(task: BaseModel) -> Exception | None:
    """Returns pydantic's error about values that are not of their declared types, if there are any.

    Asking takes a microsecond. Tasks that are equal when read back are not asked about, whatever the types of their
    values: no worker sees a difference.
    """
    try:
        type(task).__pydantic_serializer__.to_json(task, round_trip=True, by_alias=False, warnings="error")
    except Exception as error:  # noqa: BLE001 - fields may have serializers that raise anything
        return error
    return None


def _refuse_faults(kind: str, task: BaseModel, body: str) -> None:
    # The text also shows values inside types that the walk does not know, like a Path.
    of_text = (fault for name, value in from_json(body).items() for fault in faults(value, f".{name}", 1))
    found = next(faults(task), None) or next(of_text, None)
    if found is not None:
        raise PayloadError(kind, *found)


def _explain(kind: str, task: BaseModel, error: Exception) -> PayloadError:
    try:
        found = next(faults(task), None)
    except RecursionError:
        found = ("", "is nested too deeply")
    if found is not None:
        return PayloadError(kind, *found)
    if isinstance(error, ValidationError):
        path, message, _ = _first(error)
        return PayloadError(kind, path, f"cannot be read back by a worker: {message}")
    if isinstance(error, PydanticSerializationError):
        return PayloadError(kind, _unwritable_field(task), f"cannot be written as JSON: {_unwritable_reason(error)}")
    return PayloadError(kind, "", f"cannot be read back by a worker: a validator raised {type(error).__name__}")


def _unwritable_field(model: BaseModel) -> str:
    """Returns the path to the first field that cannot be written; empty if the model itself cannot."""
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
    except Exception:  # noqa: BLE001 - any exception answers the question
        return False
    return True


def _unwritable_reason(error: PydanticSerializationError) -> str:
    text = str(error)
    shown = _UNWRITABLE.search(text)
    if shown is not None:
        return clean(shown[0], 200)
    return "a value is not of the declared type" if "UnexpectedValue" in text else "pydantic refuses it"


def _first(error: ValidationError) -> tuple[str, str, str]:
    """Returns path, message and type of the first error; a message that may quote the payload is replaced."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = "".join(f".{part}" if str(part).isidentifier() else f"[{part!a:.40}]" for part in first["loc"])
    message = first["msg"] if is_shown(first) else f"refused by a validator ({first['type']})"
    return clean(path, 200), clean(message, 200), clean(first["type"], 100)


def is_shown(error: ErrorDetails) -> bool:
    """Returns whether the message of one of pydantic's errors may be shown to users who must not see the payload."""
    return error["type"] in _SHOWN
