"""Who is dead: decided by a watcher from what its own beats bring back. Pure; no wall clock of anybody is believed.

A pool raises a counter and holds a lock on the connection that it does so on. A watcher that has seen the counter stand
still takes the pool for dead after ``LOCK_FREE_FOR`` where its lock is free, since a process that dies lets it go; or
after the lease whatever its lock says, since a process that is stopped, partitioned, or stuck in C code keeps it. It is
always the lease of the pool that is judged, as its record has it: only who runs it knows how long it may stand still.

A free lock proves nothing where the server itself has let all of them go (it restarted, or took over from another), or
where the watcher was away and cannot know what it missed: then the lease alone decides. Where it comes back on the very
session that it had before, the server has been up all the time, so that the lock was let go with its owner's session
alone; but what kept the watcher may have kept the other from beating, too, which has ``BACK_WITHIN`` to come back.

Nor does a counter say anything for a time in which nobody could have raised it: of a watcher's own gap no more counts
than ``EVERY``. Times are seconds of the watcher's monotonic clock.
"""

from math import inf
from typing import Final, NamedTuple
from uuid import UUID

EVERY: Final = 1.0
"""Seconds between two beats of a pool."""

LOCK_FREE_FOR: Final = 2.0
"""Seconds without a beat, and with a free lock, after which a pool is dead."""

GAP: Final = 2.0
"""Seconds between two answers after which a watcher no longer trusts the free lock of a pool, for that pool's lease or,
on the same session, for ``BACK_WITHIN``. Of a longer silence no more than ``EVERY`` counts for what stood still in it:
where the server was away, others may come back after the watcher, and have time for that also with the shortest lease.
"""

BACK_WITHIN: Final = 15.0
"""Seconds in which a pool beats again that the same has held up as the watcher, a stall of the server or the sleep of
a machine: it gives up a beat and then a connect after 5 s each, and tries again within 1 s."""

DECLARED_DEAD: Final = -1
"""The counter of a pool that others have taken for dead, while its record is kept since a task of it could not be taken
back yet. The pool itself can neither beat nor claim under that id again."""

CUT_OFF_AFTER: Final = 0.8
"""The part of a lease without an answer after which a pool must think that others take it for dead."""


class Pulse(NamedTuple):
    """One pool, as a beat found it.

    Attributes:
        beats: its counter.
        claims_lock: whether it says that it holds its lock.
        is_locked: whether somebody does.
        lease: its own, in seconds.
    """

    pool_id: UUID
    beats: int
    claims_lock: bool
    is_locked: bool
    lease: float


class Beat(NamedTuple):
    """What a beat brought back.

    Attributes:
        registered: whether the pool's own row is there; where it is not, others have taken it for dead.
        server_up: seconds since all locks may have been let go at once, by the backend's clock: since it started, or,
            where it is a standby that took over, since the last transaction that it was told of before.
        pulses: all pools.
        continues: whether it was answered on the session of the beat before, which no restart of the server would have
            left.
    """

    registered: bool
    server_up: float
    pulses: list[Pulse]
    continues: bool = False


class Watch:
    """What one watcher has seen of the others, each of which it judges by that one's own lease."""

    def __init__(self) -> None:
        self._seen: dict[UUID, tuple[int, float]] = {}  # counter, and since when it stands
        self._answered: float | None = None
        self._watched = 0.0  # seconds in which it would have seen a counter move; the clock of what follows
        self._has_missed = False
        self._doubted_at = -inf  # when all locks may have been let go without its knowledge
        self._back_at = -inf  # when it was last back from a silence in which that was not so

    def missed(self) -> None:
        """A beat brought no answer.

        Where nobody's does, since the server recovers from a crash or a standby takes over, all locks are free as well,
        though the server's start is long ago.
        """
        self._has_missed = True

    def dead(self, me: UUID, beat: Beat, mono: float) -> list[Pulse]:
        """The pools that are dead, given this answer at this time."""
        self._look(mono, beat.continues)
        # Who is alive has beaten since within its lease, and so has its lock again.
        undoubted = min(beat.server_up, self._watched - self._doubted_at)
        dead = []
        seen: dict[UUID, tuple[int, float]] = {}
        for pulse in beat.pulses:
            if pulse.pool_id == me:
                continue
            beats, since = self._seen.get(pulse.pool_id, (None, self._watched))
            if beats != pulse.beats:
                since = self._watched
            seen[pulse.pool_id] = (pulse.beats, since)
            still = self._watched - since
            is_back = since > self._back_at or self._watched - self._back_at >= BACK_WITHIN
            let_go = pulse.claims_lock and not pulse.is_locked and undoubted >= pulse.lease and is_back
            if pulse.beats == DECLARED_DEAD or still >= pulse.lease or (let_go and still >= LOCK_FREE_FOR):
                dead.append(pulse)
        self._seen = seen
        return dead

    def _look(self, mono: float, continues: bool) -> None:
        silence = 0.0 if self._answered is None else mono - self._answered
        self._answered = mono
        self._watched += silence if silence <= GAP else EVERY
        if silence > GAP or self._has_missed:
            if continues:
                self._back_at = self._watched
            else:
                self._doubted_at = self._watched
        self._has_missed = False


def lock_key(pool_id: UUID) -> int:
    """The advisory lock of a pool: the first eight bytes of its id, as Postgres' bigint."""
    return int.from_bytes(pool_id.bytes[:8], "big", signed=True)
