"""Shows what ``fang status`` has read, as tables for people."""

from collections.abc import Iterator, Mapping

from fang_cli.managing.showing_types import paused_or_limited, told_pause
from fang_cli.tables import Number, print_table, stdout
from fang_cli.tasks.showing import progress_in_words
from fang_cli.texts import time_of
from fang_cli.watching.stats_tables import of_kinds, throughput_in_words
from fang_cli.watching.status import Status
from fang_core.monitoring import checks
from fang_core.monitoring.figures import NotableRun, RunningKind
from fang_core.record import PoolInfo, TaskState
from fang_core.words.spans import span

Table = tuple[str, tuple[str, ...], list[tuple[object, ...]]]
"""A title, the columns, and the rows."""


def show(status: Status) -> None:
    """Prints the status as tables."""
    console = stdout()
    for table in (*_tasks(status), *_runs(status)):
        print_table(console, *table)
    if status.stats is not None:
        console.print(throughput_in_words(status.stats, "hour"))
        seconds = (status.stats.until - status.stats.since).total_seconds()
        print_table(console, "kinds that took most of the workers' time", *of_kinds(status.slowest, seconds))
    for table in (*_trouble(status), *_pools_and_flow(status), *_left_alone(status)):
        print_table(console, *table)
    moving = checks.aside(status.counts)
    if moving is not None:
        console.print(f"{moving.text}; {moving.remedy}")
    if status.unread:
        console.print(f"parts are missing, since the database was too slow: {', '.join(status.unread)}")


def _tasks(status: Status) -> Iterator[Table]:
    """Yields how many tasks there are in each state."""
    yield "tasks", ("task type", *TaskState), _by_states(status.counted_by("task_type"))
    yield "tasks by kind", ("task type", "kind", *TaskState), _by_states(status.counted_by("task_type", "kind"))


def _runs(status: Status) -> Iterator[Table]:
    """Yields what goes on now."""
    yield (
        "tasks in progress",
        ("task type", "kind", "tasks", "the first claimed", "ago", "pool"),
        [_of_running(status, each) for each in status.running if each.pool_id is not None],
    )
    yield (
        "runs that hang or report their progress",
        ("kind", "for", "state", "stands at", "progress", "id", "pool"),
        [_of_run(status, each) for each in status.notable],
    )


def _trouble(status: Status) -> Iterator[Table]:
    """Yields what has failed, or waits for too long."""
    yield (
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
    yield (
        "oldest due tasks",
        ("task type", "due for", "id"),
        [(oldest.task_type, span(oldest.age), oldest.id) for oldest in status.oldest_due],
    )
    yield (
        "tasks that failed last",
        ("kind", "failed", "id", "error"),
        [(failure.kind, time_of(failure.failed_at), failure.id, failure.error) for failure in status.last_failures],
    )


def _pools_and_flow(status: Status) -> Iterator[Table]:
    """Yields who works, and what holds tasks back."""
    yield (
        "registered pools",
        ("id", "state", "mode", "host", "pid", "task types", "workers", "started"),
        [_of_pool(status, pool) for pool in status.pools],
    )
    yield "task types that are paused or limited", *paused_or_limited(status.types)
    yield (
        "schedules that are paused",
        ("schedule", "paused"),
        [(each.name, told_pause(each)) for each in status.paused_schedules],
    )


def _left_alone(status: Status) -> Iterator[Table]:
    """Yields the tasks that no pool runs, and the schedules that none makes ticks of."""
    yield (
        "task types that no live pool serves",
        ("task type", "due tasks"),
        [(each.task_type, Number(each.due, each.is_estimate, each.is_least)) for each in status.unserved_types],
    )
    unserved = {each.task_type for each in status.unserved_types}
    yield (
        "kinds that no live pool of their task type knows",
        ("task type", "kind", "due tasks"),
        [
            (each.task_type, each.kind, Number(each.due, each.is_estimate, each.is_least))
            for each in status.unknown_kinds
            if each.task_type not in unserved  # which says it all
        ],
    )
    yield (
        "schedules of which no live pool makes ticks",
        ("schedule", "task type", "class that its pools lack"),
        [(each.name, each.task_type, each.kind or "") for each in status.unserved_schedules],
    )
    yield (
        "tasks in progress that no pool holds",
        ("task type", "kind", "tasks"),
        [(each.task_type, each.kind, Number(each.count, False)) for each in status.unheld],
    )


def _by_states(sums: Mapping[tuple[str, ...], Mapping[TaskState, Number]]) -> list[tuple[object, ...]]:
    """Returns the rows of a table, most tasks first, as only the head of a long table is shown."""
    none = Number(0, False)
    most_first = sorted(sums.items(), key=lambda item: -sum(number.value for number in item[1].values()))
    return [(*place, *(counts.get(state, none) for state in TaskState)) for place, counts in most_first]


def _of_running(status: Status, each: RunningKind) -> tuple[object, ...]:
    assert each.pool_id is not None
    life = status.life_of(each.pool_id)
    since, age = time_of(each.claimed_at), "" if each.age is None else span(each.age)
    return (each.task_type, each.kind, Number(each.count, False), since, age, f"{each.pool_id} ({life})")


def _of_run(status: Status, each: NotableRun) -> tuple[object, ...]:
    life = status.life_of(each.pool_id)
    state = "hangs" if each.is_hung else "runs"
    place = each.place or ""
    progress = "" if each.progress is None else progress_in_words(each.progress)
    return (each.kind, span(each.age), state, place, progress, each.task_id, f"{each.pool_id} ({life})")


def _of_pool(status: Status, pool: PoolInfo) -> tuple[object, ...]:
    state = status.life_of(pool.id) + (", stopping" if pool.stopping else "")
    workers = Number(pool.workers, False)
    started = time_of(pool.started_at)
    return (pool.id, state, pool.mode, pool.host, str(pool.pid), ", ".join(pool.task_types), workers, started)
