"""Defines tasks, their life, and the protocols of queues and pools. It is pure: it has no driver, socket or clock."""

from typing import TYPE_CHECKING

from fang_core.interpreter.lazy import lazily

if TYPE_CHECKING:
    from fang_core.backends.memory.async_queue import AsyncMemoryQueue
    from fang_core.backends.memory.queue import MemoryQueue
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
else:
    # A command that only reads needs none of the task classes, and so no pydantic, which takes time.
    _PLACES = {
        "fang_core.backends.memory.async_queue": ("AsyncMemoryQueue",),
        "fang_core.backends.memory.queue": ("MemoryQueue",),
        "fang_core.backends.pools": ("Rescued",),
        "fang_core.config": (
            "RetentionMode",
            "SleepParams",
        ),
        "fang_core.errors": (
            "AccessRefused",
            "BackendError",
            "BackendUnavailable",
            "DefinitionError",
            "DuplicateKind",
            "FangError",
            "IdInUse",
            "NotConnected",
            "NotCopyable",
            "NotificationsFull",
            "NotInRun",
            "OutcomeUnknown",
            "PayloadError",
            "ReadOnlyServer",
            "RowsLocked",
            "SchemaError",
            "StaleTask",
            "StatementRefused",
            "TaskLost",
            "TimedOut",
            "TwinExists",
            "UnknownPool",
            "UnknownSchedule",
            "UnreadablePayload",
            "UsageError",
            "WrongArguments",
        ),
        "fang_core.events": ("Events",),
        "fang_core.failure": ("ErrorReport",),
        "fang_core.flow.info": ("TypeInfo",),
        "fang_core.flow.limits": (
            "Fair",
            "FlowSettings",
            "Limit",
            "Rate",
        ),
        "fang_core.lifecycle": (
            "Cancel",
            "Cancelled",
            "Crashed",
            "Failure",
            "NotRun",
            "Outcome",
            "Result",
            "RetryAfter",
            "Snooze",
            "Snoozed",
            "Success",
        ),
        "fang_core.messages": (
            "PoolMessage",
            "Resize",
            "SetLogLevel",
            "Stop",
        ),
        "fang_core.monitoring.explanation": (
            "Cause",
            "Explanation",
        ),
        "fang_core.monitoring.listing": (
            "Count",
            "TaskPage",
        ),
        "fang_core.pool.telling.health": ("PoolHealth",),
        "fang_core.pool.telling.stats": ("PoolStats",),
        "fang_core.record": (
            "ClaimedTask",
            "LiveRun",
            "PoolInfo",
            "Progress",
            "Task",
            "TaskState",
        ),
        "fang_core.runs.interrupt": (
            "Interrupt",
            "Interrupted",
            "uninterruptible",
        ),
        "fang_core.runs.run": (
            "Lease",
            "Run",
            "current_run",
        ),
        "fang_core.schedules.schedule": (
            "Cron",
            "Every",
            "ScheduleOnce",
        ),
        "fang_core.schedules.stored": (
            "Missed",
            "Overlap",
            "ScheduleInfo",
        ),
        "fang_core.schedules.upcoming": (
            "Shift",
            "Upcoming",
        ),
        "fang_core.tasks.async_queueable": ("AsyncQueueable",),
        "fang_core.tasks.backoff": (
            "Backoff",
            "Constant",
            "Exponential",
            "Linear",
        ),
        "fang_core.tasks.insert_middleware": ("Insertion",),
        "fang_core.tasks.options": ("InsertOptions",),
        "fang_core.tasks.queueable": ("Queueable",),
        "fang_core.tasks.runnable": (
            "AsyncRunnable",
            "Runnable",
            "TaskConfig",
        ),
        "fang_core.tasks.selecting.filter": ("TaskFilter",),
        "fang_core.tasks.uniqueness": ("Unique",),
    }
    __getattr__ = lazily(__name__, {name: module for module, names in _PLACES.items() for name in names})

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
    # What a pool can be told
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
