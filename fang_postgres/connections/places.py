"""Decides which callers use a connection of a connection pool, and which wait. Pure: times are monotonic seconds."""

from collections import OrderedDict
from math import inf
from typing import Final, Generic, TypeVar

from fang_postgres.connections.acquire_timeout import AcquireTimeout
from fang_postgres.connections.connecting import NO_ROOM, NONE_FREE

W = TypeVar("W")

ROOM_AGAIN: Final = 1.0
"""Seconds after which a new connection is tried again, after the server had no room for one."""


class Places(Generic[W]):
    """Hands out places: the right to use one connection, or to make one. A free place goes to the caller that has
    waited longest. Pools have a line of their own, which gets every second place, so that outcomes are written however
    many callers insert.

    While the server has no room for all connections, there are only as many places as it had room for. Callers then
    wait as they do when all connections are in use, instead of failing.

    Args:
        size: the largest number of places.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._most = size
        self._asked_at = -inf
        self._patience = AcquireTimeout()
        self._of_pools: OrderedDict[W, float] = OrderedDict()  # with the time at which each began to wait
        self._of_callers: OrderedDict[W, float] = OrderedDict()
        self._was_a_pools = False
        self.taken = 0
        """The number of places in use."""

    def enter(self, now: float) -> bool:
        """Takes a place if one is free; returns whether it did."""
        if self.taken < self._most or (not self._is_line() and self._asks_again(now)):
            self.taken += 1
            return True
        return False

    def wait(self, waiter: W, now: float, *, of_pool: bool) -> None:
        """Puts a caller that found no free place into its line."""
        (self._of_pools if of_pool else self._of_callers)[waiter] = now

    def give_up(self, waiter: W) -> bool:
        """Takes a caller out of the line; returns False if it already got a place."""
        lines = (self._of_pools, self._of_callers)
        return any(line.pop(waiter, None) is not None for line in lines)

    def leave(self, now: float) -> list[W]:
        """Takes a place back; returns the callers that have got one."""
        self.taken -= 1
        return self._admit(now)

    def refuse(self, waiter: W, now: float, *, of_pool: bool) -> bool:
        """Notes that the server had no room for the connection that a caller with a place wanted to make.

        If other callers have places, it gives its own up and goes to the head of the line; returns True. If none has,
        there is no connection to wait for, so it keeps its place; returns False.
        """
        self._asked_at = now
        if self.taken <= 1:
            return False
        self.taken -= 1
        self._most = self.taken
        self.wait(waiter, now, of_pool=of_pool)
        (self._of_pools if of_pool else self._of_callers).move_to_end(waiter, last=False)
        return True

    def lent(self, now: float) -> None:
        """Notes that a caller got a connection."""
        self._patience.lent(now)

    def made(self, now: float) -> list[W]:
        """Notes that the server had room for a new connection; returns the callers that get a place because of it."""
        if self._most == self._size:
            return []
        self._most += 1
        return self._admit(now)

    def patience(self, since: float, now: float) -> float:
        """Returns how many more seconds a caller that waits since ``since`` should wait."""
        return self._patience.left(since, now)

    def impatient(self, now: float) -> tuple[list[W], float | None]:
        """Takes callers whose patience has ended out of the line. Returns them, and the seconds until the next one's
        may end; None if none is left."""
        gone: list[W] = []
        left: list[float] = []
        for line in (self._of_pools, self._of_callers):
            while line:
                waiter, since = next(iter(line.items()))
                if (seconds := self.patience(since, now)) > 0:
                    left.append(seconds)
                    break
                del line[waiter]
                gone.append(waiter)
        return gone, min(left, default=None)

    @property
    def why_none_is_free(self) -> str:
        """Returns the error text for a caller that has waited in vain."""
        return NO_ROOM if self._most < self._size else NONE_FREE

    def _is_line(self) -> bool:
        return bool(self._of_pools or self._of_callers)

    def _admit(self, now: float) -> list[W]:
        admitted: list[W] = []
        while self._is_line() and (self.taken < self._most or self._asks_again(now)):
            self.taken += 1
            admitted.append(self._next_line().popitem(last=False)[0])
        return admitted

    def _next_line(self) -> OrderedDict[W, float]:
        if self._of_pools and self._of_callers:
            self._was_a_pools = not self._was_a_pools
            return self._of_pools if self._was_a_pools else self._of_callers
        return self._of_pools or self._of_callers

    def _asks_again(self, now: float) -> bool:
        """Adds a place if no connection was tried for ``ROOM_AGAIN`` seconds; returns whether one is free now."""
        if self._most == self._size or now - self._asked_at < ROOM_AGAIN:
            return False
        self._asked_at = now
        self._most += 1
        return self.taken < self._most
