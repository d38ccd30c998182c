"""Reads the data of ``fang status``, in statements that are each bounded in rows and in time."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from fang_cli.watching.reading import reader_of_tables
from fang_core.flow.info import TypeInfo
from fang_core.monitoring.reading import checked_range
from fang_core.monitoring.stats import Stats
from fang_core.pool.glance import EVERY, Glance, Life
from fang_core.record import PoolInfo
from fang_postgres.monitoring.reading import read_stats
from fang_postgres.operations import Operations
from fang_postgres.reports.counting import unknown_kinds, unserved_types
from fang_postgres.reports.figures import (
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
from fang_postgres.reports.reports import Reports

_COUNTED: Final = timedelta(hours=1)
"""How far back it tells what pools have counted."""


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
    """Reads the status. Takes as long as the statements, and up to 2.5 s more if some pool may be dead.

    Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable``.
    """
    reports = Reports(schema)
    with reader_of_tables(url, schema, reports) as reader:
        glance = Glance()
        reader.look(reports, glance)
        running = reader.ask(reports.running())
        counts = reader.run_script(reports.tasks(running))
        retried = reader.run_script(reports.retries(counts))
        oldest = reader.ask(reports.oldest_due()) or []
        failures = reader.ask(reports.last_failures()) or []
        notable = reader.ask(reports.notable_runs()) or []
        types = reader.ask(reports.types()) or []
        paused_schedules = reader.ask(reports.paused_schedules()) or []
        stats = reader.run_whole(read_stats(Operations(schema), checked_range(_COUNTED, None, None)))
        while not glance.is_over:
            time.sleep(EVERY)
            if not reader.look(reports, glance):
                break
        pools = reader.ask(reports.pools()) or []
    lives = {pool.id: glance.life(pool.id) for pool in pools}
    alive = [pool for pool in pools if lives[pool.id] is Life.ALIVE]
    return Status(
        counts=counts,
        oldest_due=oldest,
        last_failures=failures,
        retried=retried,
        running=running or (),
        notable=notable,
        pools=pools,
        lives=lives,
        stats=stats,
        types=types,
        paused_schedules=paused_schedules,
        unserved_types=unserved_types(counts, alive),
        unknown_kinds=unknown_kinds(counts, alive),
        unread=reader.unread,
    )
