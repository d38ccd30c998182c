"""Which callers may use a connection of one reserve, and which wait for one. Pure: times are monotonic seconds."""

from collections import OrderedDict
from math import inf
from typing import Final, Generic, TypeVar

from fang_postgres.connecting import NO_ROOM, NONE_FREE
from fang_postgres.patience import Patience

W = TypeVar("W")

ROOM_AGAIN: Final = 1.0
"""Seconds after which a server that had no room for a connection is asked for one again."""


class Places(Generic[W]):
    """A place is the right to use one connection, or to make one. A place that becomes free goes to the caller that has
    waited longest. What a pool writes has a line of its own, which gets every second place: however many callers
    insert, outcomes are written.

    While the server has no room for all connections there are only as many places as it had room for. Callers then wait
    as they do when all connections are in use, instead of failing.

    Args:
        size: the largest number of places.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._most = size
        self._asked_at = -inf
        self._patience = Patience()
        self._of_pools: OrderedDict[W, float] = OrderedDict()  # with the time since when each waits
        self._of_callers: OrderedDict[W, float] = OrderedDict()
        self._was_a_pools = False
        self.taken = 0
        """How many places are in use."""

    def enter(self, now: float) -> bool:
        """Takes a place if one is free; returns whether it did."""
        if self.taken < self._most or (not self._is_line() and self._asks_again(now)):
            self.taken += 1
            return True
        return False

    def wait(self, waiter: W, now: float, *, of_pool: bool) -> None:
        """Puts a caller that found no place into the line."""
        (self._of_pools if of_pool else self._of_callers)[waiter] = now

    def give_up(self, waiter: W) -> bool:
        """Takes a caller out of the line; returns False if it had got a place before."""
        lines = (self._of_pools, self._of_callers)
        return any(line.pop(waiter, None) is not None for line in lines)

    def leave(self, now: float) -> list[W]:
        """Takes a place back; returns the callers that have got one."""
        self.taken -= 1
        return self._admit(now)

    def refuse(self, waiter: W, now: float, *, of_pool: bool) -> bool:
        """The server had no room for the connection that a caller with a place wanted to make.

        If other callers have places, it gives its own up, goes to the head of the line, and True is returned. If none
        has, there is no connection for which it could wait: it keeps its place, and False is returned.
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
        """A caller has got a connection."""
        self._patience.lent(now)

    def made(self, now: float) -> list[W]:
        """The server had room for a new connection; returns the callers that have got a place by that."""
        if self._most == self._size:
            return []
        self._most += 1
        return self._admit(now)

    def patience(self, since: float, now: float) -> float:
        """Returns the seconds for which a caller that has waited since then waits on, as things are."""
        return self._patience.left(since, now)

    def impatient(self, now: float) -> tuple[list[W], float | None]:
        """Takes those out of the line whose patience has ended, and returns them, with the seconds after which the
        next one's may end; None if none is left."""
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
        """What to tell a caller that has waited in vain."""
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
        """Makes one more place if the server has not been asked for room for a while; returns whether it did."""
        if self._most == self._size or now - self._asked_at < ROOM_AGAIN:
            return False
        self._asked_at = now
        self._most += 1
        return self.taken < self._most
