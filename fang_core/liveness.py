"""Decides which pools are dead, from the answers to a watcher's own beats. It is pure, and trusts no wall clock.

A pool raises a counter, and holds a lock on the same connection. A watcher that has seen the counter stand still takes
the pool for dead after ``LOCK_FREE_FOR`` if its lock is free, since a process that dies releases it; or after the lease
whatever the lock shows, since a process that is stopped, partitioned, or stuck in C code keeps it. The lease is always
that of the judged pool, from its record: only its operator knows how long it may stand still.

A free lock proves nothing if the server itself may have released all locks (it restarted, or took over from another),
or if the watcher was away and cannot know what it missed. The watcher then doubts all free locks, and the lease alone
decides, until it has seen the lock of a pool *held* since the doubt began. A pool that holds a lock on this server has
reconnected, so releasing it proves its death again. A session that has survived the watcher's own outage may hold its
lock for a while although its owner is still away, so if the server did not restart the owner must have beaten, too.

If the watcher comes back on the same session as before, the server has been up all the time, so a lock was released
only with its owner's session; but the cause of the watcher's silence may have kept the other pool from beating, too:
that pool has ``BACK_WITHIN`` to come back.

A counter proves nothing for a time in which no pool could have raised it: of a watcher's own gap no more than ``EVERY``
counts. Times are seconds of the watcher's monotonic clock.
"""

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.messages import Delivery

EVERY: Final = 1.0
"""Seconds between two beats of a pool."""

MOST_MESSAGES: Final = 100
"""Messages that one beat brings. After as many as that the next beat comes at once."""

LOCK_FREE_FOR: Final = 2.0
"""Seconds without a beat, and with a free lock, after which a pool is dead."""

GAP: Final = 2.0
"""Seconds between two answers after which a watcher doubts free locks: until it has seen the pool back, at most for
that pool's lease or, on the same session, for ``BACK_WITHIN``. Of a longer silence no more than ``EVERY`` counts as
standing still: if the server was away, pools may come back after the watcher, and even the shortest lease must leave
them time for that.
"""

BACK_WITHIN: Final = 15.0
"""Seconds within which a pool beats again after a cause that held up the watcher too, such as a stall of the server or
the sleep of a machine: it gives up a beat and then a connect after 5 s each, and tries again within 1 s."""

DECLARED_DEAD: Final = -1
"""The counter of a pool that was declared dead, and whose record is kept because one of its tasks could not be taken
back yet. The pool itself can neither beat nor claim under that id again."""

CUT_OFF_AFTER: Final = 0.8
"""The part of a lease without an answer after which a pool must assume that other pools take it for dead."""


class Pulse(NamedTuple):
    """Describes one pool, as a beat found it.

    Attributes:
        beats: the pool's counter.
        claims_lock: whether the pool says that it holds its lock.
        is_locked: whether the lock is held.
        lease: the pool's own lease, in seconds.
    """

    pool_id: UUID
    beats: int
    claims_lock: bool
    is_locked: bool
    lease: float


class BeatRequest(NamedTuple):
    """Holds what a pool says, and asks, with a beat.

    Attributes:
        stopping: whether the pool stops.
        held: the ids and attempts of tasks that the pool takes for its own, to hear which of them it has lost or is to
            cancel.
        handled: the ids of the messages that it has handled; they are removed.
        runs: an object of JSON for the pool's record, with what is worth knowing of its runs; None leaves the record
            as it is.
        workers: how many tasks the pool runs at once now; None leaves the record as it is.
    """

    pool_id: UUID
    stopping: bool = False
    held: Sequence[tuple[UUID, int]] = ()
    handled: Sequence[int] = ()
    runs: str | None = None
    workers: int | None = None


class CancelRequest(NamedTuple):
    """Says that a held task is to be cancelled, why, and who said so."""

    task_id: UUID
    reason: str
    by: str


class Beat(NamedTuple):
    """The answer to a beat. It says how things are, and not what has changed: nothing is lost with an answer.

    Attributes:
        registered: whether the pool's own row exists; if not, another pool has taken it for dead.
        server_up: seconds since all locks may have been released at once, by the backend's clock: since the server
            started, or, if it is a standby that took over, since the last transaction that it received before.
        pulses: the pulses of all pools.
        continues: whether the answer came on the session of the beat before, which a restart of the server would have
            ended.
        lost: the ids of the ``held`` tasks that the pool no longer holds under that attempt.
        cancels: the requests to cancel ``held`` tasks, until they are answered.
        messages: the messages to the pool that it has not handled, in the order in which they were sent; a backend may
            leave later ones to the next beat.
    """

    registered: bool
    server_up: float
    pulses: list[Pulse]
    continues: bool = False
    lost: Sequence[UUID] = ()
    cancels: Sequence[CancelRequest] = ()
    messages: Sequence[Delivery] = ()


class Watch:
    """Remembers what one watcher has seen of the other pools, and judges each of them by its own lease."""

    def __init__(self) -> None:
        self._seen: dict[UUID, tuple[int, float]] = {}  # the counter, and since when it stands still
        self._held: dict[UUID, float] = {}  # when it last saw the lock held of a pool that came back since the doubt
        self._answered = -inf
        self._watched = 0.0  # seconds in which it would have seen a counter move; the clock of the times below
        self._has_missed = False
        self._may_have_reconnected = False
        self._doubted_at = -inf  # when all locks may have been released without its knowledge
        self._answered_before_doubt = -inf  # on the monotonic clock
        self._back_at = -inf  # when it last came back from a silence in which no locks can have been released at once

    def missed(self) -> None:
        """Notes that a beat brought no answer.

        If no pool gets an answer, since the server recovers from a crash or a standby takes over, all locks are free
        too, although the server may have started long ago.
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

        If these are more than a pool's lease, the pool has beaten since, if it lives, and so has its lock again.
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
    """Returns the key of a pool's advisory lock: the first eight bytes of its id, as Postgres' bigint."""
    return int.from_bytes(pool_id.bytes[:8], "big", signed=True)
