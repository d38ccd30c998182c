"""Shows what ``fang status`` has read, as JSON for programs."""

from typing import Any

from fang_cli.json_text import as_json as document
from fang_cli.managing.showing_types import type_as_json
from fang_cli.watching.stats_tables import kind_as_object, throughput_as_object
from fang_cli.watching.status import Status
from fang_core.monitoring.figures import (
    LastFailure,
    NotableRun,
    OldestDue,
    RetriedKind,
    RunningKind,
    UnknownKind,
    UnservedType,
)
from fang_core.record import PoolInfo, TaskState


def as_json(status: Status) -> str:
    """Returns JSON with stable keys, times in ISO 8601 and ages in seconds; ``estimated`` marks estimated numbers."""
    return document(
        {
            "tasks": _counts(status, "task_type"),
            "kinds": _counts(status, "task_type", "kind"),
            "running": [_running(status, each) for each in status.running],
            "runs": [_run(status, each) for each in status.notable],
            "throughput": None if status.stats is None else throughput_as_object(status.stats),
            "slowest_kinds": [kind_as_object(each) for each in status.slowest],
            "retried": [_retried(each) for each in status.retried],
            "oldest_due": [_oldest(each) for each in status.oldest_due],
            "last_failures": [_failure(each) for each in status.last_failures],
            "pools": [_pool(status, each) for each in status.pools],
            "types": [type_as_json(each) for each in status.types],
            "paused_schedules": status.paused_schedules,
            "unserved_types": [{"task_type": each.task_type, **_due(each)} for each in status.unserved_types],
            "unknown_kinds": [
                {"task_type": each.task_type, "kind": each.kind, **_due(each)} for each in status.unknown_kinds
            ],
            "unserved_schedules": status.unserved_schedules,
            "unheld": [{"task_type": each.task_type, "kind": each.kind, "count": each.count} for each in status.unheld],
            "unread": status.unread,
        }
    )


def _counts(status: Status, *names: str) -> list[dict[str, Any]]:
    """Returns an object for each state in which there are tasks, by these attributes, which it has as keys."""
    return [
        {
            **dict(zip(names, place, strict=True)),
            "state": state,
            "count": states[state].value,
            "estimated": states[state].is_estimate,
            "at_least": states[state].is_least,
        }
        for place, states in status.counted_by(*names).items()
        for state in TaskState
        if state in states
    ]


def _running(status: Status, each: RunningKind) -> dict[str, Any]:
    return {
        "task_type": each.task_type,
        "kind": each.kind,
        "pool_id": each.pool_id,
        "pool": None if each.pool_id is None else status.life_of(each.pool_id),
        "count": each.count,
        "claimed_at": each.claimed_at,
        "seconds": each.age,
    }


def _run(status: Status, each: NotableRun) -> dict[str, Any]:
    return {
        "id": each.task_id,
        "kind": each.kind,
        "attempt": each.attempt,
        "pool_id": each.pool_id,
        "pool": status.life_of(each.pool_id),
        "since": each.since,
        "seconds": each.age,
        "hung": each.is_hung,
        "place": each.place,
        "progress": each.progress,
    }


def _retried(each: RetriedKind) -> dict[str, Any]:
    return {
        "task_type": each.task_type,
        "kind": each.kind,
        "count": each.count,
        "estimated": each.is_estimate,
        "at_least": each.is_least,
        "next_due": each.next_due,
        "error": each.error,
    }


def _oldest(each: OldestDue) -> dict[str, Any]:
    return {"task_type": each.task_type, "id": each.id, "scheduled_at": each.scheduled_at, "seconds": each.age}


def _failure(each: LastFailure) -> dict[str, Any]:
    return {
        "task_type": each.task_type,
        "kind": each.kind,
        "id": each.id,
        "failed_at": each.failed_at,
        "error": each.error,
    }


def _pool(status: Status, pool: PoolInfo) -> dict[str, Any]:
    return {
        "id": pool.id,
        "mode": pool.mode,
        "host": pool.host,
        "pid": pool.pid,
        "task_types": pool.task_types,
        "workers": pool.workers,
        "started_at": pool.started_at,
        "stopping": pool.stopping,
        "life": status.life_of(pool.id),
    }


def _due(waiting: UnservedType | UnknownKind) -> dict[str, Any]:
    return {"due": waiting.due, "estimated": waiting.is_estimate, "at_least": waiting.is_least}
