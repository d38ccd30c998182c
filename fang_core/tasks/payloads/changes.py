"""Compares a task with the same task read back from its JSON, and finds the values that a worker would see changed.

Each difference comes with its path. The declared type decides how strict the comparison is: a typed value has to come
back equal and of its type; an untyped one (``Any``) may come back as any JSON value, as long as nothing is missing.
docs/payloads.md has the tables.
"""

import dataclasses
import re
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from enum import Enum
from types import NoneType
from typing import Any

from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from fang_core.tasks.payloads.coreschema import Hints
from fang_core.tasks.payloads.payload import Fault
from fang_core.words.canonical import children, item_step, key_step

_JSON = (dict, list, str, int, float, NoneType)
_ATOMS = frozenset({str, int, float, bool, NoneType})  # JSON has them, so they come back equal
_SEQUENCES = (list, tuple, deque)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXCLUDED = "is not written ({}), so a run would see its default: have it written, or leave it out"
_VALIDATORS = (
    "would be read back as another value: validators run again when a worker reads it, "
    "and must leave their own results as they are"
)
_WRITTEN_ALIKE = (
    "would be read back as another value, as both are written in the same way: have a serializer write all of it"
)
_NO_INIT = "is not read back, as it is set with init=False"
_INIT_VAR = "would be read back as another value, as an InitVar is not written: make it a field"
_EXTRA = "is an extra field of a dataclass, which pydantic does not write: declare it, or make the class a model"
_ZONE = "is a time whose zone is not written: keep the zone's name in a field of its own"
_ORDER = "is an OrderedDict, and Postgres keeps no order of keys: use a list of pairs"
_MAXLEN = "is a deque with a maxlen, which is not written: have a validator set it, or give a deque without"
_FACTORY = (
    "is a defaultdict whose default_factory is not written: declare it with its values, "
    "as in defaultdict[str, Annotated[int, Field(default_factory=...)]]"
)
_SECONDS = "is a {} whose offset from UTC has seconds, which are not written: convert it to UTC"
_FLAGS = "is a pattern whose flags are not written: have them in its text, like (?i)"
_ITERATOR = "is an iterator, which can be read only once: declare a list"
_SECRET = "a secret is written as asterisks: store a key to it, or give the field a serializer"


def changes(value: Any, read: Any, hints: Hints, path: str = "") -> Iterator[Fault]:
    """Yields each difference between ``value`` and ``read``, which was read back from the JSON of ``value``."""
    if not hints.hides_changes and _is_equal(value, read):
        return
    match value:
        case Secret() | SecretStr() | SecretBytes() if value != read:
            yield path, _SECRET
        case _ if hints.is_untyped and not _was_named(value, read, hints):
            yield from _untyped(value, read, path)
        case RootModel() if isinstance(read, RootModel):
            yield from _of_root_model(value, read, hints, path)
        case BaseModel() if isinstance(read, BaseModel):
            yield from _of_model(value, read, hints, path)
        case _ if _is_dataclass(value) and _is_dataclass(read):
            yield from _of_dataclass(value, read, hints, path)
        case dict() if isinstance(read, dict) and isinstance(value, type(read)):
            yield from _of_dict(value, read, hints, path)
        case list() | tuple() | deque() if isinstance(read, list | tuple | deque) and _fits(value, read, hints):
            yield from _of_items(value, read, hints, path)
        case set() | frozenset() if value == read and _fits(value, read, hints):
            yield from _of_set(value, read, hints, path)
        case _:
            if not _is_same(value, read, hints):
                yield path, _reason(value, read, hints)


def _of_root_model(value: RootModel[Any], read: RootModel[Any], hints: Hints, path: str) -> Iterator[Fault]:
    if not isinstance(value, type(read)) or _was_named(value, read, hints):
        yield path, _other_type(value, read, hints)
    else:
        yield from changes(value.root, read.root, hints.root(type(read)), path)


def _of_model(value: BaseModel, read: BaseModel, hints: Hints, path: str) -> Iterator[Fault]:
    extra = read.model_extra or {}
    declared = type(read).model_fields
    lost = type(value).model_fields.keys() - declared.keys() - extra.keys()
    if lost:
        wanted, given = type(read).__qualname__, type(value).__qualname__
        yield path, f"holds a {given}, of which only what a {wanted} has is kept: declare it as {given}, or a union"
        return
    if not isinstance(value, type(read)) or _was_named(value, read, hints):
        yield path, _other_type(value, read, hints)
        return
    for name, field in declared.items():
        one, other = getattr(value, name, None), getattr(read, name, None)
        for fault in changes(one, other, hints.field(name, type(read)), f"{path}.{name}"):
            why = _why_excluded(field)
            yield (fault[0], _EXCLUDED.format(why)) if why else _of_culprit(fault, value, read, name)
    for name, one in (value.model_extra or {}).items():
        if name not in extra:
            yield f"{path}.{name}", "is not read back"
            return
        for fault in changes(one, extra[name], hints.extra(type(read)), f"{path}.{name}"):
            yield _of_culprit(fault, value, read, name)


def _of_culprit(fault: Fault, value: BaseModel, read: BaseModel, name: str) -> Fault:
    """Returns the fault of a field with its true reason: if both values are written alike, no validator is to blame."""
    path, why = fault
    return (path, _WRITTEN_ALIKE) if why == _VALIDATORS and _are_written_alike(value, read, name) else fault


def _are_written_alike(value: BaseModel, read: BaseModel, name: str) -> bool:
    try:
        one, other = (
            type(each).__pydantic_serializer__.to_json(each, include={name}, round_trip=True, warnings=False)
            for each in (value, read)
        )
    except Exception:  # noqa: BLE001 - a field may have a serializer that raises anything
        return False
    return bool(one == other)


def _of_dataclass(value: Any, read: Any, hints: Hints, path: str) -> Iterator[Fault]:
    if not isinstance(value, type(read)) or _was_named(value, read, hints):
        yield path, _other_type(value, read, hints)
        return
    of_pydantic: dict[str, FieldInfo] = getattr(type(value), "__pydantic_fields__", {})
    for field in dataclasses.fields(value):
        if not hasattr(read, field.name):
            given, wanted = type(value).__qualname__, type(read).__qualname__
            yield path, f"holds a {given}, of which only what a {wanted} has is kept: declare it as {given}"
            return
        one, other = getattr(value, field.name, None), getattr(read, field.name)
        for fault in changes(one, other, hints.field(field.name, type(read)), f"{path}.{field.name}"):
            if not field.init:
                yield fault[0], _NO_INIT
            else:
                why = _why_excluded(of_pydantic.get(field.name))
                yield (fault[0], _EXCLUDED.format(why)) if why else fault
    yield from _extras_of_dataclass(value, path)
    if hints.has_init_vars(type(read)):
        for name, one in vars(value).items() if hasattr(value, "__dict__") else ():
            if name in getattr(read, "__dict__", ()) and not _is_equal(one, getattr(read, name)):
                yield f"{path}.{name}", _INIT_VAR


def _of_dict(value: dict[Any, Any], read: dict[Any, Any], hints: Hints, path: str) -> Iterator[Fault]:
    if len(value) != len(read):
        yield from _lost_keys(value, read, path)
        return
    if isinstance(value, defaultdict) and isinstance(read, defaultdict) and not _make_the_same(value, read):
        yield path, _FACTORY
    if isinstance(value, OrderedDict) and list(value) != sorted(value, key=_place_in_jsonb):
        yield path, _ORDER
    # Both dicts are in the order of the text.
    for (key, one), (key_read, other) in zip(value.items(), read.items(), strict=True):
        yield from changes(key, key_read, hints.key(), path + key_step(key))
        yield from changes(one, other, hints.value(key), path + item_step(key))


def _of_items(value: Any, read: Any, hints: Hints, path: str) -> Iterator[Fault]:
    if len(value) != len(read):
        yield path, _VALIDATORS
        return
    if isinstance(value, deque) and isinstance(read, deque) and value.maxlen != read.maxlen:
        yield path, _MAXLEN
    names = getattr(value, "_fields", ())  # a NamedTuple has them
    for index, (one, other) in enumerate(zip(value, read, strict=True)):
        declared = hints.field(names[index], type(read)) if index < len(names) else hints.item(index)
        yield from changes(one, other, declared, f"{path}[{index}]")


def _of_set(value: Any, read: Any, hints: Hints, path: str) -> Iterator[Fault]:
    """Yields the items of a set that were read back as equal ones of another type; such an item has no path."""
    equal = {item: item for item in read}
    for item in value:
        yield from changes(item, equal[item], hints.item(0), path)


def _untyped(value: Any, read: Any, path: str, *, is_plain: bool = True) -> Iterator[Fault]:
    """Yields what is missing from an untyped value, or was changed; its types may change to those of JSON.

    ``is_plain`` is False inside a model or dataclass that came back as a dict: its own serializers have written that.
    """
    match value:
        case Secret() | SecretStr() | SecretBytes():
            if value != read:
                yield path, _SECRET
        case _ if not isinstance(read, _JSON) and type(value) is not type(read):  # a type next to Any, as in UUID | Any
            given, other = type(value).__qualname__, type(read).__qualname__
            yield path, f"is of type {given} and would be read back as {other}: declare one of them"
        case _ if isinstance(read, dict) and _has_fields(value):
            yield from _unwritten_fields(value, read, path)
        case dict() if isinstance(read, dict) and len(value) != len(read):
            yield from _lost_keys(value, read, path)
            return
        case _ if read is None and value is not None:
            yield path, "would be read back as None"
        case _ if isinstance(read, str) and (unwritten := _unwritten_part(value)):
            yield path, unwritten
        case _ if is_plain and _is_another(value, read):
            yield path, _VALIDATORS
            return
    is_plain &= type(value) is type(read) or isinstance(value, (dict, set, frozenset, *_SEQUENCES))
    for step, one, other in _inner_pairs(value, read):
        yield from _untyped(one, other, path + step, is_plain=is_plain)


def _is_another(value: Any, read: Any) -> bool:
    """Returns whether an untyped value was read back as another one than JSON makes of it, its parts aside."""
    match value:
        case _ if type(value) in _ATOMS:
            return not _is_equal(value, read)
        case dict():
            return not isinstance(read, dict) or any(type(key) is str and key not in read for key in value)
        case list() | tuple() | deque() | set() | frozenset():
            return not isinstance(read, (set, frozenset, *_SEQUENCES)) or len(value) != len(read)
        case _ if type(value) is not type(read) or _has_fields(value):
            return False
        case _:
            return not _is_equal(value, read) and not _is_incomparable(value)


def _unwritten_fields(value: Any, read: dict[str, Any], path: str) -> Iterator[Fault]:
    """Yields the fields of a model or pydantic dataclass that were left out and do not hold their defaults."""
    fields: dict[str, FieldInfo] = getattr(type(value), "__pydantic_fields__", {})
    for name, field in fields.items():
        why = _why_excluded(field)
        if why and name not in read and not _is_equal(getattr(value, name, None), field.default):
            yield f"{path}.{name}", _EXCLUDED.format(why)
    if _is_dataclass(value):
        yield from _extras_of_dataclass(value, path)


def _extras_of_dataclass(value: Any, path: str) -> Iterator[Fault]:
    """Yields the extra fields of a pydantic dataclass that takes any: pydantic writes none of them."""
    if getattr(type(value), "__pydantic_config__", {}).get("extra") != "allow":
        return
    declared = {field.name for field in dataclasses.fields(value)}
    for name in getattr(value, "__dict__", ()):
        if name not in declared and not hasattr(type(value), name):  # else a cached property
            yield f"{path}.{name}", _EXTRA


def _why_excluded(field: FieldInfo | None) -> str | None:
    """Returns the option that leaves the field out, always or for some values; None if it is always written."""
    if field is None:
        return None
    if field.exclude:
        return "exclude=True"
    return None if field.exclude_if is None else "exclude_if"


def _inner_pairs(value: Any, read: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields each part of an untyped value with the same part of its JSON, after the step that leads there."""
    match value, read:
        case RootModel(), _:
            yield "", value.root, read.root if isinstance(read, RootModel) else read
        case dict(), dict():  # both in the order of the text, unless a validator has changed that
            for (key, one), other in zip(value.items(), read.values(), strict=True):
                yield item_step(key), one, read.get(key, other)
        case (list() | tuple() | deque(), list() | tuple() | deque()) if len(value) == len(read):
            for index, (one, other) in enumerate(zip(value, read, strict=True)):
                yield f"[{index}]", one, other
        case _, dict() if _has_fields(value):
            for step, one in children(value):
                if step[1:] in read:
                    yield step, one, read[step[1:]]
        case _ if type(value) is type(read) and _has_fields(value):
            for (step, one), (_, other) in zip(children(value), children(read), strict=False):
                yield step, one, other


def _lost_keys(value: dict[Any, Any], read: dict[Any, Any], path: str) -> Iterator[Fault]:
    texts = [str(key) for key in value]
    if len(set(texts)) < len(texts):
        twice = next(key for key in value if texts.count(str(key)) > 1)
        yield path + key_step(twice), "is written like another key, so that only one of them is kept"
        return
    lost = next((key for key in value if key not in read), None)
    yield (path, "would be read back with other keys") if lost is None else (path + item_step(lost), "is not read back")


def _is_same(value: Any, read: Any, hints: Hints) -> bool:
    if _was_named(value, read, hints):
        return False
    try:
        match value, read:
            case datetime(), datetime():  # == is False between two zones for a time that one of them repeats
                return _instant(value) == _instant(read)
            case time(), time() if (value.tzinfo is None) != (read.tzinfo is None):
                return False
        return bool(value == read) or (type(value) is type(read) and _is_incomparable(value))
    except Exception:  # noqa: BLE001 - a value's own __eq__ may raise anything
        return isinstance(value, type(read))


def _is_equal(value: Any, read: Any) -> bool:
    try:
        return bool(value == read)
    except Exception:  # noqa: BLE001 - a value's own __eq__ may raise anything
        return False


def _make_the_same(one: defaultdict[Any, Any], other: defaultdict[Any, Any]) -> bool:
    """Returns whether both make the same value for a missing key."""
    factories = (one.default_factory, other.default_factory)
    if factories[0] is None or factories[1] is None or factories[0] == factories[1]:
        return factories[0] == factories[1]
    try:
        made, made_of_read = factories[0](), factories[1]()
        return type(made) is type(made_of_read) and bool(made == made_of_read)
    except Exception:  # noqa: BLE001 - factories may do anything
        return False


def _is_incomparable(value: Any) -> bool:
    """Returns whether the value's class defines no equality; we then trust its serializer."""
    cls: Any = type(value)
    return cls.__eq__ is object.__eq__ and not hasattr(value, "__next__") and not isinstance(value, Enum)


def _instant(moment: datetime) -> timedelta:
    """Returns the moment as a span, since in UTC it may lie before the first or after the last ``datetime``."""
    return moment.replace(tzinfo=UTC) - _EPOCH - (moment.utcoffset() or timedelta(0))


def _reason(value: Any, read: Any, hints: Hints) -> str:
    unwritten = _unwritten_part(value)
    if unwritten is not None:
        return unwritten
    if hasattr(value, "__next__"):
        return _ITERATOR
    if isinstance(value, set | frozenset) and isinstance(read, set | frozenset) and value - read and read - value:
        return _reason(min(value - read, key=repr), min(read - value, key=repr), hints.item(0))
    return _VALIDATORS if type(value) is type(read) else _other_type(value, read, hints)


def _unwritten_part(value: Any) -> str | None:
    """Returns the reason if pydantic leaves out a part of this value when it writes it as text; None if it does not."""
    match value:
        case time() if value.tzinfo is not None and value.utcoffset() is None:
            return _ZONE
        case datetime() | time() if (value.utcoffset() or timedelta(0)) % timedelta(minutes=1):
            return _SECONDS.format(type(value).__name__)
        case re.Pattern() if value.flags != re.compile(value.pattern).flags:
            return _FLAGS
    return None


def _other_type(value: Any, read: Any, hints: Hints) -> str:
    given, other = type(value).__qualname__, type(read).__qualname__
    first = f"name {given} first in the union, with Field(union_mode='left_to_right'), or declare one of them"
    what = first if hints.of_union else f"give it as {other}"
    if hints.of_union and isinstance(value, BaseModel) and not isinstance(value, RootModel):
        what = "give the models of the union a field that tells them apart, and name it as discriminator"
    return f"is of type {given} and would be read back as {other}: {what}"


def _fits(value: Any, read: Any, hints: Hints) -> bool:
    """Returns whether the sequence was read back as a type that the declaration allows."""
    if type(value) is type(read) or hints.is_abstract:  # a Sequence, for example, allows every type
        return True
    return isinstance(value, type(read)) and not _was_named(value, read, hints)


def _was_named(value: Any, read: Any, hints: Hints) -> bool:
    """Returns whether the value is of one type of the union, and was read back as another."""
    return type(value) is not type(read) and hints.of_union and type(value) in hints.types


def _has_fields(value: Any) -> bool:
    return _is_dataclass(value) or (isinstance(value, BaseModel) and not isinstance(value, RootModel))


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _place_in_jsonb(key: Any) -> tuple[int, bytes]:
    text = str(key).encode()
    return len(text), text
