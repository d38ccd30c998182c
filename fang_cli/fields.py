"""Reads fields of a payload that are written one by one, as in order.id=7. Raises ``UsageError``, in one line."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fang_cli.arguments import pair
from fang_core.errors import UsageError


def value_of(text: str) -> Any:
    """Returns the value of a JSON text, or else the text itself. Raises ``UsageError`` if it is nested too deeply."""
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise UsageError("a value is nested too deeply") from None


def with_fields(fields: Mapping[str, Any], name: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Returns a copy of an object with other values in it; dots lead into inner objects. ``name`` is the option's."""
    new = dict(fields)
    written: set[tuple[str, ...]] = set()
    for each in pairs:
        path, text = pair(name, each)
        words = tuple(path.split("."))
        for other in written:
            if other == words[: len(other)] or words == other[: len(words)]:
                raise UsageError(f"{name}: {'.'.join(other)!r:.60} and {path!r:.60} say two values for the same field")
        written.add(words)
        place = new
        for word in words[:-1]:
            inner = place.get(word, {})
            if not isinstance(inner, Mapping):
                raise UsageError(f"{name}: {word!r:.60} is no object, so that {path!r:.60} is not in it")
            place[word] = dict(inner)
            place = place[word]
        place[words[-1]] = value_of(text)
    return new
