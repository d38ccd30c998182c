"""Detects a bad plan: a statement takes far longer than such statements ever took before. Pure: no clock.

A burst of tasks is done, VACUUM leaves a few rows in many pages, and the next burst comes before the next ANALYZE: the
planner then takes a million waiting rows for ten, and scans them all for each claim, 2.3 s instead of 6 ms. No form of
the statement prevents that; some settings do. Sessions of pools have two of them from the start, see ``SETTINGS``; the
rest costs time for each statement, and so is set only in that case.
"""

from collections import deque
from collections.abc import Callable
from logging import INFO, WARNING
from math import inf
from statistics import median
from typing import Final

from fang_core.logs import SafeLogger
from fang_postgres.connections.connecting import SET_GUARD, SET_MONITORING, SET_READING, SET_SUMMING, SLOW_STATEMENT

SLOW: Final = 0.05
"""Seconds that no healthy statement takes: claims of 500 and outcomes of 1,000 take 2 to 20 ms."""

FELT: Final = 0.5
"""Seconds from which a slow statement is logged as a warning. A busy machine takes ``SLOW`` now and then."""

TIMES_MEDIAN: Final = 10
"""How many times slower than the median of its past a statement must be. A slow disk makes all statements slow; a wrong
plan makes them slower than their past."""

HEALTHY: Final = 0.005
"""Seconds that count as the past of a new pool: it may start while plans are already wrong."""

REMEMBERED: Final = 101
"""The number of last statements in the median."""

GUARDED_FOR: Final = 60.0
"""Seconds that the guard lasts at most: by then autovacuum's ANALYZE has usually put the plans right
(``autovacuum_naptime``); if not, one slow statement turns it on again."""

TIMES_SLOW: Final = 4
"""How many times as long as the slow statement took the guard lasts at first. Only further statements that are not
guarded tell a wrong plan from a crowded machine: a wrong plan makes them all slow, a crowded machine only some. So a
slow statement that cost little is followed by such a trial soon, and one that cost much later."""

CONFIRMED: Final = 4
"""How many times longer the guard lasts after each trial in a row that is slow: a wrong plan is soon tried once in
``GUARDED_FOR`` only, and on a machine that delays less than a quarter of the statements the guard stays short."""

COMPARED: Final = 3
"""Guarded statements of which the fastest is compared with the slow one: a busy machine may slow down some."""


class PlanGuard:
    """Decides whether the statements of one kind run guarded; times are seconds of one monotonic clock.

    The first statement is not judged: its connection must first read the catalogs, and its process start.

    Attributes:
        settings: the statement that sets what guards the next one, for its transaction.
    """

    settings = SET_GUARD

    def __init__(self) -> None:
        self._is_new = True
        self._past = deque([HEALTHY] * 5, maxlen=REMEMBERED)
        self._until = -inf
        self._times = self._next_times = float(TIMES_SLOW)
        self._slow = 0.0
        self._guarded: list[float] = []

    def is_on(self, now: float) -> bool:
        """Returns whether the next statement must be guarded."""
        return now < self._until

    def observe(self, seconds: float, now: float) -> bool:
        """Notes how long an unguarded statement took; returns whether that turned the guard on."""
        if self._is_new:
            self._is_new = False
            return False
        if self.timed_out(seconds, now):
            return True
        self._past.append(seconds)
        if self._is_trial(seconds, now):
            self._next_times = TIMES_SLOW
        return False

    def timed_out(self, seconds: float, now: float) -> bool:
        """Notes that an unguarded statement, even the first, was cancelled after this long; returns whether that turned
        the guard on."""
        if seconds <= SLOW or seconds <= TIMES_MEDIAN * median(self._past):
            return False
        if self._is_trial(seconds, now):
            self._times = self._next_times
            self._next_times = min(CONFIRMED * self._times, GUARDED_FOR / SLOW)
        self._until = max(self._until, now + min(GUARDED_FOR, self._times * seconds))
        self._slow, self._guarded = seconds, []
        return True

    def _is_trial(self, seconds: float, now: float) -> bool:
        """Returns whether a statement that has just ended began with the guard off. One that was already under way when
        another turned the guard on does not count: whatever slowed down one slows down all that run then."""
        return now - seconds >= self._until

    def compare(self, seconds: float) -> None:
        """Notes how long a guarded statement took. If guarded statements are as slow as the slow one, the cause was not
        a plan but the network or the server's load: the guard turns off, and their time counts as the past."""
        if not self._slow or len(self._guarded) == COMPARED:
            return
        self._guarded.append(seconds)
        fastest = min(self._guarded)
        if len(self._guarded) == COMPARED and fastest > self._slow / 2:
            self._past = deque([fastest] * 5, maxlen=REMEMBERED)
            self._until = -inf
            self._next_times = TIMES_SLOW


class AlwaysOn(PlanGuard):
    """Guards rare statements, whose speed does not matter."""

    def is_on(self, now: float) -> bool:
        """Returns True."""
        return True


class Reading(AlwaysOn):
    """Guards what only looks at tasks, which is also ended if it takes long."""

    settings = SET_READING


class Summing(Reading):
    """Guards what adds up the history, which may take longer."""

    settings = SET_SUMMING


class Monitoring(AlwaysOn):
    """Limits how long what nothing depends on waits for locks."""

    settings = SET_MONITORING


class Unjudged(PlanGuard):
    """Guards statements while another guard is on, and never judges them, as they may take long for other reasons."""

    def __init__(self, guard: PlanGuard) -> None:
        super().__init__()
        self._guard = guard

    def is_on(self, now: float) -> bool:
        """Returns whether the other guard is on."""
        return self._guard.is_on(now)

    def observe(self, seconds: float, now: float) -> bool:
        """Learns nothing."""
        return False

    def timed_out(self, seconds: float, now: float) -> bool:
        """Learns nothing."""
        return False

    def compare(self, seconds: float) -> None:
        """Learns nothing."""


def log_if_slow(logger: SafeLogger, judge: Callable[[float, float], bool], began: float, now: float) -> None:
    """Passes a statement's seconds to a guard's ``observe`` or ``timed_out``; logs the statement if that turned the
    guard on."""
    if judge(now - began, now):
        logger.log(WARNING if now - began >= FELT else INFO, SLOW_STATEMENT, now - began, GUARDED_FOR)
