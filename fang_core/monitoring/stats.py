"""Says what ``queue.stats()`` and ``queue.heat_map()`` return."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fang_core.monitoring.buckets import Histogram, quantiles

OTHERS: Final = "(others)"
"""The kind under which a pool counts what is beyond ``MOST_PAIRS``."""

MOST_DUE: Final = 100
"""How far the due tasks of a type are counted."""

MOST_PAIRS: Final = 500
"""How many pairs of task type and kind a pool counts apart in one minute."""


@dataclass(frozen=True, slots=True)
class Times:
    """Says how long something took: seconds, and zeros if ``count`` is 0.

    Attributes:
        count: how many there were.
        mean: the mean.
        p50, p95, p99: the times that 50, 95 and 99 of 100 stayed below, 2 % off as a rule, 15 % at worst.
    """

    count: int
    mean: float
    p50: float
    p95: float
    p99: float


def times(total: float, histogram: Histogram) -> Times:
    """Returns the times of a histogram whose values add up to ``total`` seconds."""
    count = sum(histogram.values())
    return Times(count, total / count if count else 0.0, *quantiles(histogram, (0.5, 0.95, 0.99)))


@dataclass(frozen=True, slots=True, kw_only=True)
class KindStats:
    """Counts what became of the tasks of one kind in one task type.

    Attributes:
        task_type: the task type.
        kind: the kind; ``(others)`` for those that pools did not count separately.
        started: runs that began. Runs that are in no count below go on, or were snoozed or interrupted.
        arrived: tasks that a pool claimed for the first time; they stand for inserts.
        finished: runs that ended well, once that is written; one whose outcome was lost counts here as well as in
            ``lost``.
        retried: runs that failed, or crashed, and whose task waits for another.
        failed: runs that ended their task for good.
        cancelled: tasks that were cancelled by their run, by a request, or since they expired.
        lost: runs whose outcome was not written, since another pool had taken the task.
        rescued: tasks that pools took back from dead ones.
        queue: how long tasks waited from the time at which they were due until their run began.
        run: how long runs took.
        run_seconds: the sum of these times of runs.
        cpu_seconds: how much of it threads spent computing; 0 for runs on an event loop and in child processes.
        share: which part of the workers' busy time in this range runs of this kind took, 0 to 1.
    """

    task_type: str
    kind: str
    started: int
    arrived: int
    finished: int
    retried: int
    failed: int
    cancelled: int
    lost: int
    rescued: int
    queue: Times
    run: Times
    run_seconds: float
    cpu_seconds: float
    share: float

    @property
    def error_rate(self) -> float:
        """Returns the part of ended runs that were retried or failed, 0 to 1; 0 if none has ended."""
        ended = self.finished + self.retried + self.failed
        return (self.retried + self.failed) / ended if ended else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStats:
    """Holds the current state of a task type.

    Attributes:
        task_type: the task type.
        due: how many of its tasks could start now; never more than 100.
        due_is_exact: whether ``due`` is all of them; if not, it stands for that many or more.
        oldest_due: for how many seconds the longest waiting of these has been due; 0 if there is none.
        running: how many of its tasks pools hold.
        workers: how many workers the pools have that serve it, and neither stop nor have been silent for half a minute;
            each counts for all types it serves.
        paused: whether it is paused.
    """

    task_type: str
    due: int
    due_is_exact: bool
    oldest_due: float
    running: int
    workers: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsPoint:
    """Counts what happened in one minute, or one hour if the range is long.

    Attributes:
        at: the start of that time.
        seconds: how long it is, 60 or 3600; what was counted may be less, if it is not over.
        started, finished, retried, failed, cancelled: as in ``KindStats``, of all kinds asked for.
        run_seconds: how long the runs that ended in it took.
        busy_seconds: how long workers of all pools were busy in it, with runs of all kinds.
        worker_seconds: how long all pools had workers, busy or not, added up.
    """

    at: datetime
    seconds: float
    started: int
    finished: int
    retried: int
    failed: int
    cancelled: int
    run_seconds: float
    busy_seconds: float
    worker_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatPoint:
    """Counts the times of one kind in one minute, or one hour if the range is long, by bucket.

    ``fang_core.monitoring.buckets.BOUNDS`` are the buckets' bounds.

    Attributes:
        at: the start of that time.
        kind: the kind.
        task_type: the task type.
        queue: how many runs had waited so long, by bucket; empty buckets are left out.
        run: how many runs took so long.
    """

    at: datetime
    kind: str
    task_type: str
    queue: Histogram
    run: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Holds what pools have counted in a range of time, and the current state of the task types.

    Attributes:
        since: the start of the range, which is that of a minute, or of an hour if the range is long.
        until: its end, by the backend's clock.
        kinds: the kinds that had runs or lost some, those that took most of the workers' time first.
        types: the task types that have due or running tasks, pools, or settings of their own, by name.
        points: the minutes or hours in which something was counted, in order.
        utilisation: the part of the time of all pools' workers in which they were busy, with runs of all kinds, 0 to 1;
            None if no pool has counted.
    """

    since: datetime
    until: datetime
    kinds: tuple[KindStats, ...]
    types: tuple[TypeStats, ...]
    points: tuple[StatsPoint, ...]
    utilisation: float | None
