"""Defines the data of ``fang status``, and has them read in the way of the URL's backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from fang_backends.urls import Engine, engine_of
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
    UnservedType,
)
from fang_core.monitoring.life import Life
from fang_core.monitoring.stats import Stats
from fang_core.record import PoolInfo


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
        unread: the names of statements that took too long; their data is missing.
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
    unread: Sequence[str]


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
