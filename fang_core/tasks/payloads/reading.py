"""Reads the rows of a task class: by the names of its fields first, then by their aliases.

Rows are written by name. An alias is a field's name in an older release, as in
``validation_alias=AliasChoices("user_id", "uid")``. Pydantic alone looks for aliases first, and would take the value of
another field that has that name today.
"""

from typing import Any, Final

from pydantic_core import SchemaValidator

from fang_core.tasks.payloads.coreschema import NAMED, OPAQUE, Hints, Schema, nodes, schema_of
from fang_core.tasks.runnable import BaseRunnable

_FIELDS: Final = frozenset({"model-fields", "typed-dict", "dataclass-args"})


class Reader:
    """Reads the payloads of one class, as a worker does.

    Attributes:
        validate_json: reads the JSON text of a payload. Call it with this reader's ``by_alias`` and ``by_name``; a
            ``partial`` would be slower.
        hints: the declared types of the payload's parts.
        hides_changes: whether a task can be read back changed and still compare equal.
        tells_by_digits: whether 1e16 and 10000000000000000 can be read as values of two types.
        made_for: the class's validator when this reader was made. A class that was rebuilt since needs another reader.
    """

    __slots__ = ("by_alias", "by_name", "hides_changes", "hints", "made_for", "tells_by_digits", "validate_json")

    def __init__(self, cls: type[BaseRunnable]) -> None:
        schema = schema_of(cls)
        self.hints = Hints([schema], {})
        self.made_for: Any = cls.__pydantic_validator__
        if any(_needs_own_validator(node) for node in nodes(schema)):
            self.validate_json: Any = _built_from_scratch(_for_reading(schema)).validate_json
            self.by_alias, self.by_name = True, False
        else:
            self.validate_json = self.made_for.validate_json
            self.by_alias, self.by_name = False, True
        self.hides_changes = self.hints.hides_changes
        self.tells_by_digits = self.hides_changes or self.hints.tells_by_digits


def reader_of(cls: type[BaseRunnable]) -> Reader:
    """Returns the reader of a class, made at the first call, since forward references may be open until then."""
    reader: Reader | None = cls.__fang_reader__
    if reader is None or reader.made_for is not cls.__pydantic_validator__:  # it may be inherited from a base class
        cls.model_rebuild()
        cls.__fang_reader__ = reader = Reader(cls)
    return reader


def _built_from_scratch(schema: Schema) -> SchemaValidator:
    """Builds a validator without the ones that pydantic has built for the fields' classes: these put aliases first."""
    try:
        return SchemaValidator(schema, _use_prebuilt=False)
    except TypeError:  # pydantic 2.12 has no such argument, but rebuilds the classes that are not complete
        classes = {node["cls"] for node in nodes(schema) if node["type"] in {"model", "dataclass"}}
        complete = [cls for cls in classes if vars(cls).get("__pydantic_complete__")]
        try:
            for cls in complete:
                cls.__pydantic_complete__ = False
            return SchemaValidator(schema)
        finally:
            for cls in complete:
                cls.__pydantic_complete__ = True


def _needs_own_validator(node: Schema) -> bool:
    return "validation_alias" in node or node.get("now_op") == "future"


def _for_reading(node: Any) -> Any:
    """Returns a copy of a schema that takes names first, and drops checks that may only hold at the insert."""
    if isinstance(node, list | tuple):
        return type(node)(map(_for_reading, node))
    if not isinstance(node, dict):
        return node
    copy = {key: value if key in OPAQUE else _inner(key, value) for key, value in node.items()}
    if copy.get("now_op") == "future":
        del copy["now_op"]
    if copy.get("type") in _FIELDS:
        _put_names_first(copy["fields"])
    return copy


def _inner(key: str, value: Any) -> Any:
    if key in NAMED and isinstance(value, dict):
        return {name: _for_reading(each) for name, each in value.items()}
    return _for_reading(value)


def _put_names_first(fields: Any) -> None:
    """Drops aliases that are the name of another field: a key that names a field belongs to that field alone."""
    by_name = fields if isinstance(fields, dict) else {field["name"]: field for field in fields}
    for name, field in by_name.items():
        alias = field.get("validation_alias")
        if alias is not None:
            others = [path for path in _paths(alias) if path[0] not in by_name or path[0] == name]
            field["validation_alias"] = [[name], *others]


def _paths(alias: Any) -> list[list[str | int]]:
    if isinstance(alias, str):
        return [[alias]]
    return alias if isinstance(alias[0], list) else [alias]
