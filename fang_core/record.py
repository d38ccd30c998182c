"""Defines the records: a task's row as applications see it, and its short form that a claim hands to a worker."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from typing_extensions import TypeIs

from fang_core.errors import DefinitionError

DEFAULT_TASK_TYPE: Final = "common"
DEFAULT_MAX_RETRIES: Final = 20
HIGHEST_PRIORITY: Final = -2
LOWEST_PRIORITY: Final = 2
PRIORITIES: Final = tuple(range(HIGHEST_PRIORITY, LOWEST_PRIORITY + 1))
"""The priorities of a task type, in the order in which they are served."""


class TaskState(StrEnum):
    """The state of a task. The names are those of Rust's Fang, except ``cancelled``, which is ours."""

    NEW = "new"
    IN_PROGRESS = "in_progress"
    FAILED = "failed"
    FINISHED = "finished"
    RETRIED = "retried"
    CANCELLED = "cancelled"


def waiting_state(retries: int, crashes: int) -> TaskState:
    """Returns the state of a waiting task: ``new`` if nothing was charged to it, ``retried`` otherwise."""
    return TaskState.RETRIED if retries > 0 or crashes > 0 else TaskState.NEW


class Progress(NamedTuple):
    """Says how far a run has got, as it reported by ``current_run().progress(...)``.

    Attributes:
        done: how much is done.
        total: of how much; None if that is not known.
        text: what the run does just now.
    """

    done: float
    total: float | None = None
    text: str = ""


def as_progress(told: object) -> Progress | None:
    """Returns the progress of a run from a pool's record; None if it has none."""
    if not isinstance(told, Mapping):
        return None
    done, total, text = (told.get(name) for name in Progress._fields)
    if not _is_number(done):
        return None
    return Progress(done, total if _is_number(total) else None, text if isinstance(text, str) else "")


def _is_number(told: Any) -> TypeIs[int | float]:
    """Returns whether this can be calculated with: JSON also holds numbers that are infinite to Python."""
    return isinstance(told, int | float) and -1e300 < told < 1e300


def as_time(told: object) -> datetime | None:
    """Returns the time in a text that any client may have written; None if it is none, or has no zone."""
    try:
        time = datetime.fromisoformat(told) if isinstance(told, str) else None
        return time.astimezone(UTC) if time is not None and time.tzinfo is not None else None
    except (ValueError, OverflowError):  # such as infinity, or a time that no other zone has
        return None


def _refuse_to_be_a_base(record: str, derived: type) -> None:
    """Raises: an application may derive a task class from a record, as other libraries use the same names."""
    raise DefinitionError(
        f"{derived.__qualname__} derives from {record}, which is a record of a task in the database: "
        "derive a task class from Runnable, or from AsyncRunnable if its run is a coroutine"
    )


def payload_of(metadata: object) -> dict[str, Any]:
    """Returns the fields in ``Task.metadata``, without the key that holds the kind."""
    return {key: value for key, value in metadata.items() if key != "type"} if isinstance(metadata, Mapping) else {}


class Task(NamedTuple):
    """Holds one row of ``fang_tasks``, as it was when it was read. It is a record: it does not act.

    It is a named tuple, since a bulk insert makes one for each row: a frozen dataclass costs two microseconds more.

    Attributes:
        id: made by the inserting client (UUIDv7, so that ids sort by time).
        metadata: ``{"type": <kind>, <fields>}``.
        kind: the name under which the task's class is registered.
        task_type: decides which pools run the task; other systems call it the queue's name.
        state: see ``TaskState``.
        priority: -2 (first) to 2 (last).
        retries: failures charged so far that led to another run.
        max_retries: how many failures may be charged before the task fails; None means 20.
        crashes: how often the task's pool died under it.
        attempt: how often the task was claimed; the fence that later writes must match.
        scheduled_at: the earliest time to run the task, by the database's clock.
        error_message: the last error, cleaned and cut.
        errors: the last ten failures, each with ``number`` (the attempt), ``time``, ``error`` and ``traceback``.
        pool_id, claimed_at: the pool that holds the task, and since when; None unless in progress.
        uniq_hash: SHA-256 over the canonical metadata of a unique task.
        conflict: true if an insert wrote nothing because this task was there already.
        headers: texts that travel with the task besides its payload.
        timeout: how long each run may take; None if it has no limit.
        expires_at: no run begins after this time; None if the task does not expire.
        cancel_request: says who asked that the task be cancelled, when and why: ``by``, ``at`` and ``reason``.
        group_limit: once the task is a suspect: how many suspects its pool may hold at once, 1 if it must run alone;
            None means as many as the pool has workers.
        progress: how far its run has got, if it reports that, up to a second ago. Only ``find_task_by_id`` reads it.
        lane: the key by which limits and fairness count the task; ``""`` if its task type has limits or fairness, and
            the task has no key; None otherwise.
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
    headers: Mapping[str, str] | None = None
    timeout: timedelta | None = None
    expires_at: datetime | None = None
    cancel_request: Mapping[str, str] | None = None
    group_limit: int | None = None
    progress: Progress | None = None
    lane: str | None = None

    @classmethod
    def __init_subclass__(cls) -> None:
        _refuse_to_be_a_base("Task", cls)


class ClaimedTask(NamedTuple):
    """Holds what a run needs of a claimed task, as a row that is cheap to build.

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
    headers: Mapping[str, str] | None = None
    timeout: timedelta | None = None
    expires_at: datetime | None = None
    cancel_request: Mapping[str, str] | None = None
    group_limit: int | None = None

    @classmethod
    def __init_subclass__(cls) -> None:
        _refuse_to_be_a_base("ClaimedTask", cls)


def was_charged(task: Task | ClaimedTask) -> bool:
    """Returns whether the task has failed, or its pool has died under it, and so waits as ``retried``."""
    return task.retries > 0 or task.crashes > 0


class LiveRun(NamedTuple):
    """Describes a run in progress, as its pool has last reported it.

    Attributes:
        id, kind: its task.
        seconds: for how long it had been going on at ``PoolInfo.seen_at``.
        attempt: the attempt of its task.
        progress: how far it has got, if it reports that.
    """

    id: UUID
    kind: str
    seconds: float
    attempt: int
    progress: Progress | None = None


class PoolInfo(NamedTuple):
    """Describes a registered pool. One whose process has died stays registered until another pool finds it dead.

    Attributes:
        id: the id under which it claims, and gets messages.
        mode: ``"threaded"``, ``"async"``, or ``"manual"``: a queue that fetches tasks by hand.
        host, pid: its process.
        task_types, kinds: the tasks that it runs.
        workers: how many tasks it runs at once.
        stopping: whether it has said that it stops.
        runs: what it has reported of its runs, by the ids of their tasks.
        busy: how many of its workers run a task; None if it has not reported, like pools of older releases.
        waiting: how many tasks it has claimed that wait for a worker; None likewise.
        seen_at: when it reported that; None if it has not. A pool reports every ten seconds at least.
        live: its runs that had been going on for over a second by then, the longest first, 100 at most.
    """

    id: UUID
    mode: str
    host: str
    pid: int
    task_types: tuple[str, ...]
    kinds: tuple[str, ...]
    workers: int
    started_at: datetime
    stopping: bool
    runs: Mapping[str, Any]
    busy: int | None = None
    waiting: int | None = None
    seen_at: datetime | None = None
    live: tuple[LiveRun, ...] = ()
