"""Walks over the values of a task's fields, and finds those that cannot be stored."""

import math
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pydantic_core import from_json

from fang_core.words.canonical import children

MAX_DEPTH: Final = 190  # pydantic-core's reader stops at 200
_MAX_INT_BITS: Final = 14_000  # about 4300 digits, the most that int() reads from text

Fault = tuple[str, str]
"""(path, reason)"""


def faults(value: Any, path: str = "", depth: int = 0, above: frozenset[int] = frozenset()) -> Iterator[Fault]:
    """Yields the path of each value that cannot be stored, with the reason."""
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
        yield from faults(child, path + step, depth + 1, above | {id(value)})


def _leaf_fault(value: Any) -> str | None:
    match value:
        case str():
            if "\0" in value:
                return "the text contains NUL (\\x00), which no backend takes, since Postgres cannot store it"
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


def path_of(metadata: str, character: str) -> str | None:
    """Returns the path to the first text in a row's metadata that holds this character; None if none does."""
    if character not in metadata:
        return None
    fields = from_json(metadata).items()
    return next((path for name, value in fields for path in _paths_of(value, f".{name}", character)), "")


def _paths_of(value: Any, path: str, character: str) -> Iterator[str]:
    if isinstance(value, str) and character in value:
        yield path
    for step, child in children(value):
        yield from _paths_of(child, path + step, character)
