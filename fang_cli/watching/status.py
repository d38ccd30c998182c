"""Reads the data of ``fang status``, in statements that are each bounded in rows and in time."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from fang_core.errors import BackendError, SchemaError
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.monitoring.reading import checked_range
from fang_core.monitoring.stats import Stats
from fang_core.pool.glance import EVERY, Glance, Life
from fang_core.record import PoolInfo, TaskState
from fang_postgres.connections.connecting import SET_FOR_TRANSACTION
from fang_postgres.connections.engine import engine_for
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
from fang_postgres.revisions import schema_problem
from fang_postgres.sql.reports import SETTINGS
from fang_postgres.statement import Operation, Script
from fang_threaded.database import Database, EngineDatabase, sqlstate_of

T = TypeVar("T")

_COUNTED: Final = timedelta(hours=1)
"""How far back it tells what pools have counted."""

_QUERY_CANCELED: Final = "57014"
# A plan with what these forbid counts as so dear that the server would compile it first, for a second and more.
_SETTINGS: Final = {**SETTINGS, "jit": "off"}
_PINNED: Final = "".join(f"set_config('{name}', '{value}', true), " for name, value in _SETTINGS.items())


@dataclass(slots=True)
class AcquireTimeout:
    """Decides how long to wait for a statement, so that part of a cold, locked or overloaded database is still read.

    After each statement that takes too long the wait is halved, down to 0.25 s, so that all of them together take 5 s.
    """

    milliseconds: int = 2_000

    def used_up(self) -> None:
        """Halves the wait, after a statement took too long."""
        self.milliseconds = max(250, self.milliseconds // 2)


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


def read_status(url: str, schema: str) -> Status:
    """Reads the status. Takes as long as the statements, and up to 2.5 s more if some pool may be dead.

    Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable``.
    """
    reports = Reports(schema)
    patience = AcquireTimeout()
    with database_for_reading(url, schema, patience) as database:
        problem = schema_problem(schema, database.run(reports.version()))
        if problem is not None:
            raise SchemaError(problem)
        reader = Reader(database, patience)
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


def read_queues(url: str, schema: str) -> list[QueueStatus]:
    """Reads which task types have tasks, are served by registered pools, or are paused or limited.

    Raises what ``read_status`` raises.
    """
    reports = Reports(schema)
    patience = AcquireTimeout()
    with database_for_reading(url, schema, patience) as database:
        problem = schema_problem(schema, database.run(reports.version()))
        if problem is not None:
            raise SchemaError(problem)
        reader = Reader(database, patience)
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


class Reader:
    """Runs one statement after the other, and leaves out those that take too long."""

    def __init__(self, database: Database, patience: AcquireTimeout) -> None:
        self._database = database
        self._patience = patience
        self.unread: list[str] = []
        """The names of the statements that took too long."""

    def ask(self, operation: Operation[T]) -> T | None:
        """Returns the operation's result, or None if it took too long."""
        try:
            return self._database.run(operation)
        except BackendError as error:
            cause = error.__cause__
            if not isinstance(cause, DBAPIError) or sqlstate_of(cause) != _QUERY_CANCELED:
                raise
        self._patience.used_up()
        self.unread.append(operation.statement.name)
        return None

    def run_script(self, script: Script[T]) -> T:
        """Returns the script's result; sends it None for each statement that took too long."""
        answer: Any = None
        while True:
            try:
                answer = self.ask(script.send(answer))
            except StopIteration as end:
                result: T = end.value
                return result

    def run_whole(self, script: Script[T]) -> T | None:
        """Returns the script's result, or None if one of its statements took too long."""
        answer: Any = None
        while True:
            try:
                answer = self.ask(script.send(answer))
            except StopIteration as end:
                result: T = end.value
                return result
            if answer is None:
                script.close()
                return None

    def look(self, reports: Reports, glance: Glance) -> bool:
        """Looks at the pools once more; returns whether that succeeded."""
        look = self.ask(reports.look())
        if look is not None:
            glance.look(look, time.monotonic())
        return look is not None


@contextmanager
def database_for_reading(
    url: str, schema: str, patience: AcquireTimeout, application_name: str = "fang status"
) -> Iterator[Database]:
    """Yields a database with one connection, whose transactions have the settings of reports and this patience."""
    engine = engine_for(url, application_name=application_name, prepares=False, pool_size=1)

    # For each transaction: a pooler refuses settings at the start, and would pass a session's on to its other clients.
    @event.listens_for(engine, "begin")
    def pin(connection: Any) -> None:
        connection.exec_driver_sql(SET_FOR_TRANSACTION)
        timeout = f"set_config('statement_timeout', '{patience.milliseconds}', true)"
        connection.exec_driver_sql(f"SELECT {_PINNED}{timeout}")

    try:
        yield EngineDatabase(engine, schema, is_own=True)
    finally:
        engine.dispose()
