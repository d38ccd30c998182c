"""Turns the task of a schedule into what its row in the database holds, and back."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from fang_core.errors import FangError, UsageError
from fang_core.schedules.stored import ScheduleInfo
from fang_core.tasks.insertion import NewTask, refuse_terms
from fang_core.tasks.options import COLUMNS, checked_options
from fang_core.tasks.payloads import codec
from fang_core.tasks.registry import REGISTRY
from fang_core.words.stored_json import from_json

_BESIDE: Final = ("uniq_hash", "expires", "lane")
"""What a task of a schedule has besides its id, its payload, its kind and the options in ``COLUMNS``."""


def stored_options(row: NewTask) -> dict[str, Any]:
    """Returns what ``ScheduleInfo.options`` holds of a task: all but its payload. Raises ``UsageError``."""
    refuse_terms(row)
    values = dict(zip(COLUMNS, row.options, strict=True)) | {name: getattr(row, name) for name in _BESIDE}
    return {name: _as_json(value) for name, value in values.items() if value is not None}


def _as_json(value: Any) -> Any:
    if isinstance(value, timedelta):
        return {"seconds": value.total_seconds()}
    return {"time": value.isoformat()} if isinstance(value, datetime) else value


def _from_json(value: Any) -> Any:
    match value:
        case {"seconds": int() | float() as seconds}:
            return timedelta(seconds=seconds)
        case {"time": str() as time}:
            return datetime.fromisoformat(time)
    return value


def stored_row(info: ScheduleInfo, task_id: UUID) -> NewTask:
    """Returns a task of a schedule in the database. Raises ``UsageError`` if the row, which anybody may have edited,
    does not hold one."""
    options: Mapping[str, Any] = info.options or {}
    try:
        values = {name: _from_json(value) for name, value in options.items()}
    except (AttributeError, ValueError, OverflowError):
        raise _no_task(info) from None
    if info.metadata is None or info.kind is None or "task_type" not in values:
        raise _no_task(info)
    try:  # else the backend refuses each tick, or cannot read the tasks that it makes
        given: Any = {name: values[name] for name in COLUMNS if values.get(name) is not None}
        checked_options(given)
        is_payload = isinstance(from_json(info.metadata)["type"], str)
    except UsageError as error:
        raise _no_task(info, f" ({error})") from None
    except (ValueError, KeyError, TypeError):
        is_payload = False
    if not is_payload:
        raise _no_task(info)
    columns = tuple(values.get(name) for name in COLUMNS)
    beside = {name: values.get(name) for name in _BESIDE}
    beside["lane"] = _lane_now(info, info.kind, beside["lane"])
    return NewTask(task_id, info.metadata, info.kind, columns, **beside)


def _lane_now(info: ScheduleInfo, kind: str, stored: str | None) -> str | None:
    """Returns the lane of its tasks as their class makes it now: it may have got limits, or another key, since ``put``.

    It is the stored one where the class is not known, or has no lanes, or does not read the payload any more.
    """
    cls = REGISTRY.get(kind)
    lane_of = None if cls is None else cls.__fang_options__.lane_of
    if cls is None or lane_of is None:
        return stored
    try:
        return lane_of(codec.decode(cls, json.dumps(info.payload)))
    except (FangError, ValueError):
        return stored


def _no_task(info: ScheduleInfo, why: str = "") -> UsageError:
    return UsageError(f"the row of schedule {info.name!r:.100} holds no task{why}: put it again")
