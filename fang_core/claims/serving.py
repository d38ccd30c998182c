"""Decides which of a pool's task types its next claim asks for, and in which order. It is pure: times are monotonic.

Managed types are left out: ``lanes`` decides when to claim from them.

A claim looks at five lanes of each type that it asks for, with rows or without: a few microseconds each, so that 3,000
types cost 40 ms. So a pool of many types first asks the backend which types have due rows, which costs a step for each
such type, and then claims only from these until a claim returns less than it asked for.
"""

from collections.abc import Container, Mapping
from typing import Final

from fang_core.backends.claims import Claim, ClaimRequest

MANY: Final = 20
"""A pool with no more task types than this claims from all of them, which costs less than to look first."""

LOOK_EVERY: Final = 0.1
"""The most seconds between two looks while claims are filled."""

SLOW: Final = 0.1
"""Seconds; a look that takes longer has walked through dead entries, or the server is busy."""

BLIND_FOR: Final = 20
"""After a slow look the pool claims from all of its types, without a look, for this many times as long as that took."""


class Serving:
    """Orders the task types of one pool for its claims."""

    def __init__(self, task_types: tuple[str, ...]) -> None:
        self.served = frozenset(task_types)
        self._types = task_types
        self.next = task_types
        """The types that the next claim asks for, in this order."""
        self.waiting = task_types
        """The types that may have tasks, due or not."""
        self._all = task_types
        self.is_many = len(task_types) > MANY
        """Whether it looks which types have due tasks before it claims."""
        self._looked_at = float("-inf")
        self._blind_until = float("-inf")
        self._is_stale = self.is_many

    @property
    def has_types(self) -> bool:
        """Returns whether there is any type to claim from."""
        return bool(self._all)

    def leave_out(self, managed: Container[str]) -> None:
        """Leaves out exactly the managed types; types that are no longer managed come last."""
        self._all = tuple(each for each in self._types if each not in managed)
        kept = [each for each in self.next if each not in managed]
        if self.is_many:
            self._is_stale = True
        self.next = tuple(dict.fromkeys((*kept, *self._all)))
        self.waiting = self._all

    def look_again(self) -> None:
        """Notes that tasks may have been inserted since the last look."""
        self._is_stale = self.is_many

    @property
    def most(self) -> int:
        """Returns with how many lanes with tasks, in the whole table, a look still costs less than a claim from all
        types."""
        return 100 + 2 * len(self._types)

    def looks(self, mono: float, *, whole: bool) -> bool:
        """Returns whether to look before the next claim; a ``whole`` claim must miss no task that is there now."""
        if not self.is_many or mono < self._blind_until:
            return False
        return whole or self._is_stale or mono >= self._looked_at + LOOK_EVERY

    def looked(self, found: Mapping[str, bool] | None, *, began: float, ended: float) -> frozenset[str]:
        """Notes what a look has found: types with tasks, and whether one is due; None for too many.

        Returns the types that were asked for before and still are: the places of all other types are out of date.
        """
        self._looked_at = ended
        self._is_stale = False
        if found is None or ended - began > SLOW:
            self._blind_until = ended + BLIND_FOR * max(SLOW, ended - began)
            self.next = self.waiting = self._all
            self._is_stale = True
            return frozenset()
        plain = frozenset(self._all)
        due = dict.fromkeys(each for each, is_due in found.items() if is_due and each in plain)
        kept = [each for each in self.next if each in due]
        self.next = tuple(dict.fromkeys((*kept, *due)))
        self.waiting = tuple(each for each in found if each in plain)
        return frozenset(kept)

    def claimed(self, request: ClaimRequest, claim: Claim, mono: float) -> None:
        """Notes how many tasks a claim of these types has brought."""
        if not self.is_many or mono < self._blind_until:
            self.next = (*self.next[1:], *self.next[:1])  # so that no type starves
        elif len(claim.tasks) < request.limit:
            self._is_stale = True  # tasks that are due now have come after the look
        else:
            # Types before that of the last task were read to their end, and those after it not at all.
            place = self.next.index(claim.tasks[-1].task_type)
            self.next = (*self.next[place + 1 :], self.next[place], *self.next[:place])
