"""Writes what commands print with ``--json``: one document, times in ISO 8601, spans in seconds."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID


def as_json(value: object) -> str:
    """Returns a document with this value."""
    return json.dumps(plain(value), indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """Returns a value for JSON: of a named tuple or a dataclass an object with its fields as keys."""
    match value:
        case Enum():
            return plain(value.value)
        case float():
            return value if isfinite(value) else None  # JSON has no other numbers
        case None | bool() | int() | str():
            return value
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case UUID():
            return str(value)
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(each) for name, each in value._asdict().items()}
    return [plain(each) for each in value]
