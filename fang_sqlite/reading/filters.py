"""Turns a ``TaskFilter`` into a condition on ``fang_tasks``."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from fang_core.tasks.selecting.filter import TaskFilter
from fang_sqlite.records import micros

_MOST_VALUES: Final = 30_000
"""SQLite takes 32,766 values of a statement."""


class Condition(NamedTuple):
    """A condition in SQL, with its values.

    Attributes:
        is_exact: whether it is all that the filter says; otherwise ``TaskFilter.matches`` decides among what it finds.
    """

    sql: str
    values: tuple[Any, ...]
    is_exact: bool


def where(which: TaskFilter) -> Condition:
    """Returns the condition of a filter."""
    parts = list(_parts(which))
    texts = " AND ".join(text for text, _ in parts) or "TRUE"
    return Condition(texts, tuple(value for _, values in parts for value in values), which.payload is None)


def _parts(which: TaskFilter) -> Iterator[tuple[str, list[Any]]]:
    for name, names in (("kind", which.kinds), ("task_type", which.task_types), ("state", which.states)):
        if names is not None:
            yield f"{name} IN (SELECT value FROM json_each(?))", [json.dumps(list(names))]
    for name, ids in (("id", which.ids), ("pool_id", which.pool_ids)):
        if ids is not None and len(ids) <= _MOST_VALUES // 2:
            yield f"{name} IN ({', '.join('?' * len(ids))})", [each.bytes for each in ids]
        elif ids is not None:
            yield f"hex({name}) IN (SELECT value FROM json_each(?))", [json.dumps([each.hex.upper() for each in ids])]
    for column, operator, time in (
        ("created_at", ">=", which.inserted_after),
        ("created_at", "<", which.inserted_before),
        ("updated_at", ">=", which.updated_after),
        ("updated_at", "<", which.updated_before),
        ("scheduled_at", ">=", which.due_after),
        ("scheduled_at", "<", which.due_before),
    ):
        if time is not None:
            yield f"{column} {operator} ?", [micros(time)]
    for header in (which.headers or {}).items():
        yield "EXISTS (SELECT 1 FROM json_each(headers) WHERE key = ? AND value = ?)", list(header)
    for name, value in (which.payload or {}).items():
        if name.isidentifier() and _is_found(value):
            yield "(json_valid(metadata) AND json_extract(metadata, ?) = ?)", [f'$."{name}"', value]
    if which.error is not None:
        yield "instr(error_message, ?) > 0", [which.error]


def _is_found(value: Any) -> bool:
    """Returns whether the engine can find a value in a payload. It does not tell true from 1, and other numbers and
    nested values are left to Python."""
    return isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**53)
