"""Measures how long a pool's claimed tasks wait and how fast they start, and decides how many more to claim.

It is pure: it has no clock and no lock. Tasks start in the order in which they were handed out, so that one entry for
each claim gives the age of every task.
"""

from collections import deque
from math import ceil
from typing import Final, NamedTuple

HORIZON: Final = 0.05
"""Seconds of work to hold ready: long enough to cover the next claim, short enough to give back at no loss."""

MOST: Final = 1_000
"""The most rows in one claim; beyond this the statement's cost for each row no longer falls."""

MOST_UNWRITTEN: Final = 10_000
"""A pool with this many outcomes left to write claims no more: the backend is slower than the runs."""

PATIENCE: Final = 0.15
"""Seconds that a claimed task waits for a worker before the pool asks whether another pool has a free one."""

LOOK_AGAIN: Final = PATIENCE / 2
"""Seconds between two looks for overdue tasks. Workers that take no task between two looks are stuck in long runs."""

FIRST: Final = 10
"""Tasks that a pool lets wait before it has seen how fast its workers take them."""

MEASURED: Final = 0.02
"""The fewest seconds over which the pace is measured; claims follow each other faster than that."""

SHORTEST_WAIT: Final = 0.01
"""The fewest seconds between two looks at the buffer: no look is urgent enough for less."""


class _Batch(NamedTuple):
    """Records a claim: its last task's number, when it was handed out, and how many tasks had been taken by then."""

    last: int
    at: float
    taken: int


class PrefetchBuffer:
    """Measures the tasks that wait for a worker of the pool, first in first out; one thread reports all events to it.

    In every method ``waiting`` is the number of tasks that wait now, and ``now`` is in seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.pace = 0.0
        """The measured number of tasks that workers take in a second. Long runs slow it down while they last: how long
        a run takes is known only when it ends."""
        self.most = FIRST
        """The most tasks that may wait at once: as many as workers were measured to take within ``HORIZON``. Free
        workers do not prove more: while an event loop computes, its workers look free and start nothing."""
        self._handed_out = 0
        self._gave_back = 0
        self._batches: deque[_Batch] = deque()  # the batches of which a task still waits
        self._latest = _Batch(0, 0.0, 0)
        self._taken = 0  # tasks taken when the pace was last measured
        self._measured_at = 0.0
        self._asked_at = float("-inf")
        self._taken_when_asked: int | None = None  # None if no task has waited since then all the time
        self.is_stuck = False
        """Whether workers had taken no task between the last two times that ``asks`` returned True. A single look
        proves nothing: if the whole process or its event loop stood still until then, its workers could not run."""

    def hand_out(self, count: int, waiting: int, now: float) -> None:
        """Notes that ``count`` tasks are about to join those that wait."""
        self.measure(waiting, now)
        taken = self._taken_so_far(waiting)
        self._handed_out += count
        self._latest = _Batch(self._handed_out, now, taken)
        self._batches.append(self._latest)
        if not waiting:
            self._taken_when_asked = None  # until now workers had no task to take

    def measure(self, waiting: int, now: float) -> None:
        """Measures how many tasks have been taken since the last time."""
        self._forget_taken(waiting)
        taken = self._taken_so_far(waiting)
        self._measure_most(taken, now)
        elapsed = now - self._measured_at
        if elapsed < MEASURED:
            return
        pace = (taken - self._taken) / elapsed
        # If no task is left, workers may have been without one: they could have gone faster.
        self.pace = pace if waiting else max(pace, self.pace)
        self._taken, self._measured_at = taken, now

    def _measure_most(self, taken: int, now: float) -> None:
        """Lowers ``most`` to the measured rate if a task has waited for two horizons; doubles it if workers take twice
        as many."""
        if self._batches:
            oldest = self._batches[0]
            age = now - oldest.at
            if age >= 2 * HORIZON:
                self.most = max(1, min(self.most, ceil(HORIZON * (taken - oldest.taken) / age)))
                return
        # At least half of the tasks that may wait must have gone: one task that started at once proves little.
        went = taken - self._latest.taken
        if 2 * went > self.most and went * HORIZON >= 2 * self.most * (now - self._latest.at):
            self.most = min(MOST, 2 * self.most)

    def overdue(self, waiting: int, now: float) -> int:
        """Returns how many tasks have waited too long; they are the first in line."""
        self._forget_taken(waiting)
        first = self._handed_out - waiting
        overdue = 0
        for batch in self._batches:
            if now - batch.at < PATIENCE:
                break
            overdue = batch.last - first
        return overdue

    def asks(self, waiting: int, now: float) -> bool:
        """Returns whether to ask now if another pool would take the overdue tasks: there are some, and the pool has not
        just asked."""
        if now - self._asked_at < LOOK_AGAIN or not self.overdue(waiting, now):
            return False
        self._asked_at = now
        taken = self._taken_so_far(waiting)
        self.is_stuck, self._taken_when_asked = taken == self._taken_when_asked, taken
        return True

    def went_back(self, count: int, waiting: int, now: float) -> None:
        """Notes that ``count`` tasks were given back. None are claimed ahead until workers take tasks again."""
        self._gave_back += count
        self.pace = 0.0
        self._taken, self._measured_at = self._taken_so_far(waiting), now

    def patience(self, waiting: int, now: float) -> float:
        """Returns the seconds until a waiting task may be overdue; infinite if none waits."""
        self._forget_taken(waiting)
        if not self._batches:
            return float("inf")
        return max(SHORTEST_WAIT, max(self._batches[0].at + PATIENCE, self._asked_at + LOOK_AGAIN) - now)

    def _taken_so_far(self, waiting: int) -> int:
        return self._handed_out - self._gave_back - waiting

    def _forget_taken(self, waiting: int) -> None:
        first = self._handed_out - waiting
        while self._batches and self._batches[0].last <= first:
            self._batches.popleft()


class Demand:
    """Computes how many tasks a pool wants: one for each free worker, plus those that workers finish in ``HORIZON``.

    No more tasks may wait than workers were seen to start in time, however many workers are free.

    If a task takes as long as the horizon or longer, none is claimed ahead: a waiting task is better off in another
    process. If tasks are short, the size of batches decides: claims of 10 drain 9,000 tasks a second, claims of 500
    drain 60,000. ``pace`` is the number of tasks that workers were seen to take in a second, see ``PrefetchBuffer``.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self.mean = HORIZON
        """The seconds that a run takes; pessimistic until something has been seen."""

    def resize(self, workers: int) -> None:
        """Notes that the pool has another number of workers now."""
        self._workers = workers

    def observe(self, seconds: float) -> None:
        """Notes how long a run took. (An observation may be lost between threads; nothing depends on a single one.)"""
        # A long run counts at once; it takes many short ones to forget it.
        self.mean += (seconds - self.mean) * (0.5 if seconds > self.mean else 0.05)

    def ahead(self, pace: float) -> int:
        """Returns how many tasks to hold beyond those for free workers."""
        if self.mean >= HORIZON:
            return 0
        return min(MOST, int(HORIZON * min(pace, self._workers / max(self.mean, 1e-6))))

    def low(self, *, free: int, pace: float, most: int) -> int:
        """Returns how few tasks must wait for the next claim. Half empty is soon enough, and keeps batches large."""
        ahead = self.ahead(pace)
        return (most - 1) // 2 if free + ahead > most else ahead // 2

    def wanted(self, *, free: int, waiting: int, unwritten: int, pace: float, most: int) -> int:
        """Returns how many tasks to claim now; 0 to wait.

        Args:
            free: workers without a task.
            waiting: tasks claimed and not started.
            unwritten: outcomes not yet written.
            pace: tasks that workers take in a second.
            most: the most tasks that may wait: workers start no more in time, however many are free.
        """
        if unwritten >= MOST_UNWRITTEN:
            return 0
        target = free + self.ahead(pace)
        is_low = waiting <= self.low(free=free, pace=pace, most=most)
        if target > most:
            return most - waiting if is_low else 0
        return max(0, target - waiting) if is_low or waiting < free else 0
