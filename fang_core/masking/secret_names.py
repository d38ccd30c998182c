"""Finds the fields of a class that hold secrets of pydantic's: ``SecretStr``, ``SecretBytes``, ``Secret[...]``.

They are looked for in the core schema: a JSON Schema may be written by hand, and does not tell of ``Secret[int]``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from pydantic import BaseModel, SecretBytes, SecretStr

from fang_core.tasks.payloads.coreschema import NAMED, OPAQUE, Schema, nodes, schema_of

_WITH_NAMES: Final = frozenset({"model-fields", "typed-dict", "dataclass-args"})
_CACHE: "WeakKeyDictionary[type[BaseModel], tuple[Any, frozenset[str] | None]]" = WeakKeyDictionary()


def secret_names(cls: type[BaseModel]) -> frozenset[str] | None:
    """Returns the names and aliases of all fields, at any depth, whose values hold a secret.

    None if that is unknown, since the class cannot be completed.
    """
    cached = _CACHE.get(cls)
    if cached is None or cached[0] is not cls.__pydantic_validator__:
        try:
            cls.model_rebuild()
            names = frozenset(_names(schema_of(cls)))
        except Exception:  # noqa: BLE001 - types may have functions of their own that raise anything
            names = None
        cached = _CACHE[cls] = cls.__pydantic_validator__, names
    return cached[1]


def _names(root: Schema) -> Iterator[str]:
    every = list(nodes(root))
    definitions = {node["ref"]: node for node in every if "ref" in node}
    for node in every:
        if node["type"] in _WITH_NAMES:
            fields = node["fields"]
            for name, field in (
                fields.items() if isinstance(fields, Mapping) else ((each["name"], each) for each in fields)
            ):
                if _holds_secret(field, definitions, set()):
                    yield name
                    yield from _aliases(field.get("validation_alias"))


def _aliases(alias: Any) -> Iterator[str]:
    """Yields the keys under which older releases may have written a field."""
    if isinstance(alias, str):
        yield alias
    elif isinstance(alias, list):
        for each in alias:
            yield from _aliases(each)


def _holds_secret(node: Any, definitions: Mapping[str, Schema], seen: set[str]) -> bool:
    """Returns whether a field is a secret or a container of such. Fields of models inside of it have own names."""
    if isinstance(node, list | tuple):
        return any(_holds_secret(each, definitions, seen) for each in node)
    if not isinstance(node, dict) or node.get("type") in _WITH_NAMES:
        return False
    if _is_secret(node):
        return True
    reference = node.get("schema_ref")
    if isinstance(reference, str) and reference not in seen:
        seen.add(reference)
        if _holds_secret(definitions.get(reference), definitions, seen):
            return True
    return any(
        _holds_secret(list(value.values()) if key in NAMED and isinstance(value, dict) else value, definitions, seen)
        for key, value in node.items()
        if key not in OPAQUE
    )


def _is_secret(node: Schema) -> bool:
    function = node.get("function")
    called = function.get("function") if isinstance(function, dict) else None
    if isinstance(called, type):
        return issubclass(called, SecretStr | SecretBytes)
    # Secret[...] calls functions that stand inside of its method.
    place = (getattr(called, "__module__", ""), getattr(called, "__qualname__", ""))
    return place[0] == "pydantic.types" and place[1].startswith("Secret.")
