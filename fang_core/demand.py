"""How many tasks to claim, and when to look again. Pure: no clock, no sleep."""

import random
from collections.abc import Callable
from math import inf
from typing import Final

from fang_core.config import SleepParams
from fang_core.snapshot import parse_snapshot

HORIZON: Final = 0.05
"""Seconds of work to hold ready. Long enough for a claim to be under way, short enough to give back at no loss."""

MOST: Final = 1_000
"""Rows in one claim; beyond this the statement's cost for each row no longer falls."""

MOST_UNWRITTEN: Final = 10_000
"""Outcomes waiting to be written at which a pool claims no more: the backend is slower than the runs."""

SETTLING: Final = 1.0
"""Seconds at most for which an idle pool waits for transactions that cannot have seen that it waits."""

TOLD_AHEAD: Final = 10.0
"""Seconds before its time from which on a task's insert wakes a pool that waits. Of others nobody is told, since NOTIFY
serializes commits: a pool must look again before they are due."""

LONGEST_SLEEP: Final = 8.0
"""Seconds, spread by a tenth, for which a pool that listens sleeps at most. That leaves a second to transactions that
insert and do not commit at once. A look is two statements; the heart sends eight in that time."""


class Demand:
    """How many tasks a pool wants: one for each free worker, plus what its workers will run through in ``HORIZON``.

    No more are to wait than workers were seen to start in time, however many of them are free.

    Where a task takes as long as the horizon or longer, nothing is claimed ahead: a waiting task is better off in
    another process. Where tasks are short the batch is everything: claims of 10 drain 9,000 tasks a second, claims of
    500 drain 60,000. ``pace`` is how many tasks a second workers were seen to take, see ``Stock``.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._mean = HORIZON  # seconds for each task; pessimistic until something has been seen

    def observe(self, seconds: float) -> None:
        """A run took this long. (From several threads an observation may be lost; nothing depends on one.)"""
        # A long run weighs at once, many short ones must speak before it is forgotten.
        self._mean += (seconds - self._mean) * (0.5 if seconds > self._mean else 0.05)

    def ahead(self, pace: float) -> int:
        """How many to hold beyond the free workers."""
        if self._mean >= HORIZON:
            return 0
        return min(MOST, int(HORIZON * min(pace, self._workers / max(self._mean, 1e-6))))

    def low(self, *, free: int, pace: float, most: int) -> int:
        """So few waiting tasks are few enough to claim again. Half empty is soon enough, and keeps batches large."""
        ahead = self.ahead(pace)
        return (most - 1) // 2 if free + ahead > most else ahead // 2

    def wanted(self, *, free: int, waiting: int, unwritten: int, pace: float, most: int) -> int:
        """How many to claim now; 0 to wait.

        Args:
            free: workers without a task.
            waiting: tasks claimed and not started.
            unwritten: outcomes not yet written.
            pace: tasks that workers take, a second.
            most: tasks that may wait, see ``Stock``: however many workers are free, they start no more in time.
        """
        if unwritten >= MOST_UNWRITTEN:
            return 0
        target = free + self.ahead(pace)
        is_low = waiting <= self.low(free=free, pace=pace, most=most)
        if target > most:
            return most - waiting if is_low else 0
        return max(0, target - waiting) if is_low or waiting < free else 0


class Poll:
    """How long an idle pool sleeps: ``SleepParams``, spread by a tenth so that pools do not move in step.

    ``longest``, in seconds, is what no sleep is to exceed, but for the spread.
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
        """Something was claimed: start over."""
        self._next = self._least

    def sleep(self) -> float:
        """Nothing was claimed: seconds to sleep now."""
        now = self._next
        self._next = min(self._most, now + self._step)
        return now * (0.9 + 0.2 * self._chance())


class Idle:
    """How long a pool sleeps that claimed nothing, once it has announced that it waits to be woken.

    A transaction that inserted before it could see the announcement does not notify. So the pool claims on in short
    steps while any transaction still runs that ran when it first claimed after announcing, for a second at most; then
    it relies on being woken, and polls beneath. Times are seconds of one monotonic clock.

    One that ``listens`` is told of what is due in ``TOLD_AHEAD``, and has to see what is due later by itself: it looks
    before that time is over. One that does not has nothing but its ``SleepParams``.
    """

    def __init__(self, params: SleepParams, *, listens: bool, chance: Callable[[], float] = random.random) -> None:
        self._poll = Poll(params, chance, longest=LONGEST_SLEEP if listens else inf)
        self._found = False
        self._looks = 0
        self._watched: frozenset[int] = frozenset()
        self._until = 0.0
        self._step = 0.0
        self.is_settling = False
        """Whether the last sleep was such a short step."""

    def found(self) -> bool:
        """Something was claimed: start over. Whether the claim before found something, too: the pool waits no more.

        After a single one it is likely to wait again at once, and whoever inserts meanwhile may as well wake it.
        """
        self._poll.found()
        is_busy, self._found = self._found, True
        return is_busy

    def announced(self, mono: float) -> None:
        """Nothing was claimed, and the announcement was committed just now."""
        self._found = False
        # Two looks: a statement may have read "nobody waits" before it, and have got its transaction id after one.
        self._looks = 2
        self._watched = frozenset()
        self._until = mono + SETTLING
        self._step = 0.005

    def sleep(self, snapshot: str, mono: float) -> float:
        """Nothing was claimed, and these transactions were running: seconds to sleep now."""
        self._found = False
        running = parse_snapshot(snapshot).running
        if self._looks:
            self._looks -= 1
            self._watched |= running
        self._watched &= running
        self.is_settling = bool(self._looks or (mono < self._until and self._watched))
        if self.is_settling:
            now = self._step
            self._step = min(0.25, now * 1.5)
            return now
        return self._poll.sleep()


class Retry:
    """How long to wait between tries while a backend does not answer: 0.1 s doubling to 5 s, spread by half."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next = 0.1

    def succeeded(self) -> None:
        """The backend answered: start over."""
        self._next = 0.1

    def sleep(self) -> float:
        """Seconds to wait before the next try."""
        now = self._next
        self._next = min(5.0, now * 2)
        return now * (0.5 + self._chance())
