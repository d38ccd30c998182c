"""Defines a pool's options: frozen, validated when made, with named defaults. Nothing here reads the environment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final

from fang_core.errors import UsageError
from fang_core.record import DEFAULT_TASK_TYPE
from fang_core.tasks.arguments import check_flag
from fang_core.tasks.middleware import Manager, Middleware
from fang_core.words.naming import names_arguments
from fang_core.words.texts import is_storable

EXIT_RUNS_LEFT: Final = 75
"""The process's exit code if runs had not ended by the end of the grace period, or their outcomes were not written
(EX_TEMPFAIL of sysexits)."""

EXIT_STUCK: Final = 71
"""The process's exit code if more runs are stuck than the pool's ``max_stuck`` allows (EX_OSERR of sysexits)."""

DEFAULT_LEASE: Final = timedelta(seconds=60)
DEFAULT_MAX_CRASHES: Final = 3
DEFAULT_STUCK_AFTER: Final = timedelta(seconds=10)
DEFAULT_WARN_AFTER: Final = timedelta(seconds=10)

_LONGEST_PERIOD: Final = timedelta(days=36_600)
_SHORTEST_LEASE: Final = timedelta(seconds=3)


class RetentionMode(Enum):
    """Decides whether a task's row is removed when its life ends."""

    KEEP_ALL = "keep_all"
    """No row is removed when its task's life ends; finished and cancelled rows are pruned when they are as old as the
    pool's ``keep_finished``, 7 days by default."""
    REMOVE_ALL = "remove_all"
    """Finished, failed and cancelled rows are removed."""
    REMOVE_FINISHED = "remove_finished"
    """Finished rows are removed; failed and cancelled ones stay. The default, as in Rust's Fang."""


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class SleepParams:
    """Says how long an idle pool sleeps between two claims.

    The sleep begins with ``min_sleep_period`` and grows by ``sleep_step`` after each claim that finds nothing, up to
    ``max_sleep_period``. A claim that finds a task starts over. The sleep ends earlier if a task that the pool knows of
    is due.

    A pool that listens sleeps 8 s at most, whatever is set here: inserts do not notify pools of a task that is due in
    10 s or later, so the pool looks before that. With ``listen=False`` nothing else bounds how late a task may run.
    """

    min_sleep_period: timedelta = timedelta(seconds=1)
    max_sleep_period: timedelta = timedelta(seconds=5)
    sleep_step: timedelta = timedelta(seconds=1)

    def __post_init__(self) -> None:
        for name in ("min_sleep_period", "max_sleep_period", "sleep_step"):
            if not isinstance(getattr(self, name), timedelta):
                raise UsageError(f"SleepParams: {name} must be a timedelta, not {type(getattr(self, name)).__name__}")
        if not timedelta(milliseconds=1) <= self.min_sleep_period <= self.max_sleep_period:
            raise UsageError("SleepParams: 1 ms <= min_sleep_period <= max_sleep_period must hold")
        if self.max_sleep_period > _LONGEST_PERIOD:  # Python cannot wait longer
            raise UsageError("SleepParams: max_sleep_period must be at most a hundred years")
        if self.sleep_step < timedelta(0):
            raise UsageError("SleepParams: sleep_step must not be negative")


def as_task_types(value: str | Sequence[str]) -> tuple[str, ...]:
    """Returns one name or several as a tuple without repetitions, in the given order. Raises ``UsageError``."""
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else ()
    if not names or not all(isinstance(name, str) and name and is_storable(name) for name in names):
        raise UsageError("task_type: give one non-empty name without NUL and lone surrogates, or several")
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """The options of a pool, the same for both modes.

    Attributes:
        number_of_workers: how many tasks run at once in this pool.
        task_types: the task types that the pool serves.
        retention_mode: whether rows are removed when their tasks' life ends.
        sleep_params: how an idle pool polls; more than 8 s only with ``listen=False``.
        grace_period: how long ``stop()`` waits for runs.
        keep_finished, keep_failed: the age at which kept rows of the pool's task types are pruned; None never prunes
            them. ``keep_finished`` also applies to cancelled rows.
        listen: whether inserts wake the pool by NOTIFY. Set False behind a transaction pooler, which keeps no session:
            the pool then holds no lock either, and only its lease shows whether it lives.
        lease: how long the pool's heart may stand still before all other pools take it for dead, whatever their own
            leases are.
        max_crashes: how often a task's pool may die under it before the task is failed as crashed. The setting of the
            pool that died counts; if that left no record, the setting of the pool that takes its tasks back. Innocent
            tasks are spared only from 3 up: a task runs alone after two crashes, and before that every task that a
            dying process held is charged, begun or not. So 2 fails a task that two dying pools have held, and 1 every
            task that one has held.
        stuck_after: how long after its interruption a run that has not ended counts as stuck: its outcome is written,
            its worker replaced, and its late end ignored.
        max_stuck: how many stuck runs the process bears: with more, ``run()`` and ``fang worker`` end it with exit code
            71. None allows as many as there are workers.
        warn_after: how long a run may take, and the event loop stand still, before a warning says where it stands; None
            turns warnings off.
        log_tracebacks: whether the log line of a failed run has its traceback, whose text may quote payloads.
        middleware: goes around each run, outside the middleware of its class; the first one is the outermost.
        lifespan: makes the context manager whose value runs get as ``current_run().state``.
        max_tasks_per_child: after how many runs a child process is replaced, if runs are isolated; None for never.
        isolate_suspects: whether tasks under which pools have died run in child processes, if they can.
        retries_first: whether due tasks that have failed, or crashed, run before all other tasks of the same type and
            priority, unless the type has limits, rates or fairness.
        stats: whether the pool counts its runs for the history, and prunes that.
        keep_stats: how long the hours of the history are kept; None keeps them.
    """

    number_of_workers: int = 1
    task_types: tuple[str, ...] = (DEFAULT_TASK_TYPE,)
    retention_mode: RetentionMode = RetentionMode.REMOVE_FINISHED
    sleep_params: SleepParams = field(default_factory=SleepParams)
    grace_period: timedelta = timedelta(seconds=25)
    keep_finished: timedelta | None = timedelta(days=7)
    keep_failed: timedelta | None = None
    listen: bool = True
    lease: timedelta = DEFAULT_LEASE
    max_crashes: int = DEFAULT_MAX_CRASHES
    stuck_after: timedelta = DEFAULT_STUCK_AFTER
    max_stuck: int | None = None
    warn_after: timedelta | None = DEFAULT_WARN_AFTER
    log_tracebacks: bool = False
    middleware: tuple[Middleware, ...] = ()
    lifespan: Callable[[], Manager] | None = None
    max_tasks_per_child: int | None = None
    isolate_suspects: bool = True
    retries_first: bool = False
    stats: bool = True
    keep_stats: timedelta | None = timedelta(days=90)

    def __post_init__(self) -> None:
        check_workers("number_of_workers", self.number_of_workers)
        if not isinstance(self.retention_mode, RetentionMode):
            raise UsageError(f"retention_mode must be a RetentionMode, not {self.retention_mode!r:.100}")
        if type(self.max_crashes) is not int or not 1 <= self.max_crashes <= 1_000:
            raise UsageError(f"max_crashes must be between 1 and 1000, not {self.max_crashes!r}")
        if self.max_tasks_per_child is not None and (
            type(self.max_tasks_per_child) is not int or self.max_tasks_per_child < 1
        ):
            raise UsageError(f"max_tasks_per_child must be 1 or more, or None, not {self.max_tasks_per_child!r:.100}")
        check_period("grace_period", self.grace_period)
        check_period("lease", self.lease)
        check_period("stuck_after", self.stuck_after)
        if self.max_stuck is not None and (type(self.max_stuck) is not int or self.max_stuck < 0):
            raise UsageError(f"max_stuck must be None, or an int from 0 up, not {self.max_stuck!r:.100}")
        if self.lease < _SHORTEST_LEASE:
            raise UsageError("lease must be at least 3 seconds: a heart beats once a second")
        for name in ("listen", "log_tracebacks", "isolate_suspects", "retries_first", "stats"):
            check_flag(name, getattr(self, name))
        for name in ("keep_finished", "keep_failed", "keep_stats", "warn_after"):
            value = getattr(self, name)
            if value is not None:
                check_period(name, value)


def check_workers(name: str, value: int) -> None:
    """Raises ``UsageError`` unless a pool can have this many workers."""
    if type(value) is not int or not 1 <= value <= 10_000:
        raise UsageError(f"{name} must be between 1 and 10000, not {value!r}")


def check_period(name: str, value: timedelta) -> None:
    """Raises ``UsageError`` unless the value is a ``timedelta`` between zero and a hundred years."""
    if not isinstance(value, timedelta):
        raise UsageError(f"{name} must be a timedelta, not {type(value).__name__}")
    if not timedelta(0) <= value <= _LONGEST_PERIOD:
        raise UsageError(f"{name} must be between zero and a hundred years")
