"""Computes how long a pool sleeps when it finds nothing to claim. It is pure: it has no clock and does not sleep."""

import random
from collections.abc import Callable
from math import inf
from typing import Final

from fang_core.config import SleepParams

SETTLING: Final = 1.0
"""The most seconds that an idle pool waits for transactions that may not have seen that it waits."""

LATE: Final = 0.1
"""Seconds in which a statement that has read that no pool waits gets its transaction id, on a busy machine, too."""

FIRST_STEP: Final = 0.005
"""Seconds until an idle pool looks again for the first time."""

TOLD_AHEAD: Final = 10.0
"""An insert wakes a waiting pool if its task is due within this many seconds. Inserts of later tasks notify no pool,
since NOTIFY serializes commits: a pool must look again before they are due."""

LONGEST_SLEEP: Final = 8.0
"""The most seconds, spread by a tenth, that a listening pool sleeps. That leaves a second to transactions that insert
and do not commit at once. A look is two statements; the heart sends eight in that time."""


class Poll:
    """Computes the sleeps of an idle pool: ``SleepParams``, spread by a tenth so that pools do not move in step.

    ``longest``, in seconds, bounds each sleep before it is spread.
    """

    def __init__(
        self, params: SleepParams, chance: Callable[[], float] = random.random, *, longest: float = inf
    ) -> None:
        self._least = min(longest, params.min_sleep_period.total_seconds())
        self._most = min(longest, params.max_sleep_period.total_seconds())
        self._step = params.sleep_step.total_seconds()
        self._chance = chance
        self._next = self._least

    def found(self) -> None:
        """Starts over, since a task was claimed."""
        self._next = self._least

    def sleep(self) -> float:
        """Returns the seconds to sleep now, since no task was claimed."""
        now = self._next
        self._next = min(self._most, now + self._step)
        return now * (0.9 + 0.2 * self._chance())


class Idle:
    """Computes how long a pool sleeps after a claim without tasks, once it has announced that it waits to be woken.

    A transaction that inserted before it could see the announcement does not notify. So the pool keeps claiming in
    short steps while any transaction still runs that ran when it first claimed after announcing, for a second at most,
    and once more after ``LATE``; then it relies on being woken, and also polls. Times are seconds of one monotonic
    clock.

    A pool that ``listens`` is notified of tasks that are due within ``TOLD_AHEAD``, and has to find later ones by
    itself: it looks before that time is over. A pool that does not listen has only its ``SleepParams``.
    """

    def __init__(self, params: SleepParams, *, listens: bool, chance: Callable[[], float] = random.random) -> None:
        self._poll = Poll(params, chance, longest=LONGEST_SLEEP if listens else inf)
        self._found = False
        self._looks = 0
        self._watched: frozenset[int] = frozenset()
        self._late_until = 0.0
        self._until = 0.0
        self._step = 0.0
        self.is_settling = False
        """Whether the last sleep was such a short step."""

    def found(self) -> bool:
        """Starts over, since a task was claimed. Returns whether the claim before had tasks too, so the pool is busy.

        After a single such claim the pool is likely to wait again at once, and inserts meanwhile may as well wake it.
        """
        self._poll.found()
        is_busy, self._found = self._found, True
        return is_busy

    def announced(self, mono: float) -> None:
        """Notes that no task was claimed, and that the announcement was committed just now."""
        self._found = False
        # A statement may have read that no pool waits before the announcement, and get its id after a look; so the
        # second look that counts comes late, also if the pool is woken before.
        self._looks = 2
        self._watched = frozenset()
        self._late_until = mono + LATE
        self._until = mono + SETTLING
        self._step = FIRST_STEP

    def sleep(self, running: frozenset[int], mono: float) -> float:
        """Returns the seconds to sleep after a claim without tasks, while these transactions were running."""
        self._found = False
        if self._looks:
            if self._looks == 2 or mono >= self._late_until:
                self._looks -= 1
            self._watched |= running
        self._watched &= running
        self.is_settling = bool(self._looks or (mono < self._until and self._watched))
        if self.is_settling:
            now = self._step
            self._step = min(0.25, now * 1.5)
            if now > FIRST_STEP and not self._watched:
                return max(FIRST_STEP, self._late_until - mono)
            return now
        return self._poll.sleep()
