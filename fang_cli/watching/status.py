"""Defines the data of ``fang status``, and has them read in the way of the URL's backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from fang_backends.urls import Engine, engine_of
from fang_cli.tables import Number
from fang_core.flow.info import TypeInfo
from fang_core.monitoring.figures import (
    LastFailure,
    NotableRun,
    OldestDue,
    PausedSchedule,
    RetriedKind,
    RunningKind,
    TaskCount,
    UnknownKind,
    UnservedSchedule,
    UnservedType,
)
from fang_core.monitoring.life import Life
from fang_core.monitoring.stats import KindStats, Stats
from fang_core.record import PoolInfo, TaskState

_MOST_KINDS: Final = 10
"""How many of the kinds that took most time are shown."""


@dataclass(frozen=True, slots=True)
class Status:
    """The data that the command shows.

    Attributes:
        notable: the runs that hang, first, and those that tell of their progress.
        lives: whether each pool seems alive.
        stats: what pools have counted in the last hour; None if that took too long.
        types: the task types that are paused, or have limits.
        paused_schedules: the schedules that are paused.
        unserved_types, unknown_kinds: those that no live pool serves or knows.
        unserved_schedules: the schedules of which no live pool makes ticks.
        unread: the names of statements that took too long; their data is missing.
        may_be_hidden: whether row-level security decides which tasks the role sees.
    """

    counts: Sequence[TaskCount]
    oldest_due: Sequence[OldestDue]
    last_failures: Sequence[LastFailure]
    retried: Sequence[RetriedKind]
    running: Sequence[RunningKind]
    notable: Sequence[NotableRun]
    pools: Sequence[PoolInfo]
    lives: Mapping[UUID, Life]
    stats: Stats | None
    types: Sequence[TypeInfo]
    paused_schedules: Sequence[PausedSchedule]
    unserved_types: Sequence[UnservedType]
    unknown_kinds: Sequence[UnknownKind]
    unserved_schedules: Sequence[UnservedSchedule]
    unread: Sequence[str]
    may_be_hidden: bool = False

    def counted_by(self, *names: str) -> dict[tuple[str, ...], dict[TaskState, Number]]:
        """Returns how many tasks there are in each state, by these attributes of a ``TaskCount``."""
        sums: dict[tuple[str, ...], dict[TaskState, Number]] = {}
        for count in self.counts:
            states = sums.setdefault(tuple(getattr(count, name) for name in names), {})
            former = states.get(count.state, Number(0, False))
            states[count.state] = Number(
                former.value + count.count, former.is_estimate or count.is_estimate, former.is_least or count.is_least
            )
        return sums

    @property
    def slowest(self) -> Sequence[KindStats]:
        """The kinds that took most of the workers' time."""
        return () if self.stats is None else self.stats.kinds[:_MOST_KINDS]

    @property
    def unheld(self) -> list[RunningKind]:
        """The tasks in progress that no pool of this library holds."""
        return [each for each in self.running if each.pool_id is None]

    def life_of(self, pool_id: UUID) -> str:
        """Returns whether a pool seems alive, also if it is registered no more."""
        return self.lives.get(pool_id, "gone")


def read_status(url: str, schema: str) -> Status:
    """Reads the status. Takes as long as its statements, and up to 2.5 s more if some pool may be dead.

    Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable``.
    """
    if engine_of(url) is Engine.POSTGRES:
        from fang_cli.watching.tables_status import read_status_of_tables

        return read_status_of_tables(url, schema)
    from fang_backends.queues import queue_of
    from fang_cli.watching.queue_status import status_of

    with queue_of(url, name=schema) as queue:
        return status_of(queue)
