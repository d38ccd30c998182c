"""How a pool claims where suspects are about, which run alone. Pure: times are seconds of one monotonic clock.

What is claimed behind a suspect goes back. So the claim after one that brought a suspect is for a single task, and each
that brings none may be twice as large as the one before: where suspects follow each other each claim brings one.

A suspect begins when the pool's other runs have ended, and meanwhile nothing else does. So it waits for a bounded time.
Then it goes back, and the pool claims none for ``ABSTAINS`` times as long as it waited, unless it has nothing else to
do. A suspect that comes again waits twice as long as before: in the end for longer than any run, in this pool or in
another. So a pool stands still for an eleventh of the time at most, and every suspect runs.

Where an outcome waits for others to unlock its row nobody knows for how long a suspect would not be alone: the pool
claims none.
"""

from collections import OrderedDict
from math import inf
from typing import Final
from uuid import UUID

from fang_core.demand import MOST
from fang_core.lifecycle import is_suspect
from fang_core.store import Claim, ClaimRequest

FIRST_WAIT: Final = 5.0
"""Seconds that a suspect waits for the runs beside it, the first time."""

ABSTAINS: Final = 10
"""Times as long as one waited in vain, no suspect is claimed."""

REMEMBERED: Final = 1_000
"""Suspects whose waits are remembered, the latest ones."""


class Caution:
    """Of one pool; to be told of each claim and of what becomes of the suspects that they bring."""

    def __init__(self) -> None:
        self._most = MOST
        self._suspect: UUID | None = None  # the last one that a claim brought, until it has begun or gone back
        self._since = 0.0  # when it was brought
        self._waits: OrderedDict[UUID, float] = OrderedDict()  # the next wait of those that waited in vain
        self._abstains_until = -inf
        self._is_held_up = False

    # What to claim ----------------------------------------------------------------------------------------------------

    @property
    def abstains(self) -> bool:
        """Whether claims leave suspects out, as far as is known; see ``allows``."""
        return self._is_held_up or self._abstains_until > -inf

    def allows(self, *, is_idle: bool, has_apart: bool, mono: float) -> bool:
        """Whether suspects may be among what is claimed now; always where the pool is idle, and holds nothing."""
        self._is_held_up = has_apart
        if is_idle or mono >= self._abstains_until:
            self._abstains_until = -inf
        return not self.abstains

    def limit(self, wanted: int) -> int:
        """How many to claim of so many that are wanted, where suspects may be among them."""
        return min(wanted, self._most)

    def claimed(self, request: ClaimRequest, claim: Claim, *, mono: float) -> None:
        """What a claim brought."""
        if not request.suspects:
            return
        self._suspect = next((task.id for task in claim.tasks if is_suspect(task)), None)
        self._since = mono
        self._most = min(MOST, 2 * self._most) if self._suspect is None else 1

    # What becomes of a suspect ----------------------------------------------------------------------------------------

    def began(self) -> None:
        """The suspect is alone, and runs."""
        if self._suspect is not None:
            self._waits.pop(self._suspect, None)
            self._suspect = None

    def is_over(self, mono: float) -> bool:
        """Whether a suspect waits that has waited long enough, and is to go back."""
        return self._suspect is not None and mono >= self._since + self._wait(self._suspect)

    def went_back(self, mono: float) -> float:
        """The suspect is given back; for so many seconds the pool now claims none."""
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
        """Seconds until the suspect that waits is to go back; infinite where none waits."""
        return inf if self._suspect is None else max(0.0, self._since + self._wait(self._suspect) - mono)

    def until_allowed(self, mono: float) -> float:
        """Seconds until suspects may be claimed again; infinite where they may be now, or nobody knows."""
        return max(0.0, self._abstains_until - mono) if self._abstains_until > -inf else inf

    def _wait(self, task_id: UUID) -> float:
        return self._waits.get(task_id, FIRST_WAIT)
