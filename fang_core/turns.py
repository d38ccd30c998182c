"""Decides when calls of a queue try again while the database is away. It is pure: times are monotonic seconds."""

import random
from collections.abc import Callable
from datetime import timedelta
from math import inf
from typing import Final

from fang_core.config import check_period
from fang_core.errors import BackendError, NotConnected, ReadOnlyServer

WAITS: Final = "a call waits for the database, for %.1f s more at most: %s"
"""The log line of a call that has failed and waits, with its error."""

_SHORTEST: Final = 0.05
_LONGEST: Final = 0.5


def waits_for(error: BackendError) -> bool:
    """Returns whether a call that failed with this may be repeated unchanged once the database is back.

    Then nothing was written, and the database cannot be reached, starts, stops, or takes no writes yet.
    """
    return isinstance(error, NotConnected | ReadOnlyServer)


class Turns:
    """Gives turns to all calls of one queue that wait for its database.

    The pause between two tries doubles from 0.05 s to 0.5 s, spread by half. After each pause one of the waiting calls
    tries, and its success lets the other calls follow: they do not all reach a server that comes back at once.

    Args:
        within: the time for which each call waits, from its first failure on; zero for no wait. Raises ``UsageError``
            if it is no ``timedelta``, or a negative one.
    """

    def __init__(self, within: timedelta, chance: Callable[[], float] = random.random) -> None:
        check_period("wait_for_database", within)
        self.within = within.total_seconds()
        """Seconds for which a call waits."""
        self._chance = chance
        self._pause = 0.0
        self._next = -inf

    def failed(self, now: float) -> None:
        """Notes that a call has failed because the database is away."""
        if now >= self._next:  # otherwise another call has noted this failure already
            self._pause = min(_LONGEST, max(_SHORTEST, 2 * self._pause))
            self._next = now + self._pause * (0.5 + self._chance())

    def ended(self) -> None:
        """Notes that a call that had waited got an answer."""
        self._pause = 0.0
        self._next = -inf

    def wait(self, now: float) -> float:
        """Returns the seconds after which a waiting call must ask again; 0.0 if it is its turn to try."""
        if now < self._next:
            return self._next - now
        if self._pause:
            self._next = now + self._pause * (0.5 + self._chance())
        return 0.0
