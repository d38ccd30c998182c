"""Writes rows as JSON text, for a backend that keeps them whole: those of schedules, managed types and history.

A reader ignores fields that it does not know, and takes the default for those that are missing, so that versions can
work side by side. Times are in ISO 8601, and spans in microseconds.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from fang_core.backends.managed import ManagedType
from fang_core.errors import BackendError
from fang_core.flow.limits import rules_as_json, rules_from_json
from fang_core.flow.settings import effective
from fang_core.monitoring.buckets import Histogram
from fang_core.monitoring.history import StatsRow
from fang_core.remarks import Remark
from fang_core.schedules.stored import STORED, ScheduleInfo
from fang_core.words.stored_json import from_json


class Unreadable(BackendError):
    """Says that a row cannot be read, since another program has written it, and must not be left out."""


_MICROSECOND: Final = timedelta(microseconds=1)


def schedule_as_json(info: ScheduleInfo) -> str:
    """Returns the row of a schedule as text, without its next ticks."""
    return _text({name: getattr(info, name) for name in STORED})


def schedule_from_json(text: str | bytes) -> ScheduleInfo:
    """Returns the schedule of such a text."""
    return ScheduleInfo(**_fields(text, ScheduleInfo._fields, _OF_SCHEDULE))


def schedule_named(name: str, text: str | bytes) -> ScheduleInfo:
    """Returns the schedule of such a text. Raises ``ValueError``, among others, if it has another name."""
    info = schedule_from_json(text)
    if info.name != name:
        raise ValueError("the text is of another schedule")
    return info


def managed_as_json(managed: ManagedType) -> str:
    """Returns a managed type as text, without the rates of its keys, ``tats``: there may be thousands of them."""
    fields = {name: getattr(managed, name) for name in _OF_MANAGED} | {
        "declared": {kind: rules_as_json(rules) for kind, rules in managed.declared.items()},
        "changed": None if managed.changed is None else rules_as_json(managed.changed),
    }
    return _text(fields)


def managed_from_json(text: str | bytes) -> ManagedType:
    """Returns the managed type of such a text; its ``settings`` are what its rules come to."""
    fields = _fields(text, _OF_MANAGED, _OF_MANAGED)
    managed = ManagedType(**fields)
    managed.settings = effective(managed.declared, managed.changed)
    return managed


def stats_as_json(row: StatsRow) -> str:
    """Returns a row of history as text, without what is zero or empty."""
    fields = row._asdict() | {"queue": dict(row.queue), "run": dict(row.run)}
    return _text({name: value for name, value in fields.items() if value})


def stats_from_json(text: str | bytes) -> StatsRow:
    """Returns the row of such a text."""
    return StatsRow(**_fields(text, StatsRow._fields, {"queue": _histogram, "run": _histogram}))


_Readers = Mapping[str, Callable[[Any], Any]]


def _text(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, default=_written, separators=(",", ":"), ensure_ascii=False)


def _written(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value // _MICROSECOND
        case UUID():
            return str(value)
    return dict(value)  # a mapping that is no dict


def _fields(text: str | bytes, known: Iterable[str], readers: _Readers) -> dict[str, Any]:
    written: dict[str, Any] = from_json(text)
    return {
        name: readers[name](written[name]) if name in readers and written[name] is not None else written[name]
        for name in known
        if name in written
    }


def _span(microseconds: int) -> timedelta:
    return timedelta(microseconds=microseconds)


def _remark(values: list[str | None]) -> Remark:
    return Remark(*values)


def _histogram(written: Mapping[str, int]) -> Histogram:
    return {int(index): count for index, count in written.items()}


def _declared(written: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: rules_from_json(rules) for kind, rules in written.items()}


_TIME: Final = datetime.fromisoformat

_OF_SCHEDULE: Final[_Readers] = {
    **dict.fromkeys(("last_tick", "at", "anchor", "until", "paused_until", "paused_at", "changed_at"), _TIME),
    **dict.fromkeys(("every", "missed_within", "jitter"), _span),
    "last_task_id": UUID,
}

_OF_MANAGED: Final[_Readers] = {
    "declared": _declared,
    "changed": rules_from_json,
    "change_remark": _remark,
    "paused": bool,
    "pause_remark": _remark,
    "fetched_last": str,
    **dict.fromkeys(("changed_at", "paused_until", "paused_at", "tat"), _TIME),
}
