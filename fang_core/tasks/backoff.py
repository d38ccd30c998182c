"""Decides how long a failed task waits before its next run.

A backoff is any callable from the failures charged so far (1, 2, ...) to a ``timedelta``. The backoffs here are frozen
records, so that they can be part of a class's ``task_config``. Jitter spreads tasks that failed together; its source of
randomness is a field, so that a test can replace it.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from fang_core.errors import UsageError
from fang_core.logs import SafeLogger
from fang_core.words.naming import names_arguments

Backoff = Callable[[int], timedelta]
"""Maps the failures charged so far (at least 1) to the delay before the next run."""

logger = SafeLogger("fang_core")

_LONGEST: Final = timedelta(days=366)
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)


def _spread(delay: timedelta, jitter: float, chance: Callable[[], float]) -> timedelta:
    """Moves ``delay`` by at most ``jitter`` of itself, up or down, evenly."""
    return min(delay * (1 + jitter * (2 * chance() - 1)), _LONGEST) if jitter else delay


def _check(jitter: float, **delays: timedelta) -> None:
    for name, delay in delays.items():
        if not isinstance(delay, timedelta):
            raise UsageError(f"{name} must be a timedelta, not {type(delay).__name__}")
        if not timedelta(0) <= delay <= _LONGEST:
            raise UsageError(f"{name} must be between zero and {_LONGEST.days} days, not {delay}")
    if not isinstance(jitter, int | float) or not 0 <= jitter <= 1:
        raise UsageError(f"jitter is a fraction between 0 and 1, not {jitter!r:.40}")


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """Waits ``initial * factor ** (failures - 1)``, at most ``maximum``.

    The defaults give 1 s, 2 s, 4 s, ..., as in Rust's Fang.
    """

    initial: timedelta = _SECOND
    factor: float = 2.0
    maximum: timedelta = _DAY
    jitter: float = 0.1
    chance: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.jitter, initial=self.initial, maximum=self.maximum)
        if not isinstance(self.factor, int | float) or not 1 <= self.factor <= 1000:
            raise UsageError(f"factor must be between 1 and 1000, not {self.factor!r:.40}")

    def __call__(self, failures: int) -> timedelta:
        try:
            seconds = self.initial.total_seconds() * float(self.factor) ** (failures - 1)
        except OverflowError:
            seconds = math.inf if self.initial else 0.0
        capped = min(seconds, self.maximum.total_seconds())
        return _spread(timedelta(seconds=capped), self.jitter, self.chance)


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Waits ``step * failures``, at most ``maximum``."""

    step: timedelta = timedelta(seconds=10)
    maximum: timedelta = _DAY
    jitter: float = 0.1
    chance: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.jitter, step=self.step, maximum=self.maximum)

    def __call__(self, failures: int) -> timedelta:
        seconds = min(self.step.total_seconds() * failures, self.maximum.total_seconds())
        return _spread(timedelta(seconds=seconds), self.jitter, self.chance)


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """Waits the same ``delay`` every time."""

    delay: timedelta = timedelta(seconds=10)
    jitter: float = 0.1
    chance: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.jitter, delay=self.delay)

    def __call__(self, failures: int) -> timedelta:
        return _spread(self.delay, self.jitter, self.chance)


DEFAULT_BACKOFF: Final[Backoff] = Exponential()


def delay_after(backoff: Backoff, failures: int, *, kind: str) -> timedelta:
    """Returns the delay from ``backoff``, or from the default if it raises or returns no usable delay.

    A backoff is user code that runs while a failure is being recorded: it must never get in the way of that.
    """
    try:
        delay = backoff(failures)
        if isinstance(delay, timedelta) and timedelta(0) <= delay <= _LONGEST:
            return delay
        problem = f"returned {delay}" if isinstance(delay, timedelta) else f"returned a {type(delay).__name__}"
    except BaseException as error:  # noqa: BLE001 - user code; the task's failure must still be recorded
        problem = f"raised {type(error).__name__}"
    logger.warning("backoff of kind %s %s after %d failures; using the default", kind, problem, failures)
    return DEFAULT_BACKOFF(failures)
