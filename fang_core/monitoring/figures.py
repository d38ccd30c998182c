"""Defines the plain values that reports return."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from fang_core.record import Progress, TaskState


@dataclass(frozen=True, slots=True)
class TaskCount:
    """Tasks of one type, state and kind.

    Attributes:
        due: how many wait only for a worker, as their time has come.
        is_estimate: whether the numbers are no exact ones, as there are too many tasks to count.
        is_least: whether they are then lower bounds, at which counting ended, and not estimates.
    """

    task_type: str
    state: TaskState
    kind: str
    count: int
    due: int
    is_estimate: bool = False
    is_least: bool = False


@dataclass(frozen=True, slots=True)
class OldestDue:
    """The task of a type that has been due longest, for ``age`` by the database's clock."""

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
        is_estimate: whether there were too many waiting tasks to look at all of them: ``count`` is then estimated, and
            a task that is due earlier, or has failed later, may have been left out.
        is_least: whether there are then at least ``count``.
    """

    task_type: str
    kind: str
    count: int
    next_due: datetime | None
    error: str | None
    is_estimate: bool = False
    is_least: bool = False


@dataclass(frozen=True, slots=True)
class PausedSchedule:
    """A schedule that is paused: until when (None until it is resumed), since when, by whom and why."""

    name: str
    paused_until: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None


@dataclass(frozen=True, slots=True)
class UnservedSchedule:
    """A schedule that makes no ticks: no pool serves its task type, or none of those that do has its class.

    Attributes:
        kind: that of the class which the pools lack; None if no pool serves the task type.
    """

    name: str
    task_type: str
    kind: str | None


@dataclass(frozen=True, slots=True)
class NotableRun:
    """Describes a run that hangs, or reports its progress, and has been going on for ``age`` by the database's clock.

    Attributes:
        is_hung: whether it hangs; ``place`` is then the line of code where it stands, if that is known.
    """

    pool_id: UUID
    task_id: str
    kind: str
    attempt: int
    since: datetime
    age: timedelta
    is_hung: bool
    place: str | None
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class RunningKind:
    """Tasks in progress of one type and kind that one pool holds, the first of them claimed ``age`` ago.

    ``pool_id`` is None for tasks that no pool of this library claimed. No heart beats for them, so it is not known
    whether they run, and they are not taken back.
    """

    task_type: str
    kind: str
    pool_id: UUID | None
    count: int
    claimed_at: datetime | None
    age: timedelta | None


@dataclass(frozen=True, slots=True)
class UnservedType:
    """A task type with due tasks that none of the given pools serves: they wait for a pool with this ``task_type``."""

    task_type: str
    due: int
    is_estimate: bool = False
    is_least: bool = False


@dataclass(frozen=True, slots=True)
class UnknownKind:
    """A kind with due tasks of a type that none of the given pools of this type knows: they wait for a pool with its
    class."""

    task_type: str
    kind: str
    due: int
    is_estimate: bool = False
    is_least: bool = False
