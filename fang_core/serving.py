"""Which of a pool's task types its next claim asks for, and in which order. Pure: times are of one monotonic clock.

A claim looks at five levels of each type that it asks for, whether rows are there or not: a few microseconds each, so
that 3,000 types cost 40 ms. So a pool of many types first has the backend say which types have due rows at all, which
costs a step for each of those, and asks for these until a claim came back with less than it asked for.
"""

from collections.abc import Mapping
from typing import Final

from fang_core.store import Claim, ClaimRequest

MANY: Final = 20
"""Task types; a pool of no more asks for all of them, which costs less than to ask first."""

LOOK_EVERY: Final = 0.1
"""Seconds at most between two looks, while claims bring all that they ask for."""

SLOW: Final = 0.1
"""Seconds; a look that takes longer has walked through dead entries, or the server is busy."""

BLIND_FOR: Final = 20
"""Times as long as a slow look took, the pool asks for all of its types, and does not look."""


class Serving:
    """The task types of one pool."""

    def __init__(self, task_types: tuple[str, ...]) -> None:
        self.served = frozenset(task_types)
        self.next = task_types
        """What the next claim is to ask for, in this order."""
        self.waiting = task_types
        """Those that may have tasks, due or not."""
        self._all = task_types
        self._is_many = len(task_types) > MANY
        self._looked_at = float("-inf")
        self._blind_until = float("-inf")
        self._is_stale = self._is_many

    @property
    def most(self) -> int:
        """Levels with tasks in the whole table; beyond so many a look costs more than to ask for all types."""
        return 100 + 2 * len(self._all)

    def looks(self, mono: float, *, whole: bool) -> bool:
        """Whether to look before the next claim; a ``whole`` one must miss nothing that is there now."""
        if not self._is_many or mono < self._blind_until:
            return False
        return whole or self._is_stale or mono >= self._looked_at + LOOK_EVERY

    def looked(self, found: Mapping[str, bool] | None, *, began: float, ended: float) -> frozenset[str]:
        """What a look has found: types with tasks, and whether one is due; None for too many.

        Returns the types that were asked for before and still are: what is known of the others is out of date.
        """
        self._looked_at = ended
        self._is_stale = False
        if found is None or ended - began > SLOW:
            self._blind_until = ended + BLIND_FOR * max(SLOW, ended - began)
            self.next = self.waiting = self._all
            self._is_stale = True
            return frozenset()
        due = dict.fromkeys(each for each, is_due in found.items() if is_due and each in self.served)
        kept = [each for each in self.next if each in due]
        self.next = tuple(dict.fromkeys((*kept, *due)))
        self.waiting = tuple(each for each in found if each in self.served)
        return frozenset(kept)

    def claimed(self, request: ClaimRequest, claim: Claim, mono: float) -> None:
        """What a claim of these types has brought."""
        if not self._is_many or mono < self._blind_until:
            self.next = (*self.next[1:], *self.next[:1])  # so that none starves
        elif len(claim.tasks) < request.limit:
            self._is_stale = True  # what is due now has come since
        else:
            # Types before the last one that gave something were read to their end, and those behind it not at all.
            place = self.next.index(claim.tasks[-1].task_type)
            self.next = (*self.next[place + 1 :], self.next[place], *self.next[:place])
