"""Reads JSON that anybody may have written into a row, up to the depth that payloads may have.

``json.loads`` reads what is nested 990 to 10,000 levels deep, by the version of Python; a function that walks through
that ends with a ``RecursionError``. This module imports nothing that takes time: ``fang status`` needs it.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

MOST_DEPTH: Final = 200
"""Levels of what is read. Those of payloads are fewer: ``payloads.payload.MAX_DEPTH``."""


def from_json(text: str | bytes) -> Any:
    """Returns what JSON text stands for. Raises ``ValueError``, also for what is nested too deeply."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if _openings(text) > MOST_DEPTH and _is_too_deep(value):  # nearly no text has so many
        raise ValueError("the JSON is nested too deeply")
    return value


def _openings(text: str | bytes) -> int:
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _is_too_deep(value: Any) -> bool:
    level: list[Any] = [[value]]
    for _ in range(MOST_DEPTH + 1):
        level = [inner for each in level for inner in _inside(each) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
