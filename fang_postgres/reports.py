"""Read-only views of the tables, for ``fang status`` and for pages that show the same.

None of them reads the whole table, unless that is small: a view of 10,000,000 rows takes as long as one of 100,000.
What there is more of than ``COUNTED`` is estimated, from a sample of ``SAMPLED`` pages, and says so. No statistics are
believed, which may be missing or stale.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias
from uuid import UUID

from fang_core.glance import Look
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.record import PRIORITIES, TaskState
from fang_postgres.operations import as_beat, read_version
from fang_postgres.revisions import Revision
from fang_postgres.schema import tables
from fang_postgres.sql import liveness
from fang_postgres.sql import reports as sql
from fang_postgres.statement import Conversation, Operation, Rows, Statement
from fang_postgres.statements import version

COUNTED: Final = 5_000
"""Rows that a count visits at most."""

SAMPLED: Final = 400
"""Pages in a sample: all of a small table, which so is counted exactly."""

_FEWEST: Final = 20
"""Rows of each type that are counted, however many types there are."""

_RANGES: Final = 2 * len(PRIORITIES)
"""In the index of waiting tasks, for each type: what is due and what is not, of each priority."""

_WAITING: Final = frozenset({TaskState.NEW, TaskState.RETRIED})


@dataclass(frozen=True, slots=True)
class TaskCount:
    """Tasks of one type, state and kind.

    Attributes:
        due: those that wait for a worker only, and not for their time.
        is_estimate: there are too many to be counted.
    """

    task_type: str
    state: TaskState
    kind: str
    count: int
    due: int
    is_estimate: bool = False


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
class RetriedKind:
    """Tasks of one type and kind that have failed and run again.

    Attributes:
        next_due: when the first of them is due; None if none of them was among the tasks that were looked at.
        error: the first line of the error of the one that failed last; None likewise.
        is_estimate: of so many waiting tasks not all were looked at; ``count`` is estimated, and a task that is due
            earlier, or has failed later, may have been left out.
    """

    task_type: str
    kind: str
    count: int
    next_due: datetime | None
    error: str | None
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class RunningKind:
    """Tasks in progress of one type and kind that one pool holds, the first of them claimed ``age`` ago.

    ``pool_id`` is None for those that no pool holds, since none of Fang's claimed them. No heart beats for them, so it
    is not known whether they run, and they are not taken back.
    """

    task_type: str
    kind: str
    pool_id: UUID | None
    count: int
    claimed_at: datetime | None
    age: timedelta | None


@dataclass(frozen=True, slots=True)
class RegisteredPool:
    """A pool as it registered itself; one that was killed stays registered until another pool finds it dead."""

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
    """A task type with due tasks that none of some pools serves: they wait for a pool with this ``task_type``."""

    task_type: str
    due: int
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class UnknownKind:
    """A kind with due tasks of a type, known to none of some pools of it: they wait for one that has its class."""

    task_type: str
    kind: str
    due: int
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class ReportStatements:
    """The statements under one schema name."""

    version: Statement
    pages: Statement
    sample: Statement
    waiting: Statement
    ended: Statement
    running: Statement
    retried: Statement
    oldest_due: Statement
    last_failures: Statement
    pools: Statement
    look: Statement


class Reports:
    """What can be asked about the tables under one schema name, each a statement of its own."""

    def __init__(self, schema: str) -> None:
        self._statements = report_statements(schema)

    def version(self) -> Operation[Revision | None]:
        """See ``Operations.version``; who only reads reports need not build all the statements of that."""
        return read_version(self._statements.version)

    def pages(self) -> Operation[int]:
        """How many pages the task table has."""
        return Operation(self._statements.pages, {}, lambda rows: int(rows[0][0]))

    def sample(self, pages: int) -> Operation[list[TaskCount]]:
        """How many tasks there are, estimated if the table has more pages than a sample."""
        share = min(1.0, SAMPLED / max(1, pages))
        params = {"p_percent": 100 * share}
        return Operation(self._statements.sample, params, lambda rows: _scaled(_as_counts(rows), share))

    def waiting(self, each: int) -> Operation[list[TaskCount]]:
        """Counts the first ``each`` waiting tasks of each type."""
        return Operation(self._statements.waiting, {"p_each": each}, _as_counts)

    def ended(self, each: int) -> Operation[list[TaskCount]]:
        """Counts the last ``each`` tasks of each type and state whose life has ended."""
        return Operation(self._statements.ended, {"p_each": each}, _as_counts)

    def running(self) -> Operation[list[RunningKind]]:
        """The tasks in progress by type, kind and holder; of the first ``COUNTED``."""
        return Operation(
            self._statements.running, {"p_each": COUNTED}, lambda rows: [RunningKind(*row) for row in rows]
        )

    def retried(self, each: int) -> Operation[list[RetriedKind]]:
        """What runs again, by type and kind; of the first ``each`` tasks of each type and priority, due and not."""
        return Operation(self._statements.retried, {"p_each": each}, lambda rows: [RetriedKind(*row) for row in rows])

    def oldest_due(self) -> Operation[list[OldestDue]]:
        """The oldest due task of each type that has one, by type."""
        return Operation(self._statements.oldest_due, {}, lambda rows: [OldestDue(*row) for row in rows])

    def last_failures(self) -> Operation[list[LastFailure]]:
        """The ten tasks that failed for good last, the last one first."""
        return Operation(self._statements.last_failures, {}, lambda rows: [LastFailure(*row) for row in rows])

    def pools(self) -> Operation[list[RegisteredPool]]:
        """The registered pools, in the order in which they started."""
        return Operation(self._statements.pools, {}, _as_pools)

    def look(self) -> Operation[Look]:
        """The counters and locks of all pools, and how long their sessions have been quiet."""
        return Operation(self._statements.look, {}, _as_look)

    def tasks(self, running: Sequence[RunningKind] | None) -> Conversation[list[TaskCount]]:
        """How many tasks there are, by type, state and kind: counted if they are few, else estimated.

        ``running`` is what is in progress; None if that took too long to read. Whoever holds the conversation may send
        None for a statement that took too long: what it would have counted is then missing, or estimated.
        """
        pages = yield self.pages()
        if pages is not None and pages <= SAMPLED:
            return sorted((yield self.sample(pages)) or (), key=_order)
        # A few of each type first, which says how many types share what may be counted.
        few = yield self.waiting(_FEWEST)
        waiting_each = share_of_each(few or ())
        waiting = few if not few else (yield self.waiting(waiting_each))
        few = yield self.ended(_FEWEST)
        ended_each = share_of_each(few or ())
        ended = few if not few else (yield self.ended(ended_each))
        in_progress = None if running is None else _in_progress(running)
        parts = [
            _Counted(waiting, waiting_each, (TaskState.NEW,)),
            _Counted(ended, ended_each, TERMINAL_STATES),
            _Counted(in_progress, COUNTED, (TaskState.IN_PROGRESS,)),
        ]
        sampled: Sequence[TaskCount] = ()
        if pages is not None and not all(part.is_whole for part in parts):
            sampled = (yield self.sample(pages)) or ()
        return sorted(_completed(parts, sampled), key=_order)

    def retries(self, counts: Sequence[TaskCount]) -> Conversation[list[RetriedKind]]:
        """What runs again, by type and kind, those with most tasks first. ``counts`` are all tasks.

        None may be sent for a statement that took too long.
        """
        each = share_of_each([count for count in counts if count.state in _WAITING]) // _RANGES
        seen: Sequence[RetriedKind] = (yield self.retried(max(each, 1))) or ()
        return sorted(_counted_retries(seen, counts), key=lambda kind: (-kind.count, kind.task_type, kind.kind))


def _in_progress(running: Sequence[RunningKind]) -> list[TaskCount]:
    """Of all pools together."""
    counts = Counter[tuple[str, str]]()
    for each in running:
        counts[each.task_type, each.kind] += each.count
    return [TaskCount(task_type, TaskState.IN_PROGRESS, kind, count, 0) for (task_type, kind), count in counts.items()]


def share_of_each(counts: Sequence[TaskCount]) -> int:
    """How many rows of each group to count, so that all together are at most ``COUNTED`` or the groups are many."""
    return max(_FEWEST, COUNTED // max(1, len({_group(count) for count in counts})))


class _Counted:
    """Counts of the first ``each`` rows of the groups in some states; None if that took too long."""

    def __init__(self, counts: Sequence[TaskCount] | None, each: int, states: Sequence[TaskState]) -> None:
        self.counts = counts or ()
        totals = Counter[_Group]()
        for count in self.counts:
            totals[_group(count)] += count.count
        self._groups = set(totals)
        self._cut = {group for group, total in totals.items() if total >= each}
        self._states = states
        self._lists_all = counts is not None and len({task_type for task_type, _ in totals}) < sql.MOST_TYPES

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self._lists_all and not self._cut

    def lacks(self, count: TaskCount) -> bool:
        """Whether there may be more of its group than were counted."""
        group = _group(count)
        return group in self._cut or (not self._lists_all and group not in self._groups and group[1] in self._states)


def _completed(parts: Sequence[_Counted], sampled: Sequence[TaskCount]) -> list[TaskCount]:
    """The counts, and what a sample says of that of which there are more."""
    found: dict[_Place, TaskCount] = {}
    for part in parts:
        for count in part.counts:
            found[_place(count)] = replace(count, is_estimate=part.lacks(count))
    for estimate in sampled:
        if not any(part.lacks(estimate) for part in parts):
            continue
        counted = found.get(_place(estimate), replace(estimate, count=0, due=0))
        found[_place(estimate)] = replace(
            counted,
            count=max(counted.count, estimate.count),
            due=max(counted.due, estimate.due),
            is_estimate=True,
        )
    return list(found.values())


def _counted_retries(seen: Sequence[RetriedKind], counts: Sequence[TaskCount]) -> list[RetriedKind]:
    """What was seen of kinds that run again, with how many there are."""
    by_kind = {(each.task_type, each.kind): each for each in seen}
    for count in counts:
        if count.state is TaskState.RETRIED:
            place = (count.task_type, count.kind)
            found = by_kind.get(place, RetriedKind(*place, 0, None, None))
            is_estimate = count.is_estimate or found.count < count.count
            by_kind[place] = replace(found, count=max(found.count, count.count), is_estimate=is_estimate)
    return list(by_kind.values())


def unserved_types(counts: Sequence[TaskCount], pools: Sequence[RegisteredPool]) -> list[UnservedType]:
    """The task types with due tasks that none of the pools serves, most tasks first."""
    served = {task_type for pool in pools for task_type in pool.task_types}
    due, estimated = Counter[str](), set[str]()
    for count in counts:
        if count.due and count.task_type not in served:
            due[count.task_type] += count.due
            estimated |= {count.task_type} if count.is_estimate else set()
    unserved = (UnservedType(task_type, number, task_type in estimated) for task_type, number in due.items())
    return sorted(unserved, key=lambda each: (-each.due, each.task_type))


def unknown_kinds(counts: Sequence[TaskCount], pools: Sequence[RegisteredPool]) -> list[UnknownKind]:
    """The kinds with due tasks that none of the pools of their task type knows, most tasks first."""
    known = {(task_type, kind) for pool in pools for task_type in pool.task_types for kind in pool.kinds}
    due, estimated = Counter[tuple[str, str]](), set[tuple[str, str]]()
    for count in counts:
        place = (count.task_type, count.kind)
        if count.due and place not in known:
            due[place] += count.due
            estimated |= {place} if count.is_estimate else set()
    unknown = (UnknownKind(*place, number, place in estimated) for place, number in due.items())
    return sorted(unknown, key=lambda each: (-each.due, each.kind, each.task_type))


@lru_cache(maxsize=64)
def report_statements(schema: str) -> ReportStatements:
    """Builds and compiles them, once for a schema name."""
    t = tables(schema)
    return ReportStatements(
        version=version(schema),
        pages=sql.pages(t),
        sample=sql.sample(t),
        waiting=sql.waiting(t),
        ended=sql.ended(t),
        running=sql.running(t),
        retried=sql.retried(t),
        oldest_due=sql.oldest_due(t),
        last_failures=sql.last_failures(t),
        pools=sql.pools(t),
        look=liveness.look(t),
    )


_Group: TypeAlias = tuple[str, TaskState]
_Place: TypeAlias = tuple[str, TaskState, str]


def _group(count: TaskCount) -> _Group:
    """What is counted together: waiting tasks stand in one index, whatever their state."""
    return count.task_type, TaskState.NEW if count.state in _WAITING else count.state


def _place(count: TaskCount) -> _Place:
    return count.task_type, count.state, count.kind


def _order(count: TaskCount) -> tuple[str, int, str]:
    return count.task_type, list(TaskState).index(count.state), count.kind


def _scaled(counts: list[TaskCount], share: float) -> list[TaskCount]:
    """From a share of all pages to all of them; to two digits, since more would promise too much."""
    if share == 1:
        return counts
    return [
        replace(count, count=_rounded(count.count / share), due=_rounded(count.due / share), is_estimate=True)
        for count in counts
    ]


def _rounded(number: float) -> int:
    return int(float(f"{number:.1e}"))


def _as_counts(rows: Rows) -> list[TaskCount]:
    return [TaskCount(row[0], TaskState(row[1]), *row[2:]) for row in rows]


def _as_look(rows: Rows) -> Look:
    quiet = {row[2]: row[-1] for row in rows if row[-1] is not None}
    return Look(as_beat([row[:-1] for row in rows]), quiet)


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
