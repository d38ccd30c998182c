"""Shows what ``fang schedules`` has read: as JSON for programs, or as text for people."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from fang_cli.json_text import as_json as document
from fang_core.errors import UsageError
from fang_core.masking.masks import masks_of
from fang_core.monitoring.figures import UnservedSchedule
from fang_core.monitoring.unserved import types_of, unserved_schedule
from fang_core.record import DEFAULT_MAX_RETRIES, PoolInfo
from fang_core.schedules.stored import ScheduleInfo
from fang_core.schedules.upcoming import Upcoming
from fang_core.words.naming import meant
from fang_core.words.spans import exact_span
from fang_core.words.texts import printable

_MOST_PAYLOAD: Final = 120
"""How many characters of a payload people see; programs get all."""


def as_json(infos: Sequence[ScheduleInfo], words: frozenset[str]) -> str:
    """Returns JSON with stable keys, times in ISO 8601 and spans in seconds, without what these words mask."""
    return document([_as_object(info, words) for info in infos])


def _as_object(info: ScheduleInfo, words: frozenset[str]) -> dict[str, Any]:
    values = info._asdict()
    upcoming = values.pop("upcoming")
    values.pop("metadata")
    shown = {name: _as_value(value) for name, value in values.items()}
    return shown | {"payload": _payload(info, words), "next": [_as_mark(tick) for tick in upcoming]}


def _payload(info: ScheduleInfo, words: frozenset[str]) -> dict[str, Any]:
    """Returns the fields of its tasks, without those that are masked by their names, or by their class."""
    shown: dict[str, Any] = masks_of(info.kind or info.name, words).masked(info.payload)
    return shown


def _as_value(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case str() | bool() | dict() | None:
            return value
    return str(value)


def _as_mark(tick: Upcoming) -> dict[str, Any]:
    named = None if tick.named is None else tick.named.isoformat()
    return {"at": tick.at.isoformat(), "shift": tick.shift, "named": named}


# For people -----------------------------------------------------------------------------------------------------------


def as_text(infos: Sequence[ScheduleInfo], words: frozenset[str], pools: Sequence[PoolInfo]) -> str:
    """Returns a paragraph for each schedule, without what these words mask, and what pools lack to make its ticks."""
    return "\n\n".join("\n".join(map(printable, _lines(info, words, pools))) for info in infos) or "no schedules"


def of_pause(info: ScheduleInfo) -> str:
    """Returns a line that says that a schedule is paused."""
    return printable(f"schedule {info.name} is paused{_until(info)}")


def _lines(info: ScheduleInfo, words: frozenset[str], pools: Sequence[PoolInfo]) -> Iterator[str]:
    yield info.name
    if info.paused:
        since = _who(info.paused_at, info.paused_by, info.pause_reason)
        yield f"  paused  {_until(info).strip() or 'until it is resumed'}, since {since}"
    yield f"  task    {_task(info, words)}"
    yield f"  due     {_due(info)}"
    match unserved_schedule(info, pools):
        case UnservedSchedule(_, task_type, None):
            yield f"  pools   none serves its task type{meant(task_type, sorted(types_of(pools)))}, so no tick is made"
        case UnservedSchedule():
            yield "  pools   none of its task type has its class, so no tick is made"
    for number, tick in enumerate(info.upcoming):
        yield f"  {'next' if number == 0 else '':7} {tick}"
    if not info.upcoming and not info.paused:
        yield f"  next    never{_why_never(info)}"
    if info.changed_at is not None:
        yield f"  changed {_who(info.changed_at, info.changed_by, info.change_reason)}"
    if info.is_stored and info.declared is not None:
        yield f"  class   {_declared(info)}, in place of which this was put"


def _why_never(info: ScheduleInfo) -> str:
    """Says what is wrong with a row that cannot be read, as after an update of the zones."""
    try:
        _ = info.schedule
    except UsageError as error:
        return f": {error}"
    return ""


def _task(info: ScheduleInfo, words: frozenset[str]) -> str:
    if not info.is_stored:
        kind = (info.declared or {}).get("kind", info.name)
        return f"{kind} (task type {info.served_as or '?'}), as its class says"
    payload = json.dumps(_payload(info, words), ensure_ascii=False)
    cut = payload if len(payload) <= _MOST_PAYLOAD else payload[:_MOST_PAYLOAD] + "..."
    return f"{info.kind} {cut} ({', '.join((f'task type {info.task_type}', *_options(info)))})"


def _options(info: ScheduleInfo) -> Iterator[str]:
    """Yields the options of its tasks that are not the defaults of tasks."""
    options = info.options or {}
    if options.get("priority"):
        yield f"priority {options['priority']}"
    if options.get("max_retries", DEFAULT_MAX_RETRIES) != DEFAULT_MAX_RETRIES:
        yield f"max retries {options['max_retries']}"
    if options.get("uniq_hash"):
        yield "unique"
    for name, told in (("timeout", "timeout"), ("expires", "expires after")):
        match options.get(name):
            case {"seconds": float() | int() as seconds}:
                yield f"{told} {exact_span(timedelta(seconds=seconds))}"
            case {"time": str() as time}:
                yield f"expires at {time}"


def _due(info: ScheduleInfo) -> str:
    if not info.is_stored:
        return _declared(info)
    zone = info.tz or "UTC"
    if info.cron is not None:
        due = f"{info.cron} in {zone}"
    elif info.every is not None:
        due = f"every {exact_span(info.every)}, shown in {zone}"
    else:
        due = "once" if info.at is None else f"once, at {_time(info, info.at)}"
    parts = [due, f"overlap {info.overlap}", f"missed {info.missed}"]
    if info.missed_within is not None:
        parts.append(f"up to {exact_span(info.missed_within)} late")
    if info.jitter is not None:
        parts.append(f"jitter {exact_span(info.jitter)}")
    if info.until is not None:
        parts.append(f"until {_time(info, info.until)}")
    if info.pause_on_failure:
        parts.append("pauses if its task fails")
    return ", ".join(parts)


def _declared(info: ScheduleInfo) -> str:
    declared = info.declared or {}
    if "cron" in declared:
        return f"{declared['cron']} in {declared.get('tz') or 'UTC'}"
    return f"once, at {declared['at']}" if "at" in declared else "not known"


def _until(info: ScheduleInfo) -> str:
    return "" if info.paused_until is None else f" until {_time(info, info.paused_until)}"


def _time(info: ScheduleInfo, moment: datetime) -> str:
    """Returns a time as clocks in the zone of the schedule show it."""
    return moment.astimezone(info.zone).isoformat(sep=" ", timespec="seconds")


def _who(at: datetime | None, by: str | None, reason: str | None) -> str:
    when = "" if at is None else at.astimezone().isoformat(sep=" ", timespec="seconds")
    return f"{when}{f' by {by}' if by else ''}{f': {reason}' if reason else ''}"
