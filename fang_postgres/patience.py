"""How long to wait in line for a connection. Pure: times are seconds of one monotonic clock."""

from math import inf

from fang_postgres.connecting import WAIT_FOR_ONE


class Patience:
    """Of those who wait for a connection of one reserve: it ends where nobody got one for ``WAIT_FOR_ONE``.

    It does not count how long one has waited in line: who calls ``insert_task`` 200,000 times at once has the last of
    them wait for all others. While each gets its turn that is no fault.
    """

    def __init__(self) -> None:
        self._lent_at = -inf

    def lent(self, now: float) -> None:
        """Somebody got one."""
        self._lent_at = now

    def left(self, since: float, now: float) -> float:
        """Seconds for which one who has waited ``since`` waits on, as things are; 0 or less where it gives up."""
        return max(since, self._lent_at) + WAIT_FOR_ONE - now
