"""The records: a task's row as applications see it, and the short form of it that a claim hands to a worker."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

DEFAULT_TASK_TYPE: Final = "common"
DEFAULT_MAX_RETRIES: Final = 20
HIGHEST_PRIORITY: Final = -2
LOWEST_PRIORITY: Final = 2
PRIORITIES: Final = tuple(range(HIGHEST_PRIORITY, LOWEST_PRIORITY + 1))
"""The levels of a task type, in the order in which they are served."""


class TaskState(StrEnum):
    """Where a task stands in its life. The names are those of Rust's Fang, ``cancelled`` is ours."""

    NEW = "new"
    IN_PROGRESS = "in_progress"
    FAILED = "failed"
    FINISHED = "finished"
    RETRIED = "retried"
    CANCELLED = "cancelled"


class Task(NamedTuple):
    """One row of ``fang_tasks``, as it was when it was read. A record: it does not act.

    A named tuple, since a bulk insert makes one for each row: a frozen dataclass costs two microseconds more.

    Attributes:
        id: made by the inserting client (UUIDv7, so that ids sort by time).
        metadata: ``{"type": <kind>, <fields>}``.
        kind: the name under which the task's class is registered.
        task_type: what pools choose by; other systems call it the queue's name.
        state: see ``TaskState``.
        priority: -2 (first) to 2 (last).
        retries: failures charged so far that led to another run.
        max_retries: how many may be charged before the task fails; None stands for 20.
        crashes: how often the task's pool died under it.
        attempt: how often the task was claimed; the fence that later writes must match.
        scheduled_at: not to be run before this time, by the database's clock.
        error_message: the last error, cleaned and cut.
        errors: the last ten failures, each with ``number`` (the attempt), ``time``, ``error`` and ``traceback``.
        pool_id, claimed_at: which pool holds the task since when; None unless in progress.
        uniq_hash: SHA-256 over the canonical metadata of a unique task.
        conflict: true where an insert wrote nothing, since this task was there already.
    """

    id: UUID
    metadata: Mapping[str, Any]
    kind: str
    task_type: str
    state: TaskState
    priority: int
    retries: int
    max_retries: int | None
    crashes: int
    attempt: int
    scheduled_at: datetime
    created_at: datetime
    updated_at: datetime
    error_message: str | None = None
    errors: Sequence[Mapping[str, Any]] = ()
    pool_id: UUID | None = None
    claimed_at: datetime | None = None
    uniq_hash: str | None = None
    conflict: bool = False


class ClaimedTask(NamedTuple):
    """What a claim returns for each task, and all that a run needs; about the cheapest row that can be built.

    ``payload`` is the metadata without its type, as JSON text.
    """

    id: UUID
    kind: str
    payload: str
    attempt: int
    retries: int
    max_retries: int
    crashes: int
    task_type: str
    priority: int
    scheduled_at: datetime
