"""Gathers the public names, which ``fang_core`` and the packages of the modes offer."""

from typing import TYPE_CHECKING

from fang_core.backends.pools import Rescued
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
    TimedOut,
    TwinExists,
    UnknownPool,
    UnknownSchedule,
    UnreadablePayload,
    UsageError,
    WrongArguments,
)
from fang_core.events import Events
from fang_core.failure import ErrorReport
from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import Fair, FlowSettings, Limit, Rate
from fang_core.interpreter.lazy import lazily
from fang_core.lifecycle import (
    Cancel,
    Cancelled,
    Crashed,
    Failure,
    NotRun,
    Outcome,
    Result,
    RetryAfter,
    Snooze,
    Snoozed,
    Success,
)
from fang_core.messages import PoolMessage, Resize, SetLogLevel, Stop
from fang_core.monitoring.explanation import Cause, Explanation
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.pool.telling.health import PoolHealth
from fang_core.pool.telling.stats import PoolStats
from fang_core.record import ClaimedTask, LiveRun, PoolInfo, Progress, Task, TaskState
from fang_core.runs.interrupt import Interrupt, Interrupted, uninterruptible
from fang_core.runs.run import Lease, Run, current_run
from fang_core.schedules.schedule import Cron, Every, ScheduleOnce
from fang_core.schedules.stored import Missed, Overlap, ScheduleInfo
from fang_core.schedules.upcoming import Shift, Upcoming
from fang_core.tasks.async_queueable import AsyncQueueable
from fang_core.tasks.backoff import Backoff, Constant, Exponential, Linear
from fang_core.tasks.insert_middleware import Insertion
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.queueable import Queueable
from fang_core.tasks.runnable import AsyncRunnable, Runnable, TaskConfig
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.uniqueness import Unique

if TYPE_CHECKING:
    from fang_core.backends.memory.async_queue import AsyncMemoryQueue
    from fang_core.backends.memory.queue import MemoryQueue
else:
    __getattr__ = lazily(
        __name__,
        {
            "MemoryQueue": "fang_core.backends.memory.queue",
            "AsyncMemoryQueue": "fang_core.backends.memory.async_queue",
        },
    )

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
    "Every",
    "Overlap",
    "Missed",
    # How many run at once
    "Limit",
    "Rate",
    "Unique",
    "Fair",
    "FlowSettings",
    # In a run
    "Snooze",
    "Cancel",
    "RetryAfter",
    "current_run",
    "Run",
    "Lease",
    "Interrupt",
    "Interrupted",
    "uninterruptible",
    # Queues
    "Queueable",
    "AsyncQueueable",
    "MemoryQueue",
    "AsyncMemoryQueue",
    "InsertOptions",
    "Insertion",
    "TaskFilter",
    "TaskPage",
    "Count",
    # Records
    "Task",
    "TaskState",
    "ClaimedTask",
    "PoolInfo",
    "LiveRun",
    "TypeInfo",
    "ScheduleInfo",
    "Upcoming",
    "Shift",
    # Why a task is not running
    "Explanation",
    "Cause",
    # Pools
    "RetentionMode",
    "SleepParams",
    "Events",
    # Messages to a pool
    "PoolMessage",
    "PoolStats",
    "PoolHealth",
    "Progress",
    "Stop",
    "Resize",
    "SetLogLevel",
    # What a run came to
    "Result",
    "Success",
    "Failure",
    "Snoozed",
    "Cancelled",
    "NotRun",
    "Crashed",
    "ErrorReport",
    # What events report about rows
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
    "UnknownPool",
    "UnknownSchedule",
    "NotInRun",
    "TimedOut",
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
