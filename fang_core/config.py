"""Options of a pool: frozen, validated where they are made, with named defaults. Nothing here reads the environment."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final

from fang_core.errors import UsageError
from fang_core.naming import names_arguments
from fang_core.record import DEFAULT_TASK_TYPE

EXIT_RUNS_LEFT: Final = 75
"""The process' exit code where runs had not ended at the end of the grace period, or were not written (sysexits'
EX_TEMPFAIL)."""

DEFAULT_LEASE: Final = timedelta(seconds=60)
DEFAULT_MAX_CRASHES: Final = 3

_LONGEST_PERIOD: Final = timedelta(days=36_600)
_SHORTEST_LEASE: Final = timedelta(seconds=3)


class RetentionMode(Enum):
    """What becomes of a task's row when its life ends."""

    KEEP_ALL = "keep_all"
    """No row is removed when its task's life ends; finished and cancelled ones are pruned when they are as old as the
    pool's ``keep_finished``, 7 days by default."""
    REMOVE_ALL = "remove_all"
    """Finished, failed and cancelled rows are removed."""
    REMOVE_FINISHED = "remove_finished"
    """Finished rows are removed; failed and cancelled ones stay. The default, as in Rust's Fang."""


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class SleepParams:
    """How long an idle pool sleeps between two claims.

    It begins with ``min_sleep_period``, and each time that nothing was found ``sleep_step`` is added, up to
    ``max_sleep_period``. Anything found starts over. It ends before where a task that the pool knows of is due.

    A pool that listens sleeps 8 s at most, whatever stands here: inserts do not tell of a task that is due in 10 s or
    later, so it looks before. With ``listen=False`` nothing else bounds how late a task may run.
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
        if self.sleep_step < timedelta(0):
            raise UsageError("SleepParams: sleep_step must not be negative")


def as_task_types(value: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several -> a tuple without repetitions, in the given order. Raises ``UsageError``."""
    names = (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))
    if not names or not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise UsageError("task_type: give one non-empty name without NUL, or several")
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """What a pool was asked for; both modes take the same.

    Attributes:
        number_of_workers: how many tasks run at once in this pool.
        task_types: the task types that the pool serves.
        retention_mode: what becomes of rows whose life ends.
        sleep_params: how an idle pool polls; more than 8 s only with ``listen=False``.
        grace_period: how long ``stop()`` waits for runs.
        keep_finished, keep_failed: the age at which kept rows of the pool's task types are pruned; None keeps them for
            ever. ``keep_finished`` holds for cancelled rows too.
        listen: whether inserts wake the pool by NOTIFY; False behind a transaction pooler, which keeps no session: the
            pool then holds no lock either, and is judged by the lease alone.
        lease: when its heart has not beaten for so long the pool is dead to all others, whatever else it seems and
            whatever their own leases are.
        max_crashes: how often a task's pool may die under it before the task is failed as crashed. That of the pool
            that died counts; of one that left no record, that of whoever takes its tasks back. Only from 3 up are
            innocents spared: a task runs alone once it has seen two crashes, and until then all that a dying process
            held is charged, begun or not. So 2 parks what was twice beside a death, and 1 everything at the first.
        log_tracebacks: whether the line of a failed run has its traceback, whose text may quote payloads.
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
    log_tracebacks: bool = False

    def __post_init__(self) -> None:
        if type(self.number_of_workers) is not int or not 1 <= self.number_of_workers <= 10_000:
            raise UsageError(f"number_of_workers must be between 1 and 10000, not {self.number_of_workers!r}")
        if not isinstance(self.retention_mode, RetentionMode):
            raise UsageError(f"retention_mode must be a RetentionMode, not {self.retention_mode!r:.100}")
        if type(self.max_crashes) is not int or not 1 <= self.max_crashes <= 1_000:
            raise UsageError(f"max_crashes must be between 1 and 1000, not {self.max_crashes!r}")
        check_period("grace_period", self.grace_period)
        check_period("lease", self.lease)
        if self.lease < _SHORTEST_LEASE:
            raise UsageError("lease must be at least 3 seconds: a heart beats once a second")
        for name in ("keep_finished", "keep_failed"):
            value = getattr(self, name)
            if value is not None:
                check_period(name, value)


def check_period(name: str, value: timedelta) -> None:
    """Raises ``UsageError`` for what is no ``timedelta`` between zero and a hundred years."""
    if not isinstance(value, timedelta):
        raise UsageError(f"{name} must be a timedelta, not {type(value).__name__}")
    if not timedelta(0) <= value <= _LONGEST_PERIOD:
        raise UsageError(f"{name} must be between zero and a hundred years")
