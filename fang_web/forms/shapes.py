"""Says which fields the form of a task class has: its JSON Schema, cut down to what a form can show.

The schema comes from pydantic, which knows every way to write a model: aliases, generics, dataclasses, forward
references. What has no control of its own, like a dict, a union, or a model that contains itself, is edited as JSON.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import core_schema

from fang_core.masking.masks import Masks

MAX_DEPTH: Final = 5
"""How many models may stand inside of each other; what is deeper is edited as JSON."""
MAX_FIELDS: Final = 200
"""How many fields a form has; those after them are edited as JSON."""
MAX_CHOICES: Final = 200
LONG_TEXT: Final = 100
"""Texts that may be longer than this many characters get a field of several lines."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ONE_LINE: Final = frozenset(
    ("date", "date-time", "time", "duration", "uuid", "ipv4", "ipv6", "ipvanyaddress", "email", "uri", "path")
)


class Missing(Enum):
    """The value of a field that has none. None is a value."""

    MISSING = auto()


MISSING: Final = Missing.MISSING


class Sort(Enum):
    """Names what a field takes, which decides its control."""

    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"
    BOOL = "true or false"
    CHOICE = "choice"
    JSON = "JSON"
    GROUP = "group"
    ROWS = "list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One field of a form, with those inside of it.

    Attributes:
        name: its key in the payload; empty for the whole payload and for the rows of a list.
        sort: what it takes.
        nullable: whether it may be null.
        required: whether the payload must have it.
        secret: whether its value is never shown.
        default: the value that it has when it is not given, as JSON; ``MISSING`` if that is not known.
        label, help, hint: its title, its description, and what pydantic expects of it.
        one_line: whether a text fits one line.
        empty: whether an empty text may be one.
        choices: the values of a ``CHOICE``.
        members: the fields of a ``GROUP``.
        others: whether a ``GROUP`` takes keys that are no fields.
        item: what each row of ``ROWS`` is.
    """

    name: str = ""
    sort: Sort = Sort.JSON
    nullable: bool = False
    required: bool = True
    secret: bool = False
    default: Any = MISSING
    label: str = ""
    help: str = ""
    hint: str = ""
    one_line: bool = False
    empty: bool = False
    choices: tuple[Any, ...] = ()
    members: "tuple[Shape, ...]" = ()
    others: bool = False
    item: "Shape | None" = None


class _Schema(GenerateJsonSchema):
    """Writes 'anything' for types without a JSON Schema, and says nothing about defaults that are no JSON."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> dict[str, Any]:
        return {}


def schema_of(cls: type[BaseModel]) -> Mapping[str, Any]:
    """Returns the JSON Schema of a class, by the names of its fields; of anything if pydantic cannot write it."""
    try:
        return cls.model_json_schema(by_alias=False, schema_generator=_Schema)
    except Exception:  # noqa: BLE001 - types and models may have functions of their own that raise anything
        return {}


def shape_of(schema: Mapping[str, Any], masks: Masks) -> Shape:
    """Returns the form of a class with this schema. What is masked is never shown."""
    return _Shapes(schema, masks).whole()


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _inside(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yields every schema inside of one, itself first, without following references."""
    if isinstance(node, Mapping):
        yield node
        for key, value in node.items():
            if key not in ("$defs", "default", "const", "enum", "examples"):
                yield from _inside(value)
    elif isinstance(node, list):
        for value in node:
            yield from _inside(value)


def _referred(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    name = reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")
    found = root.get("$defs", {}).get(name, {})
    return found if isinstance(found, Mapping) else {}


class _Shapes:
    """Makes the shapes of one class; it counts the fields, so that no class has a form without end."""

    def __init__(self, schema: Mapping[str, Any], masks: Masks) -> None:
        self._root = schema
        self._masks = masks
        self._hides = self._may_hold_secret(schema, frozenset())
        self._left = MAX_FIELDS

    def whole(self) -> Shape:
        shape = self._shape(self._root, "", frozenset(), 0)
        # A form shows the fields of a task, even if it cannot show any: the whole is a JSON object then.
        return replace(shape, nullable=False, required=True, default=MISSING)

    def _shape(self, node: Mapping[str, Any], name: str, path: frozenset[str], depth: int) -> Shape:
        self._left -= 1
        node, path = self._resolved(node, path)
        node, nullable, path = self._without_null(node, path)
        shape = Shape(
            name=name,
            nullable=nullable,
            secret=name in self._masks,
            default=node.get("default", MISSING),
            label=name,
            help=_text(node.get("description")),
        )
        if node.get("recursive") is True or self._left < 0:
            shape = replace(shape, hint=_hint(shape, {}))
            return replace(shape, secret=shape.secret or self._hides)
        return self._sorted(shape, node, path, depth)

    def _sorted(self, shape: Shape, node: Mapping[str, Any], path: frozenset[str], depth: int) -> Shape:
        if "const" in node or "enum" in node:
            choices = tuple(node.get("enum", (node.get("const"),)))
            if len(choices) <= MAX_CHOICES:
                return replace(shape, sort=Sort.CHOICE, choices=choices)
        kind = node.get("type")
        if shape.secret and kind not in ("string", "integer", "number"):
            return replace(shape, hint=_hint(shape, {}))
        match kind:
            case "string":
                most = node.get("maxLength", LONG_TEXT + 1)
                one_line = node.get("format") in _ONE_LINE or "pattern" in node or most <= LONG_TEXT
                empty = "pattern" not in node and node.get("format") not in _ONE_LINE and not node.get("minLength")
                return replace(shape, sort=Sort.TEXT, hint=_hint(shape, node), one_line=one_line, empty=empty)
            case "integer":
                return replace(shape, sort=Sort.WHOLE, hint=_hint(shape, node))
            case "number":
                return replace(shape, sort=Sort.NUMBER, hint=_hint(shape, node))
            case "boolean":
                return replace(shape, sort=Sort.BOOL)
            case "object" if self._is_group(node, depth):
                needed = node.get("required", ())
                inside = {
                    key: self._shape(each, key, path, depth + 1) for key, each in node.get("properties", {}).items()
                }
                members = tuple(replace(each, required=key in needed) for key, each in inside.items())
                return replace(
                    shape, sort=Sort.GROUP, members=members, others=bool(node.get("additionalProperties", False))
                )
            case "array" if isinstance(node.get("items"), Mapping) and node["items"] and "prefixItems" not in node:
                item = self._shape(node["items"], "", path, depth + 1)
                if item.sort is not Sort.ROWS:  # lists of lists are clearer as JSON
                    return replace(shape, sort=Sort.ROWS, item=item, hint=_hint(shape, node))
        return replace(shape, hint=_hint(shape, node), secret=shape.secret or self._may_hold_secret(node, frozenset()))

    def _is_group(self, node: Mapping[str, Any], depth: int) -> bool:
        properties = node.get("properties")
        if not isinstance(properties, Mapping):
            # A task without fields has an empty form; another object without fields is a dict.
            return depth == 0 and "additionalProperties" not in node
        return depth <= MAX_DEPTH and all(_NAME.fullmatch(key) for key in properties)

    def _resolved(self, node: Mapping[str, Any], path: frozenset[str]) -> tuple[Mapping[str, Any], frozenset[str]]:
        """Follows a reference. A model that stands inside of itself is marked, so that it ends there."""
        for _ in range(10):
            reference = node.get("$ref")
            if not isinstance(reference, str):
                return node, path
            beside = {key: value for key, value in node.items() if key != "$ref"}
            if reference in path:
                return beside | {"recursive": True}, path
            node, path = {**_referred(reference, self._root), **beside}, path | {reference}
        return {}, path

    def _without_null(
        self, node: Mapping[str, Any], path: frozenset[str]
    ) -> tuple[Mapping[str, Any], bool, frozenset[str]]:
        """Returns the schema without its null, whether it had one, and the models that it stands in."""
        options = node.get("anyOf")
        if not isinstance(options, list):
            return node, False, path
        others = [each for each in options if each != {"type": "null"}]
        nullable = len(others) < len(options)
        beside = {key: value for key, value in node.items() if key != "anyOf"}
        if len(others) == 1:
            inner, path = self._resolved(others[0], path)
            return {**inner, **beside}, nullable, path
        if [each.get("type") for each in others] == ["number", "string"]:  # a Decimal, which is stored as a text
            return {**beside, "type": "string", "format": "decimal", "pattern": ""}, nullable, path
        return {**beside, "anyOf": others}, nullable, path

    def _may_hold_secret(self, node: Any, seen: frozenset[str]) -> bool:
        """Returns whether anything inside of a field, however deep, is never shown."""
        for part in _inside(node):
            if any(name in self._masks for name in _properties(part)):
                return True
            reference = part.get("$ref")
            if isinstance(reference, str) and reference not in seen:
                seen = seen | {reference}
                if self._may_hold_secret(_referred(reference, self._root), seen):
                    return True
        return False


_WORDS: Final = {
    "date": "a date, like 2026-11-29",
    "date-time": "a time, like 2026-11-29T08:00:00Z",
    "time": "a time of day, like 08:00:00",
    "duration": "a duration, like PT90S or 1.5",
    "uuid": "a UUID",
    "email": "an email address",
    "uri": "a URL",
    "path": "a path",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "decimal": "a decimal number",
    "binary": "bytes, in base64",
    "base64url": "bytes, in base64",
}
_BOUNDS: Final = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("multipleOf", "a multiple of {}"),
    ("minLength", "{} characters at least"),
    ("maxLength", "{} characters at most"),
    ("pattern", "matches {}"),
    ("minItems", "{} rows at least"),
    ("maxItems", "{} rows at most"),
)
_TYPES: Final = {"string": "a text", "integer": "a whole number", "number": "a number", "array": "a list"}


def _hint(shape: Shape, node: Mapping[str, Any]) -> str:
    """Returns what a field takes, in a few words."""
    said = _WORDS.get(node.get("format", "")) or _TYPES.get(str(node.get("type")), "JSON")
    bounds = [_one(words.format(_text(node[key]))) for key, words in _BOUNDS if node.get(key) not in (None, "")]
    return ", ".join([said, *bounds, *(["may be empty"] if shape.nullable else [])])


def _one(said: str) -> str:
    """Returns a bound whose noun fits the number 1."""
    return re.sub(r"^1 (character|row)s ", r"1 \1 ", said)


def _text(value: object, most: int = 200) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
