"""Hides what a task's class calls a secret."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic.errors import PydanticUserError

from fang_core.tasks.runnable import BaseRunnable

HIDDEN: Final = "**********"


def masked(cls: type[BaseRunnable] | None, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a payload, with asterisks for the values of fields that are a ``SecretStr`` in the class.

    Without a class, or if it cannot describe its fields, each value is hidden, since nothing says which are secret.
    """
    names = None if cls is None else secret_names(cls)
    if names is None:
        return dict.fromkeys(payload, HIDDEN)
    return {key: _masked(names, key, value) for key, value in payload.items()}


def _masked(names: frozenset[str], key: str, value: Any) -> Any:
    if key in names:
        return HIDDEN
    if isinstance(value, Mapping):
        return {inner: _masked(names, inner, each) for inner, each in value.items()}
    return [_masked(names, "", each) for each in value] if isinstance(value, list) else value


def secret_names(cls: type[BaseRunnable]) -> frozenset[str] | None:
    """Returns the names of fields, at any depth, that hold a secret of pydantic's; None if the class cannot say."""
    try:
        schemas = [cls.model_json_schema(by_alias=False), cls.model_json_schema(by_alias=True)]
    except PydanticUserError:
        return None
    return frozenset(name for schema in schemas for name in _names(schema))


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, field in (node.get("properties") or {}).items():
            if _is_secret(field):
                yield name
        for value in node.values():
            yield from _names(value)
    elif isinstance(node, list):
        for value in node:
            yield from _names(value)


def _is_secret(node: Any) -> bool:
    """Returns whether a field's schema has a secret in it, without those of models, which have names of their own."""
    if isinstance(node, Mapping):
        if node.get("writeOnly") and node.get("format") in ("password", "binary"):
            return True
        return any(_is_secret(value) for value in node.values())
    return isinstance(node, list) and any(map(_is_secret, node))
