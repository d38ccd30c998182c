"""Shows task types: those that are paused or limited, and all of them; as JSON for programs, or as text for people."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from fang_cli.json_text import as_json
from fang_cli.managing.reading_types import QueueStatus
from fang_cli.tables import Number, print_table, stdout
from fang_cli.texts import time_of
from fang_core.flow.info import MOST_COUNTED, TypeInfo
from fang_core.flow.limits import FlowRule, FlowSettings, Gcra, rules_as_json
from fang_core.masking.keys import shown_type
from fang_core.monitoring.figures import PausedSchedule
from fang_core.words.spans import span
from fang_core.words.texts import counted

# Types that are paused or limited -------------------------------------------------------------------------------------


def types_as_json(types: Iterable[TypeInfo]) -> str:
    """Returns JSON with stable keys, times in ISO 8601 and spans in seconds."""
    return as_json([type_as_json(each) for each in types])


def type_as_json(info: TypeInfo) -> dict[str, Any]:
    """Returns a type for JSON."""
    holds = info.settings
    return {
        "task_type": info.task_type,
        "paused": info.is_paused,
        "paused_until": info.paused_until,
        "paused_at": info.paused_at,
        "paused_by": info.paused_by,
        "pause_reason": info.pause_reason,
        "holds": {
            "max_running": holds.max_running,
            "max_running_per_key": holds.max_running_per_key,
            "rate": _rate_as_json(holds.rate),
            "key_rate": _rate_as_json(holds.key_rate),
            "fair": holds.fair,
            "weights": holds.weights,
        },
        "declared": {kind: rules_as_json(rules) for kind, rules in info.declared.items()},
        "set": None if info.changed is None else rules_as_json(info.changed),
        "set_at": info.changed_at,
        "set_by": info.changed_by,
        "set_reason": info.change_reason,
        "running": info.running,
        "waiting": info.waiting,
        "more_waiting": info.waiting == MOST_COUNTED,
    }


def _rate_as_json(rate: Gcra | None) -> dict[str, Any] | None:
    return None if rate is None else {"interval_seconds": rate.interval.total_seconds(), "burst": rate.burst}


def show_types(types: Sequence[TypeInfo]) -> None:
    """Prints the types as a table."""
    print_table(stdout(), "task types that are paused or limited", *paused_or_limited(types))


def paused_or_limited(types: Sequence[TypeInfo]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Returns the columns and the rows of a table of such types."""
    columns = ("task type", "holds", "running", "waiting", "declared in code", "set by hand", "paused")
    return columns, [
        (
            info.task_type,
            told_settings(info.settings),
            Number(info.running, False),
            Number(info.waiting, info.waiting == MOST_COUNTED),
            "; ".join(f"{kind}: {told_rules(rules)}" for kind, rules in sorted(info.declared.items())),
            _told_change(info),
            _told_pause_of(info),
        )
        for info in types
    ]


def masked(types: Iterable[TypeInfo], words: frozenset[str]) -> list[TypeInfo]:
    """Returns the types without the keys of weights that are made of a masked field, as the page shows them."""
    return [shown_type(info, words) for info in types]


def told_rules(rules: Sequence[FlowRule]) -> str:
    """Returns limits in words."""
    return "; ".join(map(str, rules)) or "no limits"


def told_settings(holds: FlowSettings) -> str:
    """Returns what holds for a type in words."""
    told = []
    if holds.max_running is not None:
        told.append(f"{holds.max_running} at once")
    if holds.max_running_per_key is not None:
        told.append(f"{holds.max_running_per_key} at once for each key")
    for rate, of in ((holds.rate, ""), (holds.key_rate, " for each key")):
        if rate is not None:
            told.append(f"{rate}{of}{f', {rate.burst} at first' if rate.burst > 1 else ''}")
    if holds.fair:
        told.append("keys take turns")
    return "; ".join(told) or "no limits"


def _told_change(info: TypeInfo) -> str:
    if info.changed is None:
        return ""
    return f"{told_rules(info.changed)}{_told_remark(info.changed_at, info.changed_by, info.change_reason)}"


def _told_pause_of(info: TypeInfo) -> str:
    return told_pause(info) if info.is_paused else ""


def told_pause(paused: TypeInfo | PausedSchedule) -> str:
    """Returns until when it is paused, since when, by whom and why."""
    until = "until it is resumed" if paused.paused_until is None else f"until {time_of(paused.paused_until)}"
    return f"{until}{_told_remark(paused.paused_at, paused.paused_by, paused.pause_reason)}"


def told_tasks(info: TypeInfo) -> str:
    """Returns what becomes of the tasks of a type that has been paused."""
    running = counted(info.running, "of its tasks runs, and goes on", "of its tasks run, and go on")
    waiting = counted(info.waiting, "waits", "wait")
    return f"{running if info.running else 'none of its tasks runs'}; {waiting if info.waiting else 'none waits'}"


def _told_remark(at: datetime | None, by: str | None, reason: str | None) -> str:
    return f", since {time_of(at)}{f' by {by}' if by else ''}{f': {reason}' if reason else ''}"


# All types ------------------------------------------------------------------------------------------------------------


def queues_as_json(queues: Iterable[QueueStatus]) -> str:
    """Returns JSON with stable keys, times in ISO 8601; ``estimated`` marks estimated numbers."""
    return as_json([_queue_as_json(each) for each in queues])


def _queue_as_json(queue: QueueStatus) -> dict[str, Any]:
    info = queue.info
    return {
        "task_type": queue.task_type,
        "waiting": queue.waiting,
        "oldest_due_seconds": None if queue.oldest_due is None else queue.oldest_due.total_seconds(),
        "running": queue.running,
        "estimated": queue.is_estimate,
        "at_least": queue.is_least,
        "pools": queue.pools,
        "workers": queue.workers,
        "paused": info is not None and info.is_paused,
        "limited": info is not None and info.settings.is_limited,
        "paused_until": None if info is None else info.paused_until,
        "paused_at": None if info is None else info.paused_at,
        "paused_by": None if info is None else info.paused_by,
        "pause_reason": None if info is None else info.pause_reason,
    }


def show_queues(queues: Sequence[QueueStatus]) -> None:
    """Prints all types as a table."""
    columns = ("task type", "state", "waiting", "oldest due for", "running", "pools", "workers", "paused")
    rows = [
        (
            each.task_type,
            _state(each.info),
            Number(each.waiting, each.is_estimate, each.is_least),
            "" if each.oldest_due is None else span(each.oldest_due),
            Number(each.running, each.is_estimate, each.is_least),
            Number(each.pools, False),
            Number(each.workers, False),
            "" if each.info is None else _told_pause_of(each.info),
        )
        for each in queues
    ]
    print_table(stdout(), "task types", columns, rows)


def _state(info: TypeInfo | None) -> str:
    if info is None:
        return ""
    states = ["paused"] if info.is_paused else []
    return ", ".join([*states, "limited"] if info.settings.is_limited else states)
