"""Decides when processes die too often. Pure: the time is an argument."""

from collections import deque
from math import inf
from typing import Final

WITHIN: Final = 60.0
"""Seconds in which deaths are counted."""

FOR_EACH: Final = 5
"""Deaths for each process, and as many again, after which a supervisor gives up. Several processes that are killed at
once do not reach them."""

SOON: Final = 5.0
"""Seconds after it was ready within which a death is one of those that count in a row, however far they are apart: a
process that dies whenever it has started may take so long to start that a minute never has enough deaths."""

ROW_ENDS_AFTER: Final = 180.0
"""Seconds without a death that end a row: more than a start and the wait for it take."""


class Deaths:
    """The deaths of the last minute, and how many of the last ones in a row came soon."""

    def __init__(self) -> None:
        self._at: deque[float] = deque()
        self._last = -inf
        self.in_a_row = 0
        """How many came soon, one after the other, as of the last one."""

    def __len__(self) -> int:
        """Returns how many there were within a minute, as of the last one."""
        return len(self._at)

    def are_too_many(self, now: float, processes: int, *, soon: bool = False) -> bool:
        """Counts one more death; returns whether that is one too many for this number of processes.

        Args:
            soon: whether the process was not ready, or has not been for longer than ``SOON``.
        """
        if not soon or now - self._last > ROW_ENDS_AFTER:
            self.in_a_row = 0
        self.in_a_row += soon
        self._last = now
        self._at.append(now)
        while self._at[0] <= now - WITHIN:
            self._at.popleft()
        return max(len(self._at), self.in_a_row) >= FOR_EACH * (processes + 1)

    def __str__(self) -> str:
        """Says for a log how many there were."""
        if self.in_a_row > len(self._at):
            return f"{self.in_a_row} times in a row, soon after they were started"
        return f"{len(self._at)} times within {WITHIN:.0f} s"
