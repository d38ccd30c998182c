"""Shows what ``fang status`` has read: as JSON for programs, or as tables for people."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from fang_cli.json_text import as_json as document
from fang_cli.managing.showing_types import paused_or_limited, told_pause, type_as_json
from fang_cli.tables import Number, print_table, stdout
from fang_cli.texts import time_of
from fang_cli.watching.stats_tables import kind_as_object, of_kinds, throughput_as_object, throughput_in_words
from fang_cli.watching.status import Status
from fang_core.monitoring import checks
from fang_core.monitoring.figures import NotableRun, RunningKind, TaskCount, UnknownKind, UnservedType
from fang_core.monitoring.stats import KindStats
from fang_core.record import PoolInfo, TaskState
from fang_core.words.spans import span

_MOST_KINDS: Final = 10
"""How many of the kinds that took most time are shown."""


def _sums(counts: Iterable[TaskCount], *names: str) -> dict[tuple[str, ...], dict[TaskState, Number]]:
    """Returns how many tasks there are in each state, by these attributes."""
    sums: dict[tuple[str, ...], dict[TaskState, Number]] = {}
    for count in counts:
        states = sums.setdefault(tuple(getattr(count, name) for name in names), {})
        former = states.get(count.state, Number(0, False))
        states[count.state] = Number(
            former.value + count.count, former.is_estimate or count.is_estimate, former.is_least or count.is_least
        )
    return sums


# For programs ---------------------------------------------------------------------------------------------------------


def as_json(status: Status) -> str:
    """Returns JSON with stable keys, times in ISO 8601 and ages in seconds; ``estimated`` marks estimated numbers."""
    return document(
        {
            "tasks": [
                {"task_type": task_type, "state": state, **_counted(states[state])}
                for (task_type,), states in _sums(status.counts, "task_type").items()
                for state in TaskState
                if state in states
            ],
            "kinds": [
                {"task_type": task_type, "kind": kind, "state": state, **_counted(states[state])}
                for (task_type, kind), states in _sums(status.counts, "task_type", "kind").items()
                for state in TaskState
                if state in states
            ],
            "running": [_running_as_json(status, each) for each in status.running],
            "runs": [_run_as_json(status, each) for each in status.notable],
            "throughput": None if status.stats is None else throughput_as_object(status.stats),
            "slowest_kinds": [kind_as_object(each) for each in _slowest(status)],
            "retried": [
                {
                    "task_type": each.task_type,
                    "kind": each.kind,
                    "count": each.count,
                    "estimated": each.is_estimate,
                    "at_least": each.is_least,
                    "next_due": _iso(each.next_due),
                    "error": each.error,
                }
                for each in status.retried
            ],
            "oldest_due": [
                {
                    "task_type": oldest.task_type,
                    "id": str(oldest.id),
                    "scheduled_at": oldest.scheduled_at.isoformat(),
                    "seconds": oldest.age.total_seconds(),
                }
                for oldest in status.oldest_due
            ],
            "last_failures": [
                {
                    "task_type": failure.task_type,
                    "kind": failure.kind,
                    "id": str(failure.id),
                    "failed_at": failure.failed_at.isoformat(),
                    "error": failure.error,
                }
                for failure in status.last_failures
            ],
            "pools": [
                {
                    "id": str(pool.id),
                    "mode": pool.mode,
                    "host": pool.host,
                    "pid": pool.pid,
                    "task_types": pool.task_types,
                    "workers": pool.workers,
                    "started_at": pool.started_at.isoformat(),
                    "stopping": pool.stopping,
                    "life": status.lives[pool.id],
                }
                for pool in status.pools
            ],
            "types": [type_as_json(each) for each in status.types],
            "paused_schedules": [
                {
                    "name": each.name,
                    "paused_until": _iso(each.paused_until),
                    "paused_at": _iso(each.paused_at),
                    "paused_by": each.paused_by,
                    "pause_reason": each.pause_reason,
                }
                for each in status.paused_schedules
            ],
            "unserved_types": [{"task_type": each.task_type, **_due_of(each)} for each in status.unserved_types],
            "unknown_kinds": [
                {"task_type": each.task_type, "kind": each.kind, **_due_of(each)} for each in status.unknown_kinds
            ],
            "unheld": [
                {"task_type": each.task_type, "kind": each.kind, "count": each.count} for each in _unheld(status)
            ],
            "unread": list(status.unread),
        }
    )


def _counted(number: Number) -> dict[str, object]:
    return {"count": number.value, "estimated": number.is_estimate, "at_least": number.is_least}


def _due_of(waiting: UnservedType | UnknownKind) -> dict[str, object]:
    return {"due": waiting.due, "estimated": waiting.is_estimate, "at_least": waiting.is_least}


def _running_as_json(status: Status, each: RunningKind) -> dict[str, object]:
    return {
        "task_type": each.task_type,
        "kind": each.kind,
        "pool_id": None if each.pool_id is None else str(each.pool_id),
        "pool": None if each.pool_id is None else status.lives.get(each.pool_id, "gone"),
        "count": each.count,
        "claimed_at": _iso(each.claimed_at),
        "seconds": None if each.age is None else each.age.total_seconds(),
    }


def _run_as_json(status: Status, each: NotableRun) -> dict[str, object]:
    return {
        "id": each.task_id,
        "kind": each.kind,
        "attempt": each.attempt,
        "pool_id": str(each.pool_id),
        "pool": status.lives.get(each.pool_id, "gone"),
        "since": each.since.isoformat(),
        "seconds": each.age.total_seconds(),
        "hung": each.is_hung,
        "place": each.place,
        "progress": None if each.progress is None else each.progress._asdict(),
    }


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


# For people -----------------------------------------------------------------------------------------------------------


def show(status: Status) -> None:
    """Prints the status as tables."""
    console = stdout()
    states = list(TaskState)
    by_kind = _sums(status.counts, "task_type", "kind")
    print_table(console, "tasks", ("task type", *states), _by_states(_sums(status.counts, "task_type"), states))
    print_table(console, "tasks by kind", ("task type", "kind", *states), _by_states(by_kind, states))
    print_table(
        console,
        "tasks in progress",
        ("task type", "kind", "tasks", "the first claimed", "ago", "pool"),
        [_of_running(status, each) for each in status.running if each.pool_id is not None],
    )
    print_table(
        console,
        "runs that hang or tell of their progress",
        ("kind", "for", "state", "stands at", "progress", "id", "pool"),
        [_of_run(status, each) for each in status.notable],
    )
    if status.stats is not None:
        console.print(throughput_in_words(status.stats, "hour"))
        seconds = (status.stats.until - status.stats.since).total_seconds()
        print_table(console, "kinds that took most of the workers' time", *of_kinds(_slowest(status), seconds))
    print_table(
        console,
        "tasks that failed and run again",
        ("task type", "kind", "tasks", "next due", "last error"),
        [
            (
                each.task_type,
                each.kind,
                Number(each.count, each.is_estimate, each.is_least),
                time_of(each.next_due),
                each.error or "",
            )
            for each in status.retried
        ],
    )
    print_table(
        console,
        "oldest due tasks",
        ("task type", "due for", "id"),
        [(oldest.task_type, span(oldest.age), oldest.id) for oldest in status.oldest_due],
    )
    print_table(
        console,
        "tasks that failed last",
        ("kind", "failed", "id", "error"),
        [(failure.kind, time_of(failure.failed_at), failure.id, failure.error) for failure in status.last_failures],
    )
    print_table(
        console,
        "registered pools",
        ("id", "state", "mode", "host", "pid", "task types", "workers", "started"),
        [_of_pool(status, pool) for pool in status.pools],
    )
    print_table(console, "task types that are paused or limited", *paused_or_limited(status.types))
    print_table(
        console,
        "schedules that are paused",
        ("schedule", "paused"),
        [(each.name, told_pause(each)) for each in status.paused_schedules],
    )
    print_table(
        console,
        "task types that no live pool serves",
        ("task type", "due tasks"),
        [(each.task_type, Number(each.due, each.is_estimate, each.is_least)) for each in status.unserved_types],
    )
    unserved = {each.task_type for each in status.unserved_types}
    print_table(
        console,
        "kinds that no live pool of their task type knows",
        ("task type", "kind", "due tasks"),
        [
            (each.task_type, each.kind, Number(each.due, each.is_estimate, each.is_least))
            for each in status.unknown_kinds
            if each.task_type not in unserved  # which says it all
        ],
    )
    print_table(
        console,
        "tasks in progress that no pool holds",
        ("task type", "kind", "tasks"),
        [(each.task_type, each.kind, Number(each.count, False)) for each in _unheld(status)],
    )
    moving = checks.aside(status.counts)
    if moving is not None:
        console.print(f"{moving.text}; {moving.remedy}")
    if status.unread:
        console.print(f"parts are missing, since the database was too slow: {', '.join(status.unread)}")


def _slowest(status: Status) -> Sequence[KindStats]:
    return () if status.stats is None else status.stats.kinds[:_MOST_KINDS]


def _unheld(status: Status) -> list[RunningKind]:
    return [each for each in status.running if each.pool_id is None]


def _by_states(
    sums: Mapping[tuple[str, ...], Mapping[TaskState, Number]], states: Sequence[TaskState]
) -> list[tuple[object, ...]]:
    """Returns the rows of a table, most tasks first, as only the head of a long table is shown."""
    none = Number(0, False)
    most_first = sorted(sums.items(), key=lambda item: -sum(number.value for number in item[1].values()))
    return [(*place, *(counts.get(state, none) for state in states)) for place, counts in most_first]


def _of_running(status: Status, each: RunningKind) -> tuple[object, ...]:
    assert each.pool_id is not None
    life = status.lives.get(each.pool_id, "gone")
    since, age = time_of(each.claimed_at), "" if each.age is None else span(each.age)
    return (each.task_type, each.kind, Number(each.count, False), since, age, f"{each.pool_id} ({life})")


def _of_run(status: Status, each: NotableRun) -> tuple[object, ...]:
    life = status.lives.get(each.pool_id, "gone")
    state = "hangs" if each.is_hung else "runs"
    place = each.place or ""
    return (each.kind, span(each.age), state, place, _progress(each), each.task_id, f"{each.pool_id} ({life})")


def _progress(each: NotableRun) -> str:
    if each.progress is None:
        return ""
    done, total, text = each.progress
    return f"{done:g}{'' if total is None else f' of {total:g}'} {text}".rstrip()


def _of_pool(status: Status, pool: PoolInfo) -> tuple[object, ...]:
    state = status.lives[pool.id] + (", stopping" if pool.stopping else "")
    workers = Number(pool.workers, False)
    started = time_of(pool.started_at)
    return (pool.id, state, pool.mode, pool.host, str(pool.pid), ", ".join(pool.task_types), workers, started)
