"""Who is dead: decided by a watcher from what its own beats bring back. Pure; no wall clock of anybody is believed.

A pool raises a counter and holds a lock on the connection that it does so on. A watcher that has seen the counter stand
still takes the pool for dead after ``LOCK_FREE_FOR`` where its lock is free, since a process that dies lets it go; or
after the lease whatever its lock says, since a process that is stopped, partitioned, or stuck in C code keeps it.

A free lock proves nothing where the server itself has let all of them go (it restarted), or where the watcher was away
and cannot know what it missed: then the lease alone decides. Times are seconds of the watcher's monotonic clock.
"""

from typing import Final, NamedTuple
from uuid import UUID

EVERY: Final = 1.0
"""Seconds between two beats of a pool."""

LOCK_FREE_FOR: Final = 2.0
"""Seconds without a beat, and with a free lock, after which a pool is dead."""

GAP: Final = 2.0
"""Seconds between two answers after which a watcher no longer trusts free locks, for a lease."""

CUT_OFF_AFTER: Final = 0.8
"""The part of a lease without an answer after which a pool must think that others take it for dead."""


class Pulse(NamedTuple):
    """One pool, as a beat found it: its counter, whether it says that it holds its lock, and whether somebody does."""

    pool_id: UUID
    beats: int
    claims_lock: bool
    is_locked: bool


class Beat(NamedTuple):
    """What a beat brought back.

    Attributes:
        registered: whether the pool's own row is there; where it is not, others have taken it for dead.
        server_up: seconds since the backend started, by its own clock.
        pulses: all pools.
    """

    registered: bool
    server_up: float
    pulses: list[Pulse]


class Watch:
    """What one watcher has seen of the others.

    Args:
        lease: seconds.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: dict[UUID, tuple[int, float]] = {}  # counter, and since when it stands
        self._answered: float | None = None
        self._gap_ended: float | None = None

    def dead(self, me: UUID, beat: Beat, mono: float) -> list[Pulse]:
        """The pools that are dead, given this answer at this time."""
        if self._answered is not None and mono - self._answered > GAP:
            self._gap_ended = mono
        self._answered = mono
        trusts_locks = beat.server_up >= self._lease and (
            self._gap_ended is None or mono - self._gap_ended >= self._lease
        )
        dead = []
        seen: dict[UUID, tuple[int, float]] = {}
        for pulse in beat.pulses:
            if pulse.pool_id == me:
                continue
            beats, since = self._seen.get(pulse.pool_id, (None, mono))
            if beats != pulse.beats:
                since = mono
            seen[pulse.pool_id] = (pulse.beats, since)
            still = mono - since
            let_go = trusts_locks and pulse.claims_lock and not pulse.is_locked
            if still >= self._lease or (let_go and still >= LOCK_FREE_FOR):
                dead.append(pulse)
        self._seen = seen
        return dead


def lock_key(pool_id: UUID) -> int:
    """The advisory lock of a pool: the first eight bytes of its id, as Postgres' bigint."""
    return int.from_bytes(pool_id.bytes[:8], "big", signed=True)
