"""Reads what statements return, whatever was written into the tables by hand."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from fang_core.errors import UnreadablePayload
from fang_core.record import Task, TaskState, as_progress
from fang_core.schedules.stored import STORED, ScheduleInfo
from fang_core.words.stored_json import from_json
from fang_postgres.names import TASK_COLUMNS
from fang_postgres.statement import Rows


def as_task(row: Sequence[Any]) -> Task:
    """Returns the task of a whole row, as ``fragments.task_columns`` reads it. Raises ``UnreadablePayload``."""
    values = dict(zip(TASK_COLUMNS, row, strict=False))  # more may follow
    values["metadata"] = _from_json(values["metadata"], row[0])
    values["errors"] = tuple(_from_json(values["errors"], row[0]))
    values["state"] = TaskState(values["state"])
    for name in ("headers", "cancel_request"):
        if values[name] is not None:
            values[name] = as_texts(values[name])
    return Task(**values)


def found_task(row: Sequence[Any]) -> Task:
    """Returns the task of a row that also has the progress of its run."""
    task = as_task(row)
    return task if row[-1] is None else task._replace(progress=as_progress(as_object(row[-1])))


_JSON_OF_SCHEDULES: Final = tuple(STORED.index(name) for name in ("options", "declared"))


def as_schedule(row: Sequence[Any]) -> ScheduleInfo:
    """Returns the schedule of a row, as ``stored_schedules.schedule_columns`` reads it."""
    values = list(row[: len(STORED)])  # more may follow
    for place in _JSON_OF_SCHEDULES:
        values[place] = None if values[place] is None else as_object(values[place])
    return ScheduleInfo(*values)


def _from_json(text: str, task_id: UUID) -> Any:
    try:
        return from_json(text)
    except ValueError:  # jsonb holds longer numbers and deeper nesting than any payload
        raise UnreadablePayload(f"the row of task {task_id} cannot be read: its JSON is too deep or too long") from None


def as_texts(text: str) -> dict[str, str]:
    """Returns the texts in a JSON object by name; the table does not check what it holds."""
    value = as_json(text)
    return {name: each for name, each in value.items() if isinstance(each, str)} if isinstance(value, dict) else {}


def as_object(text: str | None) -> dict[str, Any]:
    """Returns the object that a JSON text holds; an empty one if it holds something else, or cannot be read."""
    value = as_json(text)
    return value if isinstance(value, dict) else {}


def as_json(text: str | None) -> Any:
    """Returns the value that a JSON text holds; None if there is none, or it cannot be read."""
    try:
        return from_json(text or "null")
    except ValueError:  # see ``_from_json``
        return None


def as_ids(rows: Rows) -> set[UUID]:
    """Returns the ids in the first column."""
    return {row[0] for row in rows}


def as_count(rows: Rows) -> int:
    """Returns the number in the only row."""
    return int(rows[0][0])


def as_nothing(rows: Rows) -> None:
    """Returns None: the rows say nothing."""
