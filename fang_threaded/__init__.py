"""The threaded mode of Fang: one OS thread per worker, over SQLAlchemy sessions and psycopg 3."""

from fang_core import (
    AccessRefused,
    AsyncMemoryQueue,
    AsyncQueueable,
    AsyncRunnable,
    BackendError,
    BackendUnavailable,
    Backoff,
    Cancel,
    ClaimedTask,
    Constant,
    Cron,
    DefinitionError,
    DuplicateKind,
    Events,
    Exponential,
    FangError,
    Lease,
    Linear,
    MemoryQueue,
    NotConnected,
    NotInRun,
    OutcomeUnknown,
    PayloadError,
    Queueable,
    RetentionMode,
    RetryAfter,
    Runnable,
    ScheduleOnce,
    SchemaError,
    SleepParams,
    Snooze,
    Task,
    TaskConfig,
    TaskState,
    UsageError,
    current_run,
)
from fang_core.errors import MissingExtra

try:
    import psycopg as _driver  # noqa: F401
except ImportError:
    raise MissingExtra("fang_threaded needs its driver: pip install 'fang-tasks[threaded]'") from None

from fang_threaded.pool import WorkerPool
from fang_threaded.queue import Queue

__all__ = (
    "Queue",
    "WorkerPool",
    # Tasks
    "Runnable",
    "AsyncRunnable",
    "TaskConfig",
    "Backoff",
    "Exponential",
    "Linear",
    "Constant",
    "Cron",
    "ScheduleOnce",
    # In a run
    "Snooze",
    "Cancel",
    "RetryAfter",
    "current_run",
    "Lease",
    # Queues
    "Queueable",
    "AsyncQueueable",
    "MemoryQueue",
    "AsyncMemoryQueue",
    # Records
    "Task",
    "TaskState",
    "ClaimedTask",
    # Pools
    "RetentionMode",
    "SleepParams",
    "Events",
    # Errors
    "FangError",
    "DefinitionError",
    "DuplicateKind",
    "UsageError",
    "PayloadError",
    "NotConnected",
    "NotInRun",
    "BackendError",
    "BackendUnavailable",
    "OutcomeUnknown",
    "AccessRefused",
    "SchemaError",
)
