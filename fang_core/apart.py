"""Outcomes that wait for others to unlock their tasks, while later ones are written. Pure: no clock, no lock."""

from collections.abc import Sequence
from math import inf

from fang_core.completion import MOST_IN_A_BATCH
from fang_core.demand import Retry
from fang_core.lifecycle import Outcome


class Apart:
    """All are tried again together, after 0.1 s doubling to 5 s. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.close_at = inf
        """From when on nothing is tried any more."""
        self._outcomes: list[Outcome] = []
        self._retry = Retry()
        self._at = inf

    def __len__(self) -> int:
        return len(self._outcomes)

    def put(self, outcomes: Sequence[Outcome], now: float, *, again: bool) -> None:
        """These are locked, ``again`` or for the first time: those may soon be free, so that the pace begins anew."""
        if not again:
            self._retry.succeeded()
        self._outcomes += outcomes
        self._at = min(self._at, now + self._retry.sleep())

    def hasten(self) -> None:
        """Somebody waits for them: they are due now, and again soon."""
        self._retry.succeeded()
        if self._outcomes:
            self._at = -inf

    def due(self, now: float) -> list[list[Outcome]]:
        """What is to be tried now, in batches; it is apart no more."""
        if now < self._at:
            return []
        outcomes, self._outcomes, self._at = self._outcomes, [], inf
        return [outcomes[n : n + MOST_IN_A_BATCH] for n in range(0, len(outcomes), MOST_IN_A_BATCH)]

    def will_be_tried(self, now: float) -> bool:
        """Whether something is apart, and there is time for it."""
        return bool(self._outcomes) and now < self.close_at

    def seconds(self, now: float) -> float | None:
        """Until the next try, or the end of all; None where nothing is apart."""
        return max(0.0, min(self._at, self.close_at) - now) if self._outcomes else None
