"""What a pool has claimed and not started: since when it waits, and how fast it goes. Pure: no clock, no lock.

Tasks start in the order in which they were handed out, so that one entry for each claim tells the age of every task.
"""

from collections import deque
from typing import Final

PATIENCE: Final = 0.15
"""Seconds that a task waits, claimed, for a worker. Then it goes back: another process may have one that is free."""

MEASURED: Final = 0.02
"""Seconds at least over which the pace is measured; claims follow each other faster than that."""

SHORTEST_WAIT: Final = 0.01
"""Seconds: no look at the stock is worth more."""


class Stock:
    """The tasks that wait for a worker of the pool, first in first out; one thread tells it of all that happens.

    In every method ``waiting`` is how many wait now, and ``now`` is in seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.pace = 0.0
        """Tasks a second that workers were seen to take. Workers that are busy for long slow it down while they are:
        how long a run took is known only when it ends."""
        self._handed_out = 0
        self._batches: deque[tuple[int, float]] = deque()  # the number of its last task, and when it was handed out
        self._taken = 0  # when the pace was last measured
        self._measured_at = 0.0

    def hand_out(self, count: int, waiting: int, now: float) -> None:
        """So many are about to join those that wait."""
        self.measure(waiting, now)
        self._handed_out += count
        self._batches.append((self._handed_out, now))

    def measure(self, waiting: int, now: float) -> None:
        """Learns the pace from what has been taken since the last time."""
        elapsed = now - self._measured_at
        taken = self._handed_out - waiting
        if elapsed < MEASURED:
            return
        pace = (taken - self._taken) / elapsed
        # Where nothing is left, workers may have been without a task: they could have gone faster.
        self.pace = pace if waiting else max(pace, self.pace)
        self._taken, self._measured_at = taken, now

    def overdue(self, waiting: int, now: float) -> int:
        """How many have waited too long; they are the first in line."""
        self._forget_taken(waiting)
        first = self._handed_out - waiting
        overdue = 0
        for last, handed_out_at in self._batches:
            if now - handed_out_at < PATIENCE:
                break
            overdue = last - first
        return overdue

    def went_back(self, waiting: int, now: float) -> None:
        """Some were given back, and so many are left. Nothing is claimed ahead until workers take tasks again."""
        self.pace = 0.0
        self._taken, self._measured_at = self._handed_out - waiting, now

    def patience(self, waiting: int, now: float) -> float:
        """Seconds until the next is overdue; infinite where none waits."""
        self._forget_taken(waiting)
        if not self._batches:
            return float("inf")
        return max(SHORTEST_WAIT, self._batches[0][1] + PATIENCE - now)

    def _forget_taken(self, waiting: int) -> None:
        first = self._handed_out - waiting
        while self._batches and self._batches[0][0] <= first:
            self._batches.popleft()
