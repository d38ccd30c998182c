"""Decides when a pool claims suspects that must run alone, and how large its claims are while suspects are about.

It is pure: times are seconds of one monotonic clock. ``suspects`` has the rule which suspects may be tried together.

Claimed tasks that must not run at the same time as a suspect of the pool go back. So the claim after one that brought
such tasks is for a single task, and after each claim without them the next may be twice as large: if suspects that must
run alone follow each other, each claim brings one.

A suspect that must run alone begins when the pool's other runs have ended, and meanwhile no other task begins. So it
waits for a bounded time. Then it goes back, and the pool claims no such suspect for ``ABSTAINS`` times as long as it
waited, unless it has nothing else to do. A suspect that is claimed again waits twice as long as before: in the end for
longer than any run, in this pool or in another. So a pool waits in vain for an eleventh of the time at most, and every
suspect runs.

While an outcome waits for another session to unlock its row, the pool claims no such suspect, since it cannot know when
the suspect would be alone.
"""

from collections import OrderedDict
from math import inf
from typing import Final
from uuid import UUID

from fang_core.backends.claims import ClaimRequest, LaneRequest
from fang_core.claims.prefetch import MOST
from fang_core.claims.suspects import ANY_SUSPECTS, NO_SUSPECTS

FIRST_WAIT: Final = 5.0
"""Seconds that a suspect that must run alone waits for the pool's other runs the first time."""

ABSTAINS: Final = 10
"""After a suspect has waited in vain, the pool claims no suspect that must run alone for this many times as long."""

REMEMBERED: Final = 1_000
"""The number of suspects, the latest ones, whose waits are remembered."""


class Quarantine:
    """Decides for one pool, which reports each claim and what it does with the suspects."""

    def __init__(self) -> None:
        self._most = MOST
        self._asked = ANY_SUSPECTS  # the size of the group that the last claim was for
        self._suspect: UUID | None = None  # the one that waits, until it has begun or gone back
        self._since = 0.0  # since when it waits
        self._waits: OrderedDict[UUID, float] = OrderedDict()  # the next waits of suspects that waited in vain
        self._abstains_until = -inf

    # What to claim ----------------------------------------------------------------------------------------------------

    @property
    def abstains(self) -> bool:
        """Returns whether the last claim left suspects out."""
        return self._asked > ANY_SUSPECTS

    def group_size(self, next_size: int, *, is_idle: bool, has_locked: bool, mono: float) -> int:
        """Returns the size of the group that the next claim is for: it brings only suspects that may be tried in it.

        Args:
            next_size: the size of the pool's group with one more suspect.
            is_idle: whether the pool holds no task.
            has_locked: whether the pool holds tasks whose outcomes are locked.
        """
        if is_idle or mono >= self._abstains_until:
            self._abstains_until = -inf
        self._asked = self._smallest(next_size, is_idle=is_idle, has_locked=has_locked)
        return self._asked

    def allows_more(self, next_size: int, *, is_idle: bool, has_locked: bool) -> bool:
        """Returns whether a claim could now bring suspects that the last one left out."""
        return self._smallest(next_size, is_idle=is_idle, has_locked=has_locked) < self._asked

    def _smallest(self, next_size: int, *, is_idle: bool, has_locked: bool) -> int:
        if has_locked or (self._abstains_until > -inf and not is_idle):
            return max(next_size, ANY_SUSPECTS + 1)
        return next_size

    def limit(self, wanted: int) -> int:
        """Returns how many of the ``wanted`` tasks to claim if suspects may be among them."""
        return min(wanted, self._most)

    def claimed(self, request: ClaimRequest | LaneRequest) -> None:
        """Notes that a claim was answered: the next one may be larger."""
        if request.group_size < NO_SUSPECTS:
            self._most = min(MOST, 2 * self._most)

    def gave_back(self) -> None:
        """Notes that the claim brought tasks that must not run at the same time as a suspect of the pool."""
        self._most = 1

    # What becomes of a suspect ----------------------------------------------------------------------------------------

    def waits(self, suspect: UUID, mono: float) -> None:
        """Notes that the pool holds this suspect, which may not begin yet."""
        if suspect != self._suspect:
            self._suspect, self._since = suspect, mono

    def began(self) -> None:
        """Notes that the suspect runs."""
        if self._suspect is not None:
            self._waits.pop(self._suspect, None)
            self._suspect = None

    def is_over(self, mono: float) -> bool:
        """Returns whether a suspect has waited long enough, and must go back."""
        return self._suspect is not None and mono >= self._since + self._wait(self._suspect)

    def went_back(self, mono: float) -> float:
        """Notes that the suspect is given back; returns for how many seconds the pool claims none that runs alone."""
        assert self._suspect is not None
        seconds = ABSTAINS * (mono - self._since)
        self._waits[self._suspect] = 2 * self._wait(self._suspect)
        self._waits.move_to_end(self._suspect)
        if len(self._waits) > REMEMBERED:
            self._waits.popitem(last=False)
        self._suspect = None
        self._abstains_until = mono + seconds
        return seconds

    def until_over(self, mono: float) -> float:
        """Returns the seconds until the waiting suspect must go back; infinite if none waits."""
        return inf if self._suspect is None else max(0.0, self._since + self._wait(self._suspect) - mono)

    def until_allowed(self, mono: float) -> float:
        """Returns the seconds until suspects that run alone may be claimed again; infinite if they may be now."""
        return max(0.0, self._abstains_until - mono) if self._abstains_until > -inf else inf

    def _wait(self, task_id: UUID) -> float:
        return self._waits.get(task_id, FIRST_WAIT)
