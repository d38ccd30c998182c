"""Read-only views of the tables, for ``fang status`` and for pages that show the same.

What they cost: ``tasks`` reads the whole table once, since no index holds type, state and kind together. That is 0.13 s
for a million rows in 250 MB and 0.45 s in 1.1 GB, cached, with two parallel workers; it grows with the table.
``last_failures`` reads ten rows for each task type, from the ends of its ranges in the index of ended tasks.
``oldest_due`` takes one step in the index of due rows for each task type and priority: less than a millisecond.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import SmallInteger, Text, cast, func, literal_column, null, select, true
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.sql.elements import ColumnElement

from fang_core.record import HIGHEST_PRIORITY, LOWEST_PRIORITY, TaskState
from fang_postgres.schema import Tables, tables
from fang_postgres.statement import Operation, Rows, Statement


@dataclass(frozen=True, slots=True)
class TaskCount:
    """Tasks of one type, state and kind.

    Attributes:
        due: those that wait for a worker only, and not for their time.
        unheld: those in progress that no pool holds, since none of Fang's claimed them. No heart beats for them, so
            nobody can tell whether they run, and nobody takes them back.
    """

    task_type: str
    state: TaskState
    kind: str
    count: int
    due: int
    unheld: int


@dataclass(frozen=True, slots=True)
class OldestDue:
    """The task of a type that has been due for longest, ``age`` by the database's clock."""

    task_type: str
    id: UUID
    scheduled_at: datetime
    age: timedelta


@dataclass(frozen=True, slots=True)
class LastFailure:
    """A task that has failed for good; ``error`` is the first line of its error message."""

    task_type: str
    kind: str
    id: UUID
    failed_at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class RegisteredPool:
    """A pool as it registered itself; one that was killed stays registered until it is found dead."""

    id: UUID
    mode: str
    host: str
    pid: int
    task_types: tuple[str, ...]
    kinds: tuple[str, ...]
    workers: int
    started_at: datetime
    stopping: bool


@dataclass(frozen=True, slots=True)
class UnservedType:
    """A task type with due tasks that no registered pool serves: they wait for a pool with this ``task_type``."""

    task_type: str
    due: int


@dataclass(frozen=True, slots=True)
class UnknownKind:
    """A kind with due tasks of a type, known to no registered pool of that: they wait for one that has its class."""

    task_type: str
    kind: str
    due: int


@dataclass(frozen=True, slots=True)
class ReportStatements:
    """The statements under one schema name."""

    tasks: Statement
    oldest_due: Statement
    last_failures: Statement
    pools: Statement


class Reports:
    """What can be asked about the tables under one schema name."""

    def __init__(self, schema: str) -> None:
        self._statements = report_statements(schema)

    def tasks(self) -> Operation[list[TaskCount]]:
        """How many tasks there are, by type, state and kind."""
        return Operation(self._statements.tasks, {}, _as_counts)

    def oldest_due(self) -> Operation[list[OldestDue]]:
        """The oldest due task of each type that has one, by type."""
        return Operation(self._statements.oldest_due, {}, _as_oldest)

    def last_failures(self) -> Operation[list[LastFailure]]:
        """The ten tasks that failed for good last, the last one first."""
        return Operation(self._statements.last_failures, {}, _as_failures)

    def pools(self) -> Operation[list[RegisteredPool]]:
        """The registered pools, in the order in which they started."""
        return Operation(self._statements.pools, {}, _as_pools)


def unserved_types(counts: Sequence[TaskCount], pools: Sequence[RegisteredPool]) -> list[UnservedType]:
    """The task types with due tasks that none of the pools serves, most tasks first."""
    served = {task_type for pool in pools for task_type in pool.task_types}
    due = Counter[str]()
    for count in counts:
        if count.due and count.task_type not in served:
            due[count.task_type] += count.due
    return sorted((UnservedType(*item) for item in due.items()), key=lambda each: (-each.due, each.task_type))


def unknown_kinds(counts: Sequence[TaskCount], pools: Sequence[RegisteredPool]) -> list[UnknownKind]:
    """The kinds with due tasks that none of the pools of their task type knows, most tasks first."""
    known = {(task_type, kind) for pool in pools for task_type in pool.task_types for kind in pool.kinds}
    due = Counter[tuple[str, str]]()
    for count in counts:
        place = (count.task_type, count.kind)
        if count.due and place not in known:
            due[place] += count.due
    unknown = (UnknownKind(*place, number) for place, number in due.items())
    return sorted(unknown, key=lambda each: (-each.due, each.kind, each.task_type))


@lru_cache(maxsize=64)
def report_statements(schema: str) -> ReportStatements:
    """Builds and compiles them, once for a schema name."""
    t = tables(schema)
    return ReportStatements(
        tasks=_tasks(t), oldest_due=_oldest_due(t), last_failures=_last_failures(t), pools=_pools(t)
    )


def _tasks(t: Tables) -> Statement:
    c = t.tasks.alias("t").c
    due = func.count().filter(_waits(c), c.scheduled_at <= func.now())
    state = cast(c.state, Text).label("state")
    unheld = func.count().filter(c.state == literal_column("'in_progress'"), c.pool_id.is_(None))
    rows = select(c.task_type, state, c.kind, func.count().label("count"), due.label("due"), unheld.label("unheld"))
    return Statement("tasks", rows.group_by(c.task_type, c.state, c.kind).order_by(c.task_type, c.state, c.kind))


def _oldest_due(t: Tables) -> Statement:
    types = _types(t, _waits)
    levels = func.generate_series(literal_column(str(HIGHEST_PRIORITY)), literal_column(str(LOWEST_PRIORITY)))
    level = levels.table_valued("priority").render_derived(name="level")
    c = t.tasks.alias("t").c
    first = (
        select(c.id, c.scheduled_at)
        .where(
            c.task_type == types.c.task_type,
            c.priority == cast(level.c.priority, SmallInteger),
            _waits(c),
            c.scheduled_at <= func.now(),
        )
        .order_by(c.scheduled_at, c.id)
        .limit(literal_column("1"))
        .lateral("first")
    )
    age = (func.now() - first.c.scheduled_at).label("age")
    return Statement(
        "oldest_due",
        select(types.c.task_type, first.c.id, first.c.scheduled_at, age)
        .ext(distinct_on(types.c.task_type))
        .select_from(types.join(level, true()).join(first, true()))
        .order_by(types.c.task_type, first.c.scheduled_at, first.c.id),
    )


def _types(t: Tables, are: Callable[[Any], ColumnElement[bool]]) -> Any:
    """The task types that have such rows, each found by one step in an index: DISTINCT would read it all."""
    c, later = t.tasks.alias("t").c, t.tasks.alias("later").c
    types = select(func.min(c.task_type).label("task_type")).where(are(c)).cte("types", recursive=True)
    after = select(func.min(later.task_type)).where(are(later), later.task_type > types.c.task_type)
    return types.union_all(select(after.scalar_subquery()).where(types.c.task_type.is_not(null())))


def _last_failures(t: Tables) -> Statement:
    types = _types(t, _has_failed)
    c = t.tasks.alias("t").c
    ten: ColumnElement[int] = literal_column("10")
    of_type = (
        select(c.task_type, c.kind, c.id, c.updated_at, c.error_message)
        .where(_has_failed(c), c.task_type == types.c.task_type)
        .order_by(c.updated_at.desc())
        .limit(ten)
        .lateral("of_type")
    )
    last = of_type.c
    first_line = func.split_part(
        func.coalesce(last.error_message, literal_column("''")), literal_column("E'\\n'"), literal_column("1")
    )
    rows = select(last.task_type, last.kind, last.id, last.updated_at, first_line.label("error"))
    failed = rows.select_from(types.join(of_type, true()))
    return Statement("last_failures", failed.order_by(last.updated_at.desc()).limit(ten))


def _pools(t: Tables) -> Statement:
    c = t.pools.alias("p").c
    rows = select(c.id, c.mode, c.host, c.pid, c.task_types, c.kinds, c.workers, c.started_at, c.stopping)
    return Statement("pools", rows.order_by(c.started_at, c.id))


def _waits(c: Any) -> ColumnElement[bool]:
    """As the index of due rows has it."""
    waits: ColumnElement[bool] = c.state.in_([literal_column("'new'"), literal_column("'retried'")])
    return waits


def _has_failed(c: Any) -> ColumnElement[bool]:
    has_failed: ColumnElement[bool] = c.state == literal_column("'failed'")
    return has_failed


def _as_counts(rows: Rows) -> list[TaskCount]:
    return [TaskCount(row[0], TaskState(row[1]), *row[2:]) for row in rows]


def _as_oldest(rows: Rows) -> list[OldestDue]:
    return [OldestDue(*row) for row in rows]


def _as_failures(rows: Rows) -> list[LastFailure]:
    return [LastFailure(*row) for row in rows]


def _as_pools(rows: Rows) -> list[RegisteredPool]:
    return [
        RegisteredPool(
            id=row[0],
            mode=row[1],
            host=row[2],
            pid=row[3],
            task_types=tuple(row[4]),
            kinds=tuple(row[5]),
            workers=row[6],
            started_at=row[7],
            stopping=row[8],
        )
        for row in rows
    ]
