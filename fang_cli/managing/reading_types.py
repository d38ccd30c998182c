"""Reads how each task type stands, for ``fang queues list``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fang_backends.urls import Engine, engine_of
from fang_core.backends.stats_rows import counts_workers
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.monitoring.figures import OldestDue, TaskCount
from fang_core.monitoring.unserved import types_of
from fang_core.record import PoolInfo, TaskState


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Describes a task type that has tasks, is served by pools, or is paused or limited.

    Attributes:
        waiting, running: how many of its tasks wait and run.
        oldest_due: how long the oldest due one has been due; None if none is due.
        is_estimate: whether these numbers are not exact.
        is_least: whether they are then lower bounds, and not estimates.
        pools, workers: how many pools serve it, and how many tasks these run at once, of all their types; without those
            that stop, are silent, or are queues that fetch tasks by hand.
        info: if it is paused or limited, how.
    """

    task_type: str
    waiting: int
    running: int
    is_estimate: bool
    is_least: bool
    pools: int
    workers: int
    info: TypeInfo | None
    oldest_due: timedelta | None = None


def read_queues(url: str, schema: str) -> list[QueueStatus]:
    """Reads which task types have tasks, are served by registered pools, or are paused or limited.

    Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable``.
    """
    read = _of_tables if engine_of(url) is Engine.POSTGRES else _of_queue
    counts, pools, types, oldest_due, now = read(url, schema)
    managed = {info.task_type: info for info in types}
    oldest = {each.task_type: each.age for each in oldest_due}
    served = types_of(pools)
    alive = [count for count in counts if count.state not in TERMINAL_STATES]
    return [
        _queue_status(
            task_type,
            [count for count in alive if count.task_type == task_type],
            [pool for pool in pools if task_type in pool.task_types and _works(pool, now)],
            managed.get(task_type),
            oldest.get(task_type),
        )
        for task_type in sorted({*served, *managed, *(count.task_type for count in alive)})
    ]


class _Read(NamedTuple):
    counts: list[TaskCount]
    pools: list[PoolInfo]
    types: list[TypeInfo]
    oldest_due: list[OldestDue]
    now: datetime


def _of_tables(url: str, schema: str) -> _Read:
    from fang_cli.watching.reading import reader_of_tables
    from fang_postgres.reports.reports import Reports

    reports = Reports(schema)
    with reader_of_tables(url, schema, reports) as reader:
        return _Read(
            reader.run_script(reports.tasks(reader.ask(reports.running()))),
            reader.ask(reports.pools()) or [],
            reader.ask(reports.types()) or [],
            reader.ask(reports.oldest_due()) or [],
            reader.ask(reports.clock()) or datetime.now(UTC),
        )


def _of_queue(url: str, schema: str) -> _Read:
    from fang_backends.queues import queue_of
    from fang_cli.watching.queue_status import count_alive

    with queue_of(url, name=schema) as queue:
        counts, oldest_due, now = count_alive(queue)
        return _Read(counts, queue.pools(), queue.limits.list(), oldest_due, now)


def _works(pool: PoolInfo, now: datetime) -> bool:
    return counts_workers(pool.mode, stopping=pool.stopping, told_at=pool.seen_at, now=now)


def _queue_status(
    task_type: str,
    counts: Sequence[TaskCount],
    pools: Sequence[PoolInfo],
    info: TypeInfo | None,
    oldest_due: timedelta | None,
) -> QueueStatus:
    running = sum(count.count for count in counts if count.state is TaskState.IN_PROGRESS)
    return QueueStatus(
        task_type,
        waiting=sum(count.count for count in counts) - running,
        running=running,
        is_estimate=any(count.is_estimate for count in counts),
        is_least=any(count.is_least for count in counts),
        pools=len(pools),
        workers=sum(pool.workers for pool in pools),
        info=info,
        oldest_due=oldest_due,
    )
