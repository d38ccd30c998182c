"""How ``fang status`` shows what it read: as JSON for programs, or as tables for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fang_cli.status import Status
from fang_core.record import TaskState
from fang_postgres.reports import RegisteredPool, RunningKind, TaskCount

_PIPED_WIDTH: Final = 200
_MOST_ROWS: Final = 30
"""Of a table by kind, for people; programs get all."""


class Number(NamedTuple):
    """A count, or an estimate of one."""

    value: int
    is_estimate: bool


def _sums(counts: Iterable[TaskCount], *names: str) -> dict[tuple[str, ...], dict[TaskState, Number]]:
    """How many tasks there are in each state, by these attributes."""
    sums: dict[tuple[str, ...], dict[TaskState, Number]] = {}
    for count in counts:
        states = sums.setdefault(tuple(getattr(count, name) for name in names), {})
        former = states.get(count.state, Number(0, False))
        states[count.state] = Number(former.value + count.count, former.is_estimate or count.is_estimate)
    return sums


# For programs ---------------------------------------------------------------------------------------------------------


def as_json(status: Status) -> str:
    """Keys that stay, times in ISO 8601, ages in seconds; ``estimated`` marks numbers that were not counted."""
    return json.dumps(
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
            "retried": [
                {
                    "task_type": each.task_type,
                    "kind": each.kind,
                    "count": each.count,
                    "estimated": each.is_estimate,
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
                    "age_seconds": oldest.age.total_seconds(),
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
            "unserved_types": [
                {"task_type": each.task_type, "due": each.due, "estimated": each.is_estimate}
                for each in status.unserved_types
            ],
            "unknown_kinds": [
                {"task_type": each.task_type, "kind": each.kind, "due": each.due, "estimated": each.is_estimate}
                for each in status.unknown_kinds
            ],
            "unheld": [
                {"task_type": each.task_type, "kind": each.kind, "count": each.count} for each in _unheld(status)
            ],
            "unread": list(status.unread),
        },
        indent=2,
    )


def _counted(number: Number) -> dict[str, object]:
    return {"count": number.value, "estimated": number.is_estimate}


def _running_as_json(status: Status, each: RunningKind) -> dict[str, object]:
    return {
        "task_type": each.task_type,
        "kind": each.kind,
        "pool_id": None if each.pool_id is None else str(each.pool_id),
        "pool": None if each.pool_id is None else status.lives.get(each.pool_id, "gone"),
        "count": each.count,
        "claimed_at": _iso(each.claimed_at),
        "age_seconds": None if each.age is None else each.age.total_seconds(),
    }


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


# For people -----------------------------------------------------------------------------------------------------------


def show(status: Status) -> None:
    """Prints tables."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH  # there is no edge to fold at
    states = list(TaskState)
    by_kind = _sums(status.counts, "task_type", "kind")
    _print(console, "tasks", ("task type", *states), _by_states(_sums(status.counts, "task_type"), states))
    _print(console, "tasks by kind", ("task type", "kind", *states), _by_states(by_kind, states))
    _print(
        console,
        "tasks in progress",
        ("task type", "kind", "tasks", "the first claimed", "ago", "pool"),
        [_of_running(status, each) for each in status.running if each.pool_id is not None],
    )
    _print(
        console,
        "tasks that failed and run again",
        ("task type", "kind", "tasks", "next due", "last error"),
        [
            (each.task_type, each.kind, Number(each.count, each.is_estimate), _time(each.next_due), each.error or "")
            for each in status.retried
        ],
    )
    _print(
        console,
        "oldest due tasks",
        ("task type", "due for", "id"),
        [(oldest.task_type, _seconds(oldest.age), oldest.id) for oldest in status.oldest_due],
    )
    _print(
        console,
        "tasks that failed last",
        ("kind", "failed", "id", "error"),
        [(failure.kind, _time(failure.failed_at), failure.id, failure.error) for failure in status.last_failures],
    )
    _print(
        console,
        "registered pools",
        ("id", "state", "mode", "host", "pid", "task types", "workers", "started"),
        [_of_pool(status, pool) for pool in status.pools],
    )
    _print(
        console,
        "task types that no live pool serves",
        ("task type", "due tasks"),
        [(each.task_type, Number(each.due, each.is_estimate)) for each in status.unserved_types],
    )
    _print(
        console,
        "kinds that no live pool of their task type knows",
        ("task type", "kind", "due tasks"),
        [(each.task_type, each.kind, Number(each.due, each.is_estimate)) for each in status.unknown_kinds],
    )
    _print(
        console,
        "tasks in progress that no pool holds",
        ("task type", "kind", "tasks"),
        [(each.task_type, each.kind, Number(each.count, False)) for each in _unheld(status)],
    )
    if status.unread:
        console.print(f"parts are missing, since the database was too slow: {', '.join(status.unread)}")


def _unheld(status: Status) -> list[RunningKind]:
    return [each for each in status.running if each.pool_id is None]


def _by_states(
    sums: Mapping[tuple[str, ...], Mapping[TaskState, Number]], states: Sequence[TaskState]
) -> list[tuple[object, ...]]:
    """Most tasks first: of a long table only the head is shown."""
    none = Number(0, False)
    most_first = sorted(sums.items(), key=lambda item: -sum(number.value for number in item[1].values()))
    return [(*place, *(counts.get(state, none) for state in states)) for place, counts in most_first]


def _of_running(status: Status, each: RunningKind) -> tuple[object, ...]:
    assert each.pool_id is not None
    life = status.lives.get(each.pool_id, "gone")
    since, age = _time(each.claimed_at), "" if each.age is None else _seconds(each.age)
    return (each.task_type, each.kind, Number(each.count, False), since, age, f"{each.pool_id} ({life})")


def _of_pool(status: Status, pool: RegisteredPool) -> tuple[object, ...]:
    state = status.lives[pool.id] + (", stopping" if pool.stopping else "")
    workers = Number(pool.workers, False)
    started = _time(pool.started_at)
    return (pool.id, state, pool.mode, pool.host, str(pool.pid), ", ".join(pool.task_types), workers, started)


def _print(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if not rows:
        console.print(f"no {title}")
        return
    console.print(title)
    table = Table()
    for place, column in enumerate(columns):
        figures = isinstance(rows[0][place], Number)
        table.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)
    if len(rows) > _MOST_ROWS:
        console.print(f"and {len(rows) - _MOST_ROWS:,} more rows: --json has them all")


def _cell(value: Any) -> Text:
    """Text of a row is anyone's: neither markup nor what a terminal would obey."""
    if isinstance(value, Number):
        return Text(f"~{value.value:,}" if value.is_estimate else f"{value.value:,}")
    return Text("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(value)))


def _time(value: datetime | None) -> str:
    return "" if value is None else value.astimezone().isoformat(sep=" ", timespec="seconds")


def _seconds(age: timedelta) -> str:
    return str(timedelta(seconds=int(age.total_seconds())))
