"""Reads from pydantic's core schemas which types a payload's fields declare, once for each class."""

import dataclasses
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from numbers import Number
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

from pydantic import BaseModel

from fang_core.interpreter.kept import kept

Schema = dict[str, Any]
Definitions = dict[str, Schema]

# Under these keys a schema holds values of the application, never another schema.
OPAQUE: Final = frozenset(
    {"cls", "config", "default", "default_factory", "expected", "function", "members", "metadata", "serialization"}
)
# Under these keys a dict maps names of the application to schemas.
NAMED: Final = frozenset({"choices", "fields"})
_WRAPPERS: Final = frozenset(
    {"default", "nullable", "function-before", "function-after", "function-wrap", "custom-error"}
)
_MAPPINGS: Final = frozenset({"dict", "ordered-dict", "counter"})
_ANY: Final[Schema] = {"type": "any"}


def schema_of(cls: type[BaseModel]) -> Schema:
    """Returns the core schema of a class whose forward references are resolved."""
    return cast(Schema, cls.__pydantic_core_schema__)


def nodes(schema: Any) -> Iterator[Schema]:
    """Yields a schema and every schema inside it."""
    if isinstance(schema, dict):
        if "type" in schema:
            yield schema
        for key, value in schema.items():
            if key in NAMED and isinstance(value, dict):
                yield from nodes(list(value.values()))
            elif key not in OPAQUE:
                yield from nodes(value)
    elif isinstance(schema, list | tuple):
        for item in schema:
            yield from nodes(item)


class Hints:
    """Holds what is declared for one position of a payload: one schema, several for a union, none if it is unknown.

    Answers are cached, since some classes ask at every insert.

    Attributes:
        of_union: whether the reader chooses among several types.
        is_abstract: whether an abstract type like ``Sequence`` is declared, which several types fit.
        is_untyped: whether any JSON fits, as for ``Any``.
    """

    def __init__(self, schemas: Iterable[Schema], definitions: Definitions) -> None:
        self._declared = tuple(schemas)
        found = _Unwrapping(definitions)
        for schema in self._declared:
            found.unwrap(schema)
        # Several schemas without a union are the items of a union's containers, as in list[int] | list[float].
        self.of_union = found.of_union or (len(self._declared) > 1 and _are_unlike(found.schemas))
        self.is_abstract = found.is_abstract
        self.is_untyped = any(schema["type"] == "any" for schema in found.schemas)
        self._schemas = found.schemas
        self._definitions = found.definitions
        self._unlike_items = max((len(s["items_schema"]) for s in found.schemas if s["type"] == "tuple"), default=0)
        self._inner: dict[object, Hints] = {}

    @kept
    def hides_changes(self) -> bool:
        """Returns whether a value here can be read back changed and still compare equal."""
        between_several = len(self._declared) > 1 and self.has_lookalikes
        return between_several or any(_hides_changes(node, self._definitions) for node in self._all_nodes())

    @kept
    def tells_by_digits(self) -> bool:
        """Whether a union may be read by how a number is written: 1e16 is no int, but Postgres writes its digits."""
        unions = (node for node in self._all_nodes() if node["type"] in {"union", "tagged-union"})
        return any({"int", "float"} <= self._sorts_in(union) for union in unions)

    def _sorts_in(self, node: Schema) -> set[str]:
        return {each["type"] for each in Hints([node], self._definitions)._all_nodes()}

    @property
    def has_lookalikes(self) -> bool:
        """Returns whether values of two declared types can be equal, those of generic types included."""
        if any(sum(issubclass(cls, family) for cls in self.types) > 1 for family in _FAMILIES):
            return True
        kinds: dict[object, Schema] = {}
        return any(kinds.setdefault(_kind_of_parts(schema), schema) != schema for schema in self._schemas)

    @kept
    def types(self) -> frozenset[type]:
        """The declared types, as far as the schemas name them."""
        return frozenset(cls for schema in self._schemas for cls in _types_of(schema))

    def field(self, name: str, cls: type | None = None) -> "Hints":
        """Returns what is declared for a field of a model, dataclass or NamedTuple of this class."""
        return self._kept((name, cls), lambda: filter(None, (_field(schema, name) for schema in self._of_fields(cls))))

    def extra(self, cls: type | None = None) -> "Hints":
        """Returns what is declared for the extra fields that ``extra="allow"`` admits."""
        return self._kept((..., cls), lambda: (schema.get("extras_schema") or _ANY for schema in self._of_fields(cls)))

    def has_init_vars(self, cls: type) -> bool:
        """Returns whether this dataclass has an ``InitVar``, which is not written."""
        return any(_init_vars(schema) for schema in self._of_fields(cls))

    def key(self) -> "Hints":
        """Returns what is declared for the keys of a dictionary."""
        return self._kept("keys", lambda: (s.get("keys_schema", _ANY) for s in self._schemas if s["type"] in _MAPPINGS))

    def value(self, key: object) -> "Hints":
        """Returns what is declared for the value under a key of a dictionary, or of a TypedDict."""
        rows = [schema for schema in self._schemas if schema["type"] == "typed-dict"]
        if any(key in schema["fields"] for schema in rows):
            return self._kept((key,), lambda: [*self._of_values(), *self.field(str(key))._declared])
        return self._kept("values", lambda: [*self._of_values()] or (row.get("extras_schema") or _ANY for row in rows))

    def item(self, index: int) -> "Hints":
        """Returns what is declared for an item of a list, tuple or the like."""
        index = min(index, self._unlike_items)
        return self._kept(index, lambda: filter(None, (_item(schema, index) for schema in self._schemas)))

    def root(self, cls: type) -> "Hints":
        """Returns what is declared for the root of a ``RootModel`` of this class."""
        return self._kept(("root", cls), lambda: (s["schema"] for s in self._schemas if s.get("cls") is cls))

    def _kept(self, key: object, schemas: Callable[[], Iterable[Schema]]) -> "Hints":
        if key not in self._inner:
            self._inner[key] = Hints(schemas(), self._definitions)
        return self._inner[key]

    def _of_values(self) -> Iterator[Schema]:
        return (s.get("values_schema", _ANY) for s in self._schemas if s["type"] in _MAPPINGS)

    def _of_fields(self, cls: type | None) -> Iterator[Schema]:
        """Yields the schemas that hold fields, of this class if it is declared; those of models are unwrapped."""
        named = [schema for schema in self._schemas if cls is not None and cls in _types_of(schema)]
        for schema in named or self._schemas:
            if schema["type"] in {"model", "dataclass", "call"}:
                inner = schema["arguments_schema" if schema["type"] == "call" else "schema"]
                yield from Hints([inner], self._definitions)._schemas
            else:
                yield schema

    def _all_nodes(self) -> Iterator[Schema]:
        """Yields every schema that can apply to a value here, referenced ones included."""
        seen: set[str] = set()
        left: list[Schema] = list(self._declared)
        while left:
            for node in nodes(left.pop()):
                yield node
                ref = node.get("schema_ref")
                if ref in self._definitions and ref not in seen:
                    seen.add(ref)
                    left.append(self._definitions[ref])


class _Unwrapping:
    """Collects the schemas behind defaults, validators, references and unions."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.schemas: list[Schema] = []
        self.of_union = False
        self.is_abstract = False
        self._seen: set[str] = set()

    def unwrap(self, schema: Schema) -> None:
        match schema["type"]:
            case "definitions":
                self.definitions = self.definitions | {each["ref"]: each for each in schema["definitions"]}
                self.unwrap(schema["schema"])
            case "definition-ref":
                ref = schema["schema_ref"]
                if ref in self.definitions and ref not in self._seen:
                    self._seen.add(ref)
                    self.unwrap(self.definitions[ref])
            case "union" | "tagged-union":
                before = len(self.schemas)
                for choice in _choices(schema):
                    self.unwrap(choice)
                self.of_union |= _are_unlike(self.schemas[before:])
            case "literal":
                self.of_union |= len({type(value) for value in schema["expected"]}) > 1
                self.schemas.append(schema)
            case "json-or-python":
                self.is_abstract |= schema["json_schema"]["type"] == "list"
                self.unwrap(schema["json_schema"])
            case "lax-or-strict":
                self.unwrap(_path(schema) or schema["lax_schema"])
            case "chain":
                self.unwrap(schema["steps"][-1])
            case "json" | "any" if (inside := _inside(schema)) is not None:
                self.unwrap(inside)
            case kind if kind in _WRAPPERS:
                self._unwrap_inner(schema)
            case _:
                self.schemas.append(schema)

    def _unwrap_inner(self, schema: Schema) -> None:
        before = len(self.schemas)
        self.unwrap(schema["schema"])
        if schema["type"] == "function-wrap" and _makes_defaults(schema):
            self.schemas[before:] = [{**found, "cls": defaultdict} for found in self.schemas[before:]]


def _inside(schema: Schema) -> Schema | None:
    """Returns the schema of what a text of JSON holds, or of what ``SkipValidation`` leaves unchecked; else None."""
    if schema["type"] == "json":
        return cast(Schema, schema.get("schema", _ANY))
    return cast("Schema | None", schema.get("serialization", {}).get("schema"))


def _path(schema: Schema) -> Schema | None:
    """Returns a schema with the class of the paths that are read, ``PosixPath`` for ``Path``; None if none are."""
    declared = schema["strict_schema"].get("python_schema", _ANY).get("cls")
    if not (isinstance(declared, type) and issubclass(declared, PurePath)):
        return None
    try:
        return {"type": "path", "cls": type(declared())}
    except Exception:  # noqa: BLE001 - nobody can make a WindowsPath elsewhere, and a subclass may refuse
        return {"type": "path", "cls": declared}


def _are_unlike(schemas: list[Schema]) -> bool:
    """Returns whether the schemas are of several types."""
    return len({(schema["type"], schema.get("cls")) for schema in schemas}) > 1


def _choices(schema: Schema) -> list[Schema]:
    choices = schema["choices"]
    found = choices.values() if isinstance(choices, dict) else choices
    return [choice[0] if isinstance(choice, tuple) else choice for choice in found]


def _field(schema: Schema, name: str) -> Schema | None:
    fields: Any = schema.get("fields", schema.get("arguments_schema", ()))
    if isinstance(fields, dict):
        found = fields.get(name)
    else:
        found = next((field for field in fields if field.get("name") == name), None)
    return None if found is None else found["schema"]


def _init_vars(schema: Schema) -> bool:
    return schema["type"] == "dataclass-args" and any(field.get("init_only") for field in schema["fields"])


def _item(schema: Schema, index: int) -> Schema | None:
    items = schema.get("items_schema", _ANY if schema["type"] in {"list", "set", "frozenset", "deque"} else None)
    if not isinstance(items, list):
        return items
    variadic = schema.get("variadic_item_index")
    if variadic is not None and index >= variadic:
        index = variadic
    return items[index] if index < len(items) else None


# Changes that equality does not show ----------------------------------------------------------------------------------

_TYPES: Final[dict[str, type]] = {
    "bool": bool,
    "int": int,
    "float": float,
    "decimal": Decimal,
    "str": str,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "counter": Counter,
    "ordered-dict": OrderedDict,
    "typed-dict": dict,
    "bytes": bytes,
    "complex": complex,
    "date": date,
    "datetime": datetime,
    "time": time,
    "timedelta": timedelta,
    "uuid": UUID,
    "fraction": Fraction,
}
_FAMILIES: Final[tuple[tuple[type, ...], ...]] = ((Number,), (str,), (tuple,), (set, frozenset), (dict,), (PurePath,))
"""Families of types: values of different types in the same family can be equal."""
_OF_PARTS: Final = (list, tuple, set, frozenset, dict, deque)


def _types_of(schema: Schema) -> set[type]:
    if schema["type"] == "literal":
        return {type(value) for value in schema["expected"]}
    if schema["type"] in _TYPES:
        return {schema.get("cls") or _TYPES[schema["type"]]}
    cls = schema["function"] if schema["type"] == "call" else schema.get("cls")
    return {cls} if isinstance(cls, type) else set()


def _kind_of_parts(schema: Schema) -> object:
    """Returns the same for two schemas whose values are equal if their parts are: two lists, or one generic model."""
    cls = next(iter(_types_of(schema)), None)
    if cls is not None and issubclass(cls, BaseModel):
        return cls.__pydantic_generic_metadata__["origin"] or cls
    if schema["type"] == "dataclass":
        return cls
    return next((kind for kind in _OF_PARTS if cls is not None and issubclass(cls, kind)), id(schema))


def _hides_changes(node: Schema, definitions: Definitions) -> bool:
    match node["type"]:
        case "time":  # its zone is not written, and the time without it can still compare equal
            return True
        case "ordered-dict" | "deque":  # the order of keys, or maxlen, can be lost
            return True
        case "function-wrap" if _makes_defaults(node) or _makes_deque(node):
            return True
        case "union" | "tagged-union" | "literal":
            return Hints([node], definitions).has_lookalikes
        case "dataclass-args":
            return _init_vars(node)
        case "model":
            return "__eq__" in _members(node["cls"], BaseModel)
        case "dataclass":
            cls = node["cls"]
            fields = dataclasses.fields(cls)
            takes_extras = node.get("config", {}).get("extra_fields_behavior") == "allow"
            return takes_extras or not all(field.compare for field in fields) or not cls.__dataclass_params__.eq
        case _:
            return node.get("cls") is OrderedDict


def _makes_defaults(node: Schema) -> bool:
    """Returns whether this is pydantic's validator of a ``defaultdict``."""
    function = node["function"].get("function")
    return "default_default_factory" in getattr(function, "keywords", ())


def _makes_deque(node: Schema) -> bool:
    """Returns whether this is the validator that makes a ``deque`` with its maxlen in pydantic before 2.14."""
    return getattr(node["function"].get("function"), "__name__", "") == "deque_validator"


def _members(cls: type, base: type) -> set[str]:
    return {name for each in cls.__mro__ if each not in base.__mro__ for name in vars(each)}
