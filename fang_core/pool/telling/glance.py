"""Judges which pools are alive, for a reader that stays for seconds only, like ``fang status``. Pure: the time is
given.

A pool holds its lock on a session of its own, on which it sends a statement each second. The server knows since when
that session is quiet: a pool whose lock is held by a session that was active within ``ACTIVE_WITHIN`` is alive, and one
look is enough. The other pools are watched: those that hold no lock (behind a pooler, or with ``listen=False``), those
on whose sessions the server gives the reader no information, and those that were quiet for longer.

A pool raises its counter each second, so one whose counter moves between two looks is alive. Of one whose counter
stands, a watcher's own rule (see ``liveness``) says whether it is dead already: its lock is free, so its process has
ended. If neither is so within ``LONGEST``, the last sign of activity decides (see ``monitoring.silence``). If that was
too long ago, or its session has been quiet for its lease, it is silent: it may be stopped, cut off, or stuck in C code,
or it has died with its host or behind a pooler, which only waiting for its lease would tell.
"""

from collections.abc import Mapping
from datetime import timedelta
from math import inf
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.liveness import DECLARED_DEAD, LOCK_FREE_FOR, Beat, Pulse, Watch
from fang_core.monitoring.life import Life
from fang_core.monitoring.silence import is_silent

EVERY: Final = 0.2
"""Seconds between two looks."""

LONGEST: Final = LOCK_FREE_FOR + 0.5
"""Seconds after which nothing more is waited for, though the counter of a pool still stands."""

ACTIVE_WITHIN: Final = 2.0
"""Seconds for which the session of a pool that is alive may be quiet: twice as long as it takes to the next beat."""

_NO_POOL: Final = UUID(int=0)


class Look(NamedTuple):
    """Holds the result of one look at all pools.

    Attributes:
        quiet: for how many seconds the session that holds the lock of a pool has been quiet, by the server's clock:
            negative if that was set back. Has no entry for a pool whose lock is free, or if the server does not tell.
    """

    beat: Beat
    quiet: Mapping[UUID, float]

    def shows_alive(self, pulse: Pulse) -> bool:
        """Returns whether this look alone proves that the pool is alive."""
        quiet = self.quiet.get(pulse.pool_id)
        return quiet is not None and 0 <= quiet <= ACTIVE_WITHIN


class Glance:
    """Holds what one reader has seen so far. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._watch = Watch()
        self._began: float | None = None
        self._now = 0.0
        self._first: dict[UUID, int] = {}
        self._present: set[UUID] = set()
        self._alive: set[UUID] = set()
        self._dead: set[UUID] = set()
        self._quiet: Mapping[UUID, float] = {}
        self._leases: Mapping[UUID, float] = {}

    def look(self, look: Look, now: float) -> None:
        """Takes in what a look at all pools has brought."""
        self._began = now if self._began is None else self._began
        self._now = now
        pulses = look.beat.pulses
        for pulse in pulses:
            has_beaten = pulse.beats != self._first.setdefault(pulse.pool_id, pulse.beats)
            if pulse.beats != DECLARED_DEAD and (has_beaten or look.shows_alive(pulse)):
                self._alive.add(pulse.pool_id)
        self._present = {pulse.pool_id for pulse in pulses}
        self._quiet = look.quiet
        self._leases = {pulse.pool_id: pulse.lease for pulse in pulses}
        self._dead = {pulse.pool_id for pulse in self._watch.dead(_NO_POOL, look.beat, now)}

    @property
    def is_over(self) -> bool:
        """Returns whether there is nothing more to wait for."""
        waits_for = self._present - self._alive - self._dead
        return self._began is not None and (not waits_for or self._now - self._began >= LONGEST)

    def life(self, pool_id: UUID, told: timedelta | None = None) -> Life:
        """Judges this pool by now; ``told`` is how long ago it reported what it does, None if it never did.

        One that has registered since the last look is alive.
        """
        if pool_id in self._dead:
            return Life.DEAD
        is_new = self._began is not None and pool_id not in self._first
        if is_new or pool_id in self._alive:
            return Life.ALIVE
        quiet = self._quiet.get(pool_id)
        if quiet is not None and quiet > self._leases.get(pool_id, inf):
            return Life.SILENT
        heard = (None if quiet is None or quiet < 0 else timedelta(seconds=quiet), told)
        return Life.SILENT if heard == (None, None) or is_silent(*heard) else Life.ALIVE
