"""Decides how long to wait in line for a connection. Pure: times are seconds of one monotonic clock."""

from math import inf

from fang_postgres.connections.connecting import WAIT_FOR_ONE


class AcquireTimeout:
    """Lets callers wait for a connection until no caller of a connection pool has got one for ``WAIT_FOR_ONE`` seconds.

    How long a caller has waited in line does not count: of 200,000 ``insert_task`` calls made at once, the last one
    waits for all before it. As long as the line moves, that is no error.
    """

    def __init__(self) -> None:
        self._lent_at = -inf

    def lent(self, now: float) -> None:
        """Notes that a caller got a connection."""
        self._lent_at = now

    def left(self, since: float, now: float) -> float:
        """Returns how many more seconds a caller that waits since ``since`` should wait; 0 or less if it gives up."""
        return max(since, self._lent_at) + WAIT_FOR_ONE - now
