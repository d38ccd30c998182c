"""Who is dead: decided by a watcher from what its own beats bring back. Pure; no wall clock of anybody is believed.

A pool raises a counter and holds a lock on the connection that it does so on. A watcher that has seen the counter stand
still takes the pool for dead after ``LOCK_FREE_FOR`` where its lock is free, since a process that dies lets it go; or
after the lease whatever its lock says, since a process that is stopped, partitioned, or stuck in C code keeps it. It is
always the lease of the pool that is judged, as its record has it: only who runs it knows how long it may stand still.

A free lock proves nothing when the server itself may have let all of them go (it restarted, or took over from another),
or when the watcher was away and cannot know what it missed. The watcher then doubts all free locks, and the lease alone
decides, until it has seen the lock of a pool *held* since the doubt began. Whoever holds a lock on this server has
reconnected, so letting go of it means the same as ever. A session that has survived the watcher's own outage may hold
its lock for a while although its owner is still away, so if the server did not restart the owner must have beaten, too.

If the watcher comes back on the very session that it had before, the server has been up all the time, so a lock was let
go with its owner's session alone; but what kept the watcher may have kept the other from beating, too: that one has
``BACK_WITHIN`` to come back.

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
"""Seconds between two answers after which a watcher doubts free locks: until it has seen the pool back, at most for
that pool's lease or, on the same session, for ``BACK_WITHIN``. Of a longer silence no more than ``EVERY`` counts as
standing still: if the server was away, pools may come back after the watcher, and even the shortest lease must leave
them time for that.
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
        self._held: dict[UUID, float] = {}  # when it last saw the lock of a pool that has come back since the doubt
        self._answered = -inf
        self._watched = 0.0  # seconds in which it would have seen a counter move; the clock of what follows
        self._has_missed = False
        self._may_have_reconnected = False
        self._doubted_at = -inf  # when all locks may have been let go without its knowledge
        self._answered_before_doubt = -inf  # on the monotonic clock
        self._back_at = -inf  # when it was last back from a silence in which that was not so

    def missed(self) -> None:
        """Notes that a beat brought no answer.

        If no pool's beat does, since the server recovers from a crash or a standby takes over, all locks are free as
        well, though the server's start is long ago.
        """
        self._has_missed = True

    def rescue_failed(self) -> None:
        """Notes that a rescue failed on the connection of the beats: the next beat may come on another one."""
        self._may_have_reconnected = True

    def dead(self, me: UUID, beat: Beat, mono: float) -> list[Pulse]:
        """Returns the pools that are dead, given this answer at this time."""
        self._look(mono, beat.continues)
        started = mono - beat.server_up
        dead = []
        seen: dict[UUID, tuple[int, float]] = {}
        held: dict[UUID, float] = {}
        for pulse in beat.pulses:
            if pulse.pool_id == me:
                continue
            beats, since = self._seen.get(pulse.pool_id, (None, self._watched))
            if beats != pulse.beats:
                since = self._watched
            seen[pulse.pool_id] = (pulse.beats, since)
            if pulse.is_locked and (started > self._answered_before_doubt or since > self._doubted_at):
                held[pulse.pool_id] = mono
            elif pulse.pool_id in self._held:
                held[pulse.pool_id] = self._held[pulse.pool_id]
            still = self._watched - since
            let_go = pulse.claims_lock and not pulse.is_locked
            believed = self._undoubted(beat) >= pulse.lease or held.get(pulse.pool_id, -inf) > started
            is_back = since > self._back_at or self._watched - self._back_at >= BACK_WITHIN
            has_died = let_go and believed and is_back and still >= LOCK_FREE_FOR
            if pulse.beats == DECLARED_DEAD or still >= pulse.lease or has_died:
                dead.append(pulse)
        self._seen, self._held = seen, held
        return dead

    def _undoubted(self, beat: Beat) -> float:
        """Returns for how many seconds no event can have freed all locks at once.

        A pool that lives has beaten within its lease, and so has its lock again if this is longer.
        """
        return min(beat.server_up, self._watched - self._doubted_at)

    def _look(self, mono: float, continues: bool) -> None:
        """Moves the clock on to this answer, and begins to doubt if the watcher was away or has reconnected."""
        silence = mono - self._answered if self._answered > -inf else 0.0
        self._watched += silence if silence <= GAP else EVERY
        was_away = silence > GAP or self._has_missed
        if was_away and continues:
            self._back_at = self._watched
        elif was_away or (self._may_have_reconnected and not continues):
            self._doubted_at = self._watched
            self._answered_before_doubt = self._answered
            self._held = {}
        self._answered = mono
        self._has_missed = self._may_have_reconnected = False


def lock_key(pool_id: UUID) -> int:
    """The advisory lock of a pool: the first eight bytes of its id, as Postgres' bigint."""
    return int.from_bytes(pool_id.bytes[:8], "big", signed=True)
