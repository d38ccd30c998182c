"""Learns at how many keys of a managed type a claim should look.

A claim looks at keys in turn until those that may start tasks fill it. While many pools work on one type, most keys are
full, or locked by other claims: a claim that looks at all of them for its last few tasks takes three times as long, and
starts its other tasks later. So after a claim that was not filled the next one looks at half as many, and the pool goes
on from there. If a claim finds nothing the next one looks at twice as many, so that a round in vain takes few claims.
One that finds little changes nothing: where most keys are full for long, and a few have tasks again and again, the pool
makes a round for each of these, which should take few claims, too.

It is pure.
"""

from typing import Final

from fang_core.backends.claims import MOST_LANES

FEWEST: Final = 100
"""The fewest keys, unless that is more than there are tasks to claim: to look at so many costs what a claim costs that
looks at none."""

LITTLE: Final = 0.25
"""The part of what a claim asks for below which it has found little: it did not look so far for its last few tasks."""

PATIENCE: Final = 8
"""After how many full claims in a row a claim may look at twice as many keys again."""


class Reach:
    """Holds at how many keys of one type claims look."""

    def __init__(self) -> None:
        self._keys = MOST_LANES
        self._full = 0  # full claims in a row

    def keys(self, limit: int) -> int:
        """Returns at how many keys a claim of ``limit`` tasks should look."""
        return min(MOST_LANES, max(self._keys, limit))

    def claimed(self, *, taken: int, limit: int) -> None:
        """Notes how many tasks a claim brought, and how many it asked for."""
        self._full = self._full + 1 if taken == limit else 0
        if not taken or self._full == PATIENCE:
            self._keys, self._full = min(MOST_LANES, 2 * self._keys), 0
        elif LITTLE * limit <= taken < limit:
            self._keys = max(FEWEST, self._keys // 2)
