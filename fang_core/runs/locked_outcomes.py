"""Keeps outcomes whose rows another session has locked, while later ones are written. It is pure: no clock, no lock."""

from collections.abc import Sequence
from math import inf

from fang_core.lifecycle import Outcome
from fang_core.retry import Retry
from fang_core.runs.completion import MOST_IN_A_BATCH


class LockedOutcomes:
    """Decides when to try all of them again, after 0.1 s doubling to 5 s. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.close_at = inf
        """The time after which none is tried again."""
        self._outcomes: list[Outcome] = []
        self._retry = Retry()
        self._at = inf

    def __len__(self) -> int:
        return len(self._outcomes)

    def put(self, outcomes: Sequence[Outcome], now: float, *, again: bool) -> None:
        """Adds outcomes that were found locked, ``again`` or for the first time: then the tries start over at 0.1 s."""
        if not again:
            self._retry.succeeded()
        self._outcomes += outcomes
        self._at = min(self._at, now + self._retry.sleep())

    def hasten(self) -> None:
        """Makes them due now, and again soon: a flush waits for them."""
        self._retry.succeeded()
        if self._outcomes:
            self._at = -inf

    def due(self, now: float) -> list[list[Outcome]]:
        """Takes out and returns the outcomes to try now, in batches."""
        if now < self._at:
            return []
        outcomes, self._outcomes, self._at = self._outcomes, [], inf
        return [outcomes[n : n + MOST_IN_A_BATCH] for n in range(0, len(outcomes), MOST_IN_A_BATCH)]

    def will_be_tried(self, now: float) -> bool:
        """Returns whether there are any, and time is left to try them."""
        return bool(self._outcomes) and now < self.close_at

    def seconds(self, now: float) -> float | None:
        """Returns the seconds until the next try, or until ``close_at``; None if there are none."""
        return max(0.0, min(self._at, self.close_at) - now) if self._outcomes else None
