"""Makes read-only reports on the tables, for ``fang status`` and for pages that show the same.

None of them reads the whole table, unless it is small: a report on 10,000,000 rows takes as long as one on 100,000.
Numbers above ``COUNTED`` are estimated from a sample of ``SAMPLED`` pages, and marked as estimates. The planner's
statistics are not used, since they may be missing or stale.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.monitoring.figures import (
    LastFailure,
    NotableRun,
    OldestDue,
    PausedSchedule,
    RetriedKind,
    RunningKind,
    TaskCount,
)
from fang_core.pool.telling.glance import Look
from fang_core.record import PRIORITIES, PoolInfo, TaskState
from fang_core.schedules.stored import ScheduleInfo
from fang_postgres.once import OfSchema, once
from fang_postgres.operations.liveness import as_beat
from fang_postgres.operations.managing import managed_types
from fang_postgres.operations.pools import as_pools, read_version
from fang_postgres.operations.rows import as_schedule
from fang_postgres.operations.stats import StatsReading
from fang_postgres.reports.counting import (
    COUNTED,
    FEWEST,
    Counted,
    completed,
    counted_retries,
    in_progress,
    order,
    scaled,
    share_of_each,
)
from fang_postgres.reports.notable import as_notable_runs
from fang_postgres.revisions import Revision
from fang_postgres.statement import Operation, Rows, Script

SAMPLED: Final = 400
"""Pages in a sample. A smaller table is read whole, and so counted exactly."""

_RANGES: Final = 2 * len(PRIORITIES)
"""The ranges of each type in the index of waiting tasks: due tasks and later ones, for each priority."""


class ReportStatements(OfSchema):
    """The statements under one schema name."""

    folder = "reports/"

    version = once("version.version")
    clock = once("reports.clock")
    pages = once("reports.pages")
    hides_rows = once("reports.hides_rows")
    sample = once("reports.sample")
    waiting = once("reports.waiting")
    ended = once("reports.ended")
    running = once("reports.running")
    retried = once("reports.retried")
    oldest_due = once("reports.oldest_due")
    last_failures = once("reports.last_failures")
    pools = once("pools.list_pools")
    notable_runs = once("reports.notable_runs")
    list_types = once("managing.list_types")
    paused_schedules = once("reports.paused_schedules")
    unserved_schedules = once("reports.unserved_schedules")
    look = once("liveness.look")
    read_stats = once("stats.read_stats")
    read_histograms = once("stats.read_histograms")


class Reports(StatsReading):
    """Makes the operations of reports on the tables under one schema name."""

    def __init__(self, schema: str) -> None:
        self._statements = ReportStatements(schema)

    def version(self) -> Operation[Revision | None]:
        """See ``Operations.version``."""
        return read_version(self._statements.version)

    def clock(self) -> Operation[datetime]:
        """Returns the time by the database's clock."""

        def as_time(rows: Rows) -> datetime:
            found: datetime = rows[0][0]
            return found

        return Operation(self._statements.clock, {}, as_time)

    def pages(self) -> Operation[int]:
        """Returns how many pages the task table has."""
        return Operation(self._statements.pages, {}, lambda rows: int(rows[0][0]))

    def hides_rows(self) -> Operation[bool]:
        """Returns whether row-level security may hide tasks from this role."""
        return Operation(self._statements.hides_rows, {}, lambda rows: bool(rows[0][0]))

    def sample(self, pages: int) -> Operation[list[TaskCount]]:
        """Returns how many tasks there are, estimated if the table has more pages than a sample."""
        share = min(1.0, SAMPLED / max(1, pages))
        params = {"p_percent": 100 * share}
        return Operation(self._statements.sample, params, lambda rows: scaled(_as_counts(rows), share))

    def waiting(self, each: int) -> Operation[list[TaskCount]]:
        """Counts the first ``each`` waiting tasks of each type."""
        return Operation(self._statements.waiting, {"p_each": each}, _as_counts)

    def ended(self, each: int) -> Operation[list[TaskCount]]:
        """Counts the last ``each`` ended tasks of each type and state."""
        return Operation(self._statements.ended, {"p_each": each}, _as_counts)

    def running(self) -> Operation[list[RunningKind]]:
        """Counts the first ``COUNTED`` tasks in progress, by type, kind and holder."""
        return Operation(
            self._statements.running, {"p_each": COUNTED}, lambda rows: [RunningKind(*row) for row in rows]
        )

    def retried(self, each: int) -> Operation[list[RetriedKind]]:
        """Returns the tasks that will be retried, by type and kind, among the first ``each`` due and the first ``each``
        later tasks of each type and priority."""
        return Operation(self._statements.retried, {"p_each": each}, lambda rows: [RetriedKind(*row) for row in rows])

    def oldest_due(self) -> Operation[list[OldestDue]]:
        """Returns the oldest due task of each type that has one, by type."""
        return Operation(self._statements.oldest_due, {}, lambda rows: [OldestDue(*row) for row in rows])

    def last_failures(self) -> Operation[list[LastFailure]]:
        """Returns the ten tasks that failed for good last, the last one first."""
        return Operation(self._statements.last_failures, {}, lambda rows: [LastFailure(*row) for row in rows])

    def pools(self) -> Operation[list[PoolInfo]]:
        """Returns the registered pools, in the order in which they started."""
        return Operation(self._statements.pools, {}, as_pools)

    def notable_runs(self) -> Operation[list[NotableRun]]:
        """Returns the runs that hang, the oldest first, and then those that report their progress."""
        return Operation(self._statements.notable_runs, {}, as_notable_runs)

    def types(self) -> Operation[list[TypeInfo]]:
        """Returns the task types that are paused, or have limits, rates or fairness."""
        params = {"p_task_types": None, "p_counts": True}
        return Operation(self._statements.list_types, params, managed_types)

    def paused_schedules(self) -> Operation[list[PausedSchedule]]:
        """Returns the schedules that are paused, by name."""
        return Operation(self._statements.paused_schedules, {}, lambda rows: [PausedSchedule(*row) for row in rows])

    def unserved_schedules(self, pool_ids: Collection[UUID]) -> Operation[list[ScheduleInfo]]:
        """Returns the schedules that are not paused, and may have ticks to make, but none that these pools make, by
        name."""
        params = {"p_ids": list(pool_ids)}
        return Operation(self._statements.unserved_schedules, params, lambda rows: [as_schedule(row) for row in rows])

    def look(self) -> Operation[Look]:
        """Returns the counters and locks of all pools, and how long their sessions have been quiet."""
        return Operation(self._statements.look, {}, _as_look)

    def tasks(self, running: Sequence[RunningKind] | None) -> Script[list[TaskCount]]:
        """Returns how many tasks there are, by type, state and kind: counted if they are few, otherwise estimated.

        ``running`` are the tasks in progress; None if that took too long to read. The caller may send None for a
        statement that took too long: its counts are then missing, or estimated.
        """
        pages = yield self.pages()
        if pages is not None and pages <= SAMPLED:
            return sorted((yield self.sample(pages)) or (), key=order)
        # A few of each type first, to see how many types share the limit of rows to count.
        few = yield self.waiting(FEWEST)
        waiting_each = share_of_each(few or ())
        waiting = few if not few else (yield self.waiting(waiting_each))
        few = yield self.ended(FEWEST)
        ended_each = share_of_each(few or ())
        ended = few if not few else (yield self.ended(ended_each))
        held = None if running is None else in_progress(running)
        parts = [
            Counted(waiting, waiting_each, (TaskState.NEW,)),
            Counted(ended, ended_each, TERMINAL_STATES),
            Counted(held, COUNTED, (TaskState.IN_PROGRESS,)),
        ]
        sampled: Sequence[TaskCount] = ()
        if pages is not None and not all(part.is_whole for part in parts):
            sampled = (yield self.sample(pages)) or ()
        return sorted(completed(parts, sampled), key=order)

    def retries(self, counts: Sequence[TaskCount]) -> Script[list[RetriedKind]]:
        """Returns the tasks that will be retried, by type and kind, most tasks first. ``counts`` are all tasks.

        None may be sent for a statement that took too long.
        """
        each = share_of_each([count for count in counts if count.state in DUE_STATES]) // _RANGES
        seen: Sequence[RetriedKind] = (yield self.retried(max(each, 1))) or ()
        return sorted(counted_retries(seen, counts), key=lambda kind: (-kind.count, kind.task_type, kind.kind))


def _as_counts(rows: Rows) -> list[TaskCount]:
    return [TaskCount(row[0], TaskState(row[1]), *row[2:]) for row in rows]


def _as_look(rows: Rows) -> Look:
    quiet = {row[2]: row[-1] for row in rows if row[-1] is not None}
    return Look(as_beat([row[:-1] for row in rows]), quiet)
