"""Makes the rows of tables of tasks: what a reader wants to know of a task at a glance, with secrets hidden."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.masking.masks import Masks, masks_of
from fang_core.record import Task, payload_of
from fang_core.tasks.life import when

SHOWN: Final = 160
"""Characters of a payload, or of an error, in a row."""


class TaskRow(NamedTuple):
    """One row: the task's id, kind, type and state, the time that matters in its state, and how often it ran."""

    id: UUID
    kind: str
    task_type: str
    state: str
    verb: str
    at: datetime
    attempt: int
    priority: int
    text: str
    is_error: bool


def rows_of(tasks: Iterable[Task], words: frozenset[str]) -> list[TaskRow]:
    """Returns the rows of tasks. ``words`` are parts of the names of masked fields."""
    masks: dict[str, Masks] = {}
    rows = []
    for task in tasks:
        if task.kind not in masks:
            masks[task.kind] = masks_of(task.kind, words)
        rows.append(_row(task, masks[task.kind]))
    return rows


def _row(task: Task, masks: Masks) -> TaskRow:
    verb, at = when(task)
    text = task.error_message or short(masks.beginning(payload_of(task.metadata), SHOWN))
    return TaskRow(
        task.id,
        task.kind,
        task.task_type,
        task.state,
        verb,
        at,
        task.attempt,
        task.priority,
        text,
        is_error=bool(task.error_message),
    )


def short(value: Any) -> str:
    """Returns the beginning of a value, as JSON on one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
