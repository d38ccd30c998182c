"""``fang status``: what is in the tables, for people or as JSON."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import event

from fang_core.errors import SchemaError
from fang_core.record import TaskState
from fang_postgres.connecting import SET_FOR_TRANSACTION
from fang_postgres.engine import engine_for
from fang_postgres.operations import Operations, schema_problem
from fang_postgres.reports import (
    LastFailure,
    OldestDue,
    RegisteredPool,
    Reports,
    TaskCount,
    UnknownKind,
    UnservedType,
    unknown_kinds,
    unserved_types,
)
from fang_threaded.runner import Runner, SessionRunner

_PIPED_WIDTH: Final = 200


@dataclass(frozen=True, slots=True)
class Status:
    """What the command shows."""

    tasks: Mapping[str, Mapping[TaskState, int]]
    oldest_due: Sequence[OldestDue]
    last_failures: Sequence[LastFailure]
    pools: Sequence[RegisteredPool]
    unserved_types: Sequence[UnservedType]
    unknown_kinds: Sequence[UnknownKind]
    unheld: Sequence[TaskCount]


def read_status(url: str, schema: str) -> Status:
    """Reads it in a few statements. Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable``."""
    operations, reports = Operations(schema), Reports(schema)
    with _runner(url, schema) as runner:
        problem = schema_problem(schema, runner.run(operations.version()))
        if problem is not None:
            raise SchemaError(problem)
        counts = runner.run(reports.tasks())
        oldest = runner.run(reports.oldest_due())
        failures = runner.run(reports.last_failures())
        pools = runner.run(reports.pools())
    unheld = [each for each in counts if each.unheld]
    return Status(
        tasks=_by_type_and_state(counts),
        oldest_due=oldest,
        last_failures=failures,
        pools=pools,
        unserved_types=unserved_types(counts, pools),
        unknown_kinds=unknown_kinds(counts, pools),
        unheld=unheld,
    )


@contextmanager
def _runner(url: str, schema: str) -> Iterator[Runner]:
    engine = engine_for(url, application_name="fang status", pool_size=1)
    # For each transaction: a pooler would refuse settings at the start, and give its other clients those of a session.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(SET_FOR_TRANSACTION))
    try:
        yield SessionRunner(engine, schema)
    finally:
        engine.dispose()


def _by_type_and_state(counts: Sequence[TaskCount]) -> dict[str, Counter[TaskState]]:
    tasks: dict[str, Counter[TaskState]] = {}
    for count in counts:
        tasks.setdefault(count.task_type, Counter())[count.state] += count.count
    return tasks


# For programs ---------------------------------------------------------------------------------------------------------


def as_json(status: Status) -> str:
    """Keys that stay, times in ISO 8601, ages in seconds."""
    return json.dumps(
        {
            "tasks": [
                {"task_type": task_type, "state": state, "count": states[state]}
                for task_type, states in status.tasks.items()
                for state in TaskState
                if states.get(state)
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
                }
                for pool in status.pools
            ],
            "unserved_types": [
                {"task_type": unserved.task_type, "due": unserved.due} for unserved in status.unserved_types
            ],
            "unknown_kinds": [
                {"task_type": unknown.task_type, "kind": unknown.kind, "due": unknown.due}
                for unknown in status.unknown_kinds
            ],
            "unheld": [
                {"task_type": each.task_type, "kind": each.kind, "count": each.unheld} for each in status.unheld
            ],
        },
        indent=2,
    )


# For people -----------------------------------------------------------------------------------------------------------


def show(status: Status) -> None:
    """Prints tables."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH  # there is no edge to fold at
    states = list(TaskState)
    _print(
        console,
        "tasks",
        ("task type", *states),
        [(task_type, *(counts.get(state, 0) for state in states)) for task_type, counts in status.tasks.items()],
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
        ("id", "mode", "host", "pid", "task types", "workers", "started"),
        [_of_pool(pool) for pool in status.pools],
    )
    _print(
        console,
        "task types that no registered pool serves",
        ("task type", "due tasks"),
        [(unserved.task_type, unserved.due) for unserved in status.unserved_types],
    )
    _print(
        console,
        "kinds that no registered pool of their task type knows",
        ("task type", "kind", "due tasks"),
        [(unknown.task_type, unknown.kind, unknown.due) for unknown in status.unknown_kinds],
    )
    _print(
        console,
        "tasks in progress that no pool holds",
        ("task type", "kind", "tasks"),
        [(each.task_type, each.kind, each.unheld) for each in status.unheld],
    )


def _of_pool(pool: RegisteredPool) -> tuple[object, ...]:
    started = _time(pool.started_at)
    stopping = " (stopping)" if pool.stopping else ""
    return (pool.id, pool.mode, pool.host, str(pool.pid), ", ".join(pool.task_types), pool.workers, started + stopping)


def _print(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if not rows:
        console.print(f"no {title}")
        return
    console.print(title)
    table = Table()
    for place, column in enumerate(columns):
        figures = isinstance(rows[0][place], int)
        table.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: Any) -> Text:
    """Text of a row is anyone's: neither markup nor what a terminal would obey."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return Text("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text))


def _time(value: datetime) -> str:
    return value.astimezone().isoformat(sep=" ", timespec="seconds")


def _seconds(age: timedelta) -> str:
    return str(timedelta(seconds=int(age.total_seconds())))
