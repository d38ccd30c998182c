"""Decides whether a pool claims for workers that still have a run, because it will have ended when the answer comes.

From a type that counts its tasks a pool claims for idle workers only: a task that waits would hold a slot of a limit.
If runs take no time, the pool then does nothing while it waits for an answer, and the backend does nothing while tasks
run. So once several answers in a row have found that all former runs had ended, the next claim is sent as soon as the
tasks of the last one are handed out, for the workers that have just got them.

If workers are busy nevertheless when the answer comes, the tasks that would wait for them go back at once. Then it
takes twice as many answers before the pool tries again, and one fewer for each time that it works.

A task that goes back has cost work, and a start of a rate. So few may: once some have, one in ``SHARE`` of those that
the pool claims. Claims of single tasks allow no large one to go back: what they prove is little beside what that costs.

It is pure: times are seconds of one monotonic clock.
"""

from math import inf
from typing import Final

FASTER: Final = 8
"""How many runs must fit in the time of a claim: the next claim may take half as long, and some runs take longer than
most."""

PROOFS: Final = 4
"""How many answers in a row must have found all former runs ended, at least."""

SHARE: Final = 32
"""One in so many tasks may go back: a rate that is used up loses 3 %."""


class Overlap:
    """Holds what one pool has seen of its claims from types that count their tasks, and of the runs meanwhile."""

    def __init__(self) -> None:
        self._idle = 0  # how many workers were idle before the last tasks were handed out
        self._until = -inf  # when their runs are taken to have ended; from then on one can see if they have
        self._proofs = 0
        self._needed = PROOFS
        self._credit = inf  # how many tasks may go back now; as many as one claim has, before any has gone back

    def answered(
        self, *, asked: int, brought: int, idle_workers: int, seconds: float, run_seconds: float, mono: float
    ) -> bool:
        """Notes an answer that took ``seconds`` and has not been handed out yet, and that a run takes ``run_seconds``.

        Returns whether the next claim may be sent before the tasks of this one have run.
        """
        self._credit = max(self._credit, min(brought, self._credit + brought / SHARE))
        if brought > idle_workers:
            self._proofs, self._needed = 0, 2 * self._needed
            self._credit = (brought if self._credit == inf else self._credit) - (brought - idle_workers)
        elif idle_workers < self._idle:
            self._proofs = 0
        elif brought:
            self._proofs += 1
            if self._needed > PROOFS and self._until > -inf:
                self._needed -= 1
        self._idle = idle_workers
        is_proved = self._proofs >= self._needed and self._credit >= brought
        overlaps = is_proved and brought == asked and run_seconds * FASTER <= seconds
        self._until = mono + seconds if overlaps else -inf
        return overlaps

    def ending(self, idle_workers: int, mono: float) -> int:
        """Returns how many of the workers that have a task are taken to be idle when a claim that is sent now is
        answered."""
        return max(0, self._idle - idle_workers) if mono < self._until else 0

    def forget(self) -> None:
        """Notes that workers have got other tasks."""
        self._idle, self._until = 0, -inf
