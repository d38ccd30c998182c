"""Reads how each task type stands, for ``fang queues list``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fang_cli.watching.reading import reader_of_tables
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.record import PoolInfo, TaskState
from fang_postgres.reports.figures import TaskCount
from fang_postgres.reports.reports import Reports


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Describes a task type that has tasks, is served by pools, or is paused or limited.

    Attributes:
        waiting, running: how many of its tasks wait and run.
        oldest_due: how long the one of them that has waited longest for a worker has been due; None if none is due.
        is_estimate: whether these numbers are estimated.
        pools, workers: how many registered pools serve it, and how many tasks these run at once, of all their types.
        info: if it is paused or limited, how.
    """

    task_type: str
    waiting: int
    running: int
    is_estimate: bool
    pools: int
    workers: int
    info: TypeInfo | None
    oldest_due: timedelta | None = None


def read_queues(url: str, schema: str) -> list[QueueStatus]:
    """Reads which task types have tasks, are served by registered pools, or are paused or limited.

    Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable``.
    """
    reports = Reports(schema)
    with reader_of_tables(url, schema, reports) as reader:
        counts = reader.run_script(reports.tasks(reader.ask(reports.running())))
        pools = reader.ask(reports.pools()) or []
        managed = {info.task_type: info for info in reader.ask(reports.types()) or []}
        oldest = {each.task_type: each.age for each in reader.ask(reports.oldest_due()) or []}
    served = {task_type for pool in pools for task_type in pool.task_types}
    alive = [count for count in counts if count.state not in TERMINAL_STATES]
    return [
        _queue_status(
            task_type,
            [count for count in alive if count.task_type == task_type],
            [pool for pool in pools if task_type in pool.task_types],
            managed.get(task_type),
            oldest.get(task_type),
        )
        for task_type in sorted({*served, *managed, *(count.task_type for count in alive)})
    ]


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
        pools=len(pools),
        workers=sum(pool.workers for pool in pools),
        info=info,
        oldest_due=oldest_due,
    )
