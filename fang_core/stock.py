"""What a pool has claimed and not started: since when it waits, how fast it goes, and how much of it is enough.

Pure: no clock, no lock. Tasks start in the order in which they were handed out, so that one entry for each claim tells
the age of every task.
"""

from collections import deque
from math import ceil
from typing import Final, NamedTuple

from fang_core.demand import HORIZON, MOST

PATIENCE: Final = 0.15
"""Seconds that a task waits, claimed, for a worker, before the pool asks whether another pool has one that is free."""

LOOK_AGAIN: Final = PATIENCE / 2
"""Seconds between two looks at what has waited too long. Workers that take nothing meanwhile are stuck in long runs."""

FIRST: Final = 10
"""Tasks that a pool lets wait before it has seen how fast its workers take them."""

MEASURED: Final = 0.02
"""Seconds at least over which the pace is measured; claims follow each other faster than that."""

SHORTEST_WAIT: Final = 0.01
"""Seconds: no look at the stock is worth more."""


class _Batch(NamedTuple):
    """What one claim brought: the number of its last task, when it was handed out, how many had been taken by then."""

    last: int
    at: float
    taken: int


class Stock:
    """The tasks that wait for a worker of the pool, first in first out; one thread tells it of all that happens.

    In every method ``waiting`` is how many wait now, and ``now`` is in seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.pace = 0.0
        """Tasks a second that workers were seen to take. Workers that are busy for long slow it down while they are:
        how long a run took is known only when it ends."""
        self.most = FIRST
        """How many may wait at once: what workers take within ``HORIZON``, as far as was seen. A worker that is free is
        no proof: those of an event loop that computes are free for as long as it does."""
        self._handed_out = 0
        self._gave_back = 0
        self._batches: deque[_Batch] = deque()  # those of which a task waits
        self._latest = _Batch(0, 0.0, 0)
        self._taken = 0  # when the pace was last measured
        self._measured_at = 0.0
        self._moved = 0  # how many had been taken when that was last seen to change, and when that was
        self._moved_at = 0.0
        self._asked_at = float("-inf")

    def hand_out(self, count: int, waiting: int, now: float) -> None:
        """So many are about to join those that wait."""
        self.measure(waiting, now)
        taken = self._taken_so_far(waiting)
        self._handed_out += count
        self._latest = _Batch(self._handed_out, now, taken)
        self._batches.append(self._latest)
        if not waiting:
            self._moved_at = now  # nothing was there to be taken

    def measure(self, waiting: int, now: float) -> None:
        """Learns from what has been taken since the last time."""
        self._forget_taken(waiting)
        taken = self._taken_so_far(waiting)
        if taken != self._moved:
            self._moved, self._moved_at = taken, now
        self._measure_most(taken, now)
        elapsed = now - self._measured_at
        if elapsed < MEASURED:
            return
        pace = (taken - self._taken) / elapsed
        # Where nothing is left, workers may have been without a task: they could have gone faster.
        self.pace = pace if waiting else max(pace, self.pace)
        self._taken, self._measured_at = taken, now

    def _measure_most(self, taken: int, now: float) -> None:
        """Falls to what was taken where a task waits for twice the horizon; doubles where twice as many would go."""
        if self._batches:
            oldest = self._batches[0]
            age = now - oldest.at
            if age >= 2 * HORIZON:
                self.most = max(1, min(self.most, ceil(HORIZON * (taken - oldest.taken) / age)))
                return
        # Seen in half of what may wait at least, so that one task that started at once does not count for many.
        went = taken - self._latest.taken
        if 2 * went > self.most and went * HORIZON >= 2 * self.most * (now - self._latest.at):
            self.most = min(MOST, 2 * self.most)

    def overdue(self, waiting: int, now: float) -> int:
        """How many have waited too long; they are the first in line."""
        self._forget_taken(waiting)
        first = self._handed_out - waiting
        overdue = 0
        for batch in self._batches:
            if now - batch.at < PATIENCE:
                break
            overdue = batch.last - first
        return overdue

    def asks(self, waiting: int, now: float) -> bool:
        """Whether to ask now if another pool would take what is overdue: some is, and the last answer is old."""
        if now - self._asked_at < LOOK_AGAIN or not self.overdue(waiting, now):
            return False
        self._asked_at = now
        return True

    def is_stuck(self, now: float) -> bool:
        """Whether workers have taken nothing for a while, though something waits."""
        return bool(self._batches) and now - self._moved_at >= LOOK_AGAIN

    def went_back(self, count: int, waiting: int, now: float) -> None:
        """So many were given back. Nothing is claimed ahead until workers take tasks again."""
        self._gave_back += count
        self.pace = 0.0
        self._taken, self._measured_at = self._taken_so_far(waiting), now

    def patience(self, waiting: int, now: float) -> float:
        """Seconds until there may be something to ask about; infinite where none waits."""
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
