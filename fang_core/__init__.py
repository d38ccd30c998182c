"""The core of Fang: tasks, their life, and the protocols of queues and pools. Pure: no driver, no socket, no clock."""

from fang_core.backoff import Backoff, Constant, Exponential, Linear
from fang_core.config import RetentionMode, SleepParams
from fang_core.errors import (
    AccessRefused,
    BackendError,
    BackendUnavailable,
    DefinitionError,
    DuplicateKind,
    FangError,
    IdInUse,
    NotConnected,
    NotCopyable,
    NotificationsFull,
    NotInRun,
    OutcomeUnknown,
    PayloadError,
    ReadOnlyServer,
    RowsLocked,
    SchemaError,
    StaleTask,
    StatementRefused,
    TaskLost,
    TwinExists,
    UnreadablePayload,
    UsageError,
    WrongArguments,
)
from fang_core.events import Events
from fang_core.failure import ErrorReport
from fang_core.lifecycle import (
    Cancel,
    Cancelled,
    Failure,
    NotRun,
    Outcome,
    Result,
    RetryAfter,
    Snooze,
    Snoozed,
    Success,
)
from fang_core.memory import AsyncMemoryQueue, MemoryQueue
from fang_core.queueable import AsyncQueueable, Queueable
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.run import Lease, current_run
from fang_core.runnable import AsyncRunnable, Runnable, TaskConfig
from fang_core.schedule import Cron, ScheduleOnce
from fang_core.store import Rescued

__all__ = (
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
    # What a run came to
    "Result",
    "Success",
    "Failure",
    "Snoozed",
    "Cancelled",
    "NotRun",
    "ErrorReport",
    # What events tell of rows
    "Outcome",
    "Rescued",
    # Errors
    "FangError",
    "DefinitionError",
    "DuplicateKind",
    "UsageError",
    "WrongArguments",
    "PayloadError",
    "IdInUse",
    "StaleTask",
    "NotInRun",
    "TaskLost",
    "UnreadablePayload",
    "BackendError",
    "BackendUnavailable",
    "NotConnected",
    "NotCopyable",
    "OutcomeUnknown",
    "ReadOnlyServer",
    "RowsLocked",
    "NotificationsFull",
    "StatementRefused",
    "TwinExists",
    "AccessRefused",
    "SchemaError",
)
