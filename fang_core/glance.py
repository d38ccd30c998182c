"""Which pools are alive, for a reader that stays for seconds only, as ``fang status`` does. Pure; it is told the time.

A pool raises its counter each second, so one whose counter moves between two looks is alive. Of one whose counter
stands, a watcher's own rule (see ``liveness``) says whether it is dead already: its lock is free, so its process has
ended. If neither is so within ``LONGEST`` it is silent: it may be stopped, cut off, or stuck in C code, or it has died
with its host or behind a pooler, which only waiting for its lease would tell. It does not work now, in any case.
"""

from enum import StrEnum
from typing import Final
from uuid import UUID

from fang_core.liveness import DECLARED_DEAD, LOCK_FREE_FOR, Beat, Watch

EVERY: Final = 0.2
"""Seconds between two looks."""

LONGEST: Final = LOCK_FREE_FOR + 0.5
"""Seconds after which a pool whose counter still stands is silent."""

_NO_POOL: Final = UUID(int=0)


class Life(StrEnum):
    """What was seen of a pool."""

    ALIVE = "alive"
    """It has beaten."""
    SILENT = "silent"
    """It has not beaten for more than two seconds, and nothing proves that its process has ended."""
    DEAD = "dead"
    """A watcher would take it for dead."""


class Glance:
    """What one reader has seen so far. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._watch = Watch()
        self._began: float | None = None
        self._now = 0.0
        self._first: dict[UUID, int] = {}
        self._present: set[UUID] = set()
        self._alive: set[UUID] = set()
        self._dead: set[UUID] = set()

    def look(self, beat: Beat, now: float) -> None:
        """Takes in what a look at all pools has brought."""
        self._began = now if self._began is None else self._began
        self._now = now
        for pulse in beat.pulses:
            first = self._first.setdefault(pulse.pool_id, pulse.beats)
            if pulse.beats not in {first, DECLARED_DEAD}:
                self._alive.add(pulse.pool_id)
        self._present = {pulse.pool_id for pulse in beat.pulses}
        self._dead = {pulse.pool_id for pulse in self._watch.dead(_NO_POOL, beat, now)}

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        waits_for = self._present - self._alive - self._dead
        return self._began is not None and (not waits_for or self._now - self._began >= LONGEST)

    def life(self, pool_id: UUID) -> Life:
        """What is known of this pool by now. One that has registered since the last look is alive."""
        if pool_id in self._dead:
            return Life.DEAD
        is_new = self._began is not None and pool_id not in self._first
        return Life.ALIVE if is_new or pool_id in self._alive else Life.SILENT
