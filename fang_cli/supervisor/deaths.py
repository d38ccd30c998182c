"""Decides when processes die too often. It is pure: it is told the time."""

from collections import deque
from typing import Final

WITHIN: Final = 60.0
"""Seconds in which deaths are counted."""

FOR_EACH: Final = 5
"""Deaths for each process, and as many again, after which a supervisor gives up. A process that dies whenever it
starts reaches them, since it is started again within 7.5 s; several that are killed at once do not."""


class Deaths:
    """Counts the deaths of the last minute."""

    def __init__(self) -> None:
        self._at: deque[float] = deque()

    def __len__(self) -> int:
        """Returns how many there were, as of the last one."""
        return len(self._at)

    def are_too_many(self, now: float, processes: int) -> bool:
        """Counts one more death; returns whether that is one too many for this number of processes."""
        self._at.append(now)
        while self._at[0] <= now - WITHIN:
            self._at.popleft()
        return len(self._at) >= FOR_EACH * (processes + 1)
