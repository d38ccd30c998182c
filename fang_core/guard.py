"""When the planner must have been led astray: statements take far longer than they ever do. Pure: no clock.

A burst of tasks is worked off, VACUUM leaves a few rows in many pages, and the next burst comes before the next
ANALYZE: the planner then takes a million waiting rows for ten, and scans them all for each claim, 2.3 s instead of
6 ms. No form of the statement escapes that; some settings do. They cost round trips, and so are set in trouble only.
"""

from collections import deque
from math import inf
from statistics import median
from typing import Final

SLOW: Final = 0.05
"""Seconds that no healthy statement takes: claims of 500 and outcomes of 1,000 take 2 to 20 ms."""

FELT: Final = 0.5
"""Seconds from which on a slow statement is worth a warning. A busy machine takes ``SLOW`` now and then."""

TIMES_MEDIAN: Final = 10
"""A slow disk makes all statements slow, a wrong plan makes them slower than their own past."""

HEALTHY: Final = 0.005
"""Seconds, taken for the past of a pool that has none yet: it may start in the middle of the trouble."""

REMEMBERED: Final = 101
"""Statements that make the median."""

GUARDED_FOR: Final = 60.0
"""Seconds: by then autovacuum's ANALYZE has usually ended the trouble (``autovacuum_naptime``); if not, one slow
statement tells."""

COMPARED: Final = 3
"""Guarded statements of which the fastest is compared with the slow one: a busy machine may slow down some."""


class PlanGuard:
    """Whether the statements of one kind run guarded; times are seconds of one monotonic clock.

    The first statement is not judged: its connection has yet to read the catalogs, and its process to start.
    """

    def __init__(self) -> None:
        self._is_new = True
        self._past = deque([HEALTHY] * 5, maxlen=REMEMBERED)
        self._until = -inf
        self._slow = 0.0
        self._guarded: list[float] = []

    def is_on(self, now: float) -> bool:
        """Whether the next statement is to be guarded."""
        return now < self._until

    def observe(self, seconds: float, now: float) -> bool:
        """An unguarded statement took this long; whether that turned the guard on."""
        if self._is_new:
            self._is_new = False
            return False
        if self.timed_out(seconds, now):
            return True
        self._past.append(seconds)
        return False

    def timed_out(self, seconds: float, now: float) -> bool:
        """An unguarded statement was cancelled after so long; whether that turned the guard on. Also the first one."""
        if seconds <= SLOW or seconds <= TIMES_MEDIAN * median(self._past):
            return False
        self._until = now + GUARDED_FOR
        self._slow, self._guarded = seconds, []
        return True

    def compare(self, seconds: float) -> None:
        """A guarded statement took this long. Where that is what the slow one took, no plan was at fault but the way to
        the server, or its load: the guard goes off, and that is the past from now on."""
        if not self._slow or len(self._guarded) == COMPARED:
            return
        self._guarded.append(seconds)
        fastest = min(self._guarded)
        if len(self._guarded) == COMPARED and fastest > self._slow / 2:
            self._past = deque([fastest] * 5, maxlen=REMEMBERED)
            self._until = -inf


class AlwaysOn(PlanGuard):
    """For statements that are rare, and need no haste."""

    def is_on(self, now: float) -> bool:
        """It is."""
        return True


class Unjudged(PlanGuard):
    """For statements of another's kind that may take long for reasons of their own: guarded as those, never judged."""

    def __init__(self, guard: PlanGuard) -> None:
        super().__init__()
        self._guard = guard

    def is_on(self, now: float) -> bool:
        """Whether the other is."""
        return self._guard.is_on(now)

    def observe(self, seconds: float, now: float) -> bool:
        """Learns nothing."""
        return False

    def timed_out(self, seconds: float, now: float) -> bool:
        """Learns nothing."""
        return False

    def compare(self, seconds: float) -> None:
        """Learns nothing."""
