"""Decides where a pool's next claim starts: behind its claimed rows, so that dead entries at the head cost nothing.

Under a long transaction the entries of claimed rows cannot be removed from the index of due rows. A claim that starts
at its head walks through all of them; a claim that starts at the cursor does not. But rows become visible behind a
cursor in normal traffic: their transaction was still running when the cursor passed. So three rules lower the cursor:

- the *xid rule*: each claim returns which transactions were running. If one of them has ended by the next claim, the
  claim after that starts at the time of the last claim before it began: none of its rows is due earlier than that.
- *told_of()*: writers that put rows behind cursors (rescue, give-back, retry by hand) report them.
- a *ladder* of look-backs for all other cases (times set by hand, clocks of other clients); each step takes at most
  ``SHARE`` of the time.

A look-back goes on until a claim returns less than it asked for: then all rows behind the cursor have been looked at.

A claim may leave suspects out, and passes them. The next claim that takes more of them reads everything; so does the
next claim after the backend's clock was set back. It is pure: no I/O.
"""

from collections import deque
from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from itertools import product
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest, Lane, Position, Positions
from fang_core.backends.waking import LateRows
from fang_core.claims.suspects import ANY_SUSPECTS
from fang_core.record import PRIORITIES, ClaimedTask, was_charged

BEGINNING: Final[Positions] = MappingProxyType({})
"""Holds no positions: lanes without a position are read from their start."""

MARGIN: Final = timedelta(milliseconds=50)
"""A cursor stays this far behind the clock: a transaction may read its clock a little before it gets its id."""

MARK_EVERY: Final = 0.02
MARKS_FOR: Final = 30.0
"""Seconds between two marks of where the cursor stood, and seconds for which they are kept."""

MARK_EVERY_LEVEL: Final = 4e-5
"""Seconds between two marks for each lane; marks of 15,000 lanes take half a megabyte each."""

SHARE: Final = 0.02
"""The largest part of the time that each step of the ladder may take."""


class _Step(NamedTuple):
    every: float
    """The fewest seconds between two looks."""
    back: float | None
    """Seconds to go back; None goes back to the beginning."""


LADDER: Final = (_Step(10.0, None), _Step(1.0, 10.0), _Step(0.1, 1.0))
"""The steps, the deepest first: a look that goes back further covers the later steps."""

_LOWEST: Final = UUID(int=0)


Places: TypeAlias = dict[Lane, Position]


class _Mark(NamedTuple):
    """Records a claim: its time, the first transaction id that was not assigned yet, and where it left the front."""

    mono: float
    now: datetime
    xmax: int
    front: Positions


class Cursor:
    """Keeps the positions of one pool in all lanes. Times are seconds of one monotonic clock, or the backend's own."""

    def __init__(self, mono: float) -> None:
        self._next: Places = {}  # where the next claim starts
        self._front: Places = {}  # where it starts if there is no reason to look back
        self._marks: deque[_Mark] = deque()
        self._running: frozenset[int] = frozenset()
        self._looks = [mono + step.every for step in LADDER]  # when each step of the ladder is due
        self._step: int | None = None  # the step of the claim under way
        self._usual = 0.0  # seconds that a claim takes if it does not look back
        self._now: datetime | None = None  # the backend's clock at the last claim
        self._left_out = ANY_SUSPECTS  # the largest group for which claims have left suspects behind the cursor

    @property
    def is_behind(self) -> bool:
        """Returns whether the next claim looks back: then an empty claim before it says little."""
        return self._next != self._front

    @property
    def looks_back(self) -> bool:
        """Whether the next claim reads rows that later claims will not: behind the front, or from the beginning."""
        return self.is_behind or not self._next

    def start(self, mono: float, *, whole: bool = False, group_size: int = ANY_SUSPECTS) -> Positions:
        """Returns where the claim starts: at the beginning if ``whole``, or if it takes suspects that were left out.

        It takes those that may be tried in a group of ``group_size``.
        """
        self._step = None
        if whole or group_size < self._left_out:
            self._next = {}
            self._left_out = ANY_SUSPECTS
        elif not self.is_behind:
            self._step = self._step_due(mono)
            if self._step is not None:
                self._lower(self._ago(LADDER[self._step].back, mono))
        return self._next

    def claimed(self, request: ClaimRequest, claim: Claim, *, seconds: float, mono: float) -> None:
        """Notes the answer of the claim that started there, and how long it took."""
        looked_back = self.looks_back
        self._left_out = max(self._left_out, request.group_size)
        if self._now is not None and claim.now < self._now - MARGIN:
            self._move_back(claim.now)
        else:
            self._advance(request, claim)
        self._now = claim.now
        self._look_again(looked_back, seconds, mono)
        self._mark(mono, claim.now, claim.transactions.next)
        ended = self._running - claim.transactions.running
        self._running = claim.transactions.running
        if ended:
            self._lower(self._before(min(ended)))

    def told_of(self, late: LateRows) -> None:
        """Goes back to the first of some due rows that the cursor may have passed."""
        if late.at is None:
            self._next = {}
            return
        lane = (late.task_type, late.priority)
        at = self._next.get(lane)
        if at is not None and late.at <= at[0]:
            self._next = {**self._next, lane: (late.at, _LOWEST)}

    def forget(self) -> None:
        """Starts over, after a claim of unknown outcome, or if the pool has learnt new kinds."""
        self._next, self._front = {}, {}
        self._marks.clear()

    def keep(self, task_types: Set[str]) -> None:
        """Forgets the places of all other types: claims that did not ask for them have moved past new rows there."""
        self._next = {lane: at for lane, at in self._next.items() if lane[0] in task_types}
        self._front = {lane: at for lane, at in self._front.items() if lane[0] in task_types}

    def _advance(self, request: ClaimRequest, claim: Claim) -> None:
        most = (claim.now - MARGIN, _LOWEST)
        # Retries that come first come from anywhere: other tasks that lie before them may wait.
        passed = [task for task in claim.tasks if not was_charged(task)] if request.retries_first else claim.tasks
        reached = self._next | {lane: min(at, most) for lane, at in _last_of_each(passed).items()}
        self._front = _furthest(self._front, reached)
        if len(claim.tasks) < request.limit and claim.registered:
            # Every lane was read to its end: rows that were not claimed are held by other pools, or of foreign kinds.
            read = request.task_types
            if claim.managed:
                read = tuple(each for each in read if each not in claim.managed)  # what waits there was passed over
            self._front = _furthest(self._front, dict.fromkeys(product(read, PRIORITIES), most))
            reached = self._front
        self._next = reached

    def _move_back(self, now: datetime) -> None:
        """Makes the next claim read everything: tasks inserted since the clock was set back lie behind all places."""
        most = (now - MARGIN, _LOWEST)
        self._front = {lane: min(at, most) for lane, at in self._front.items()}
        self._next = {}
        self._marks.clear()

    def _step_due(self, mono: float) -> int | None:
        for number, step in enumerate(LADDER):
            if mono < self._looks[number]:
                continue
            if step.back is None or self._age() <= step.back:
                return number
            self._looks[number] = mono + step.every  # the front is older than this step reaches: it would find nothing
        return None

    def _age(self) -> float:
        """Returns the seconds by which the front is behind the clock."""
        if self._now is None or not self._front:
            return 0.0
        return (self._now - max(self._front.values())[0]).total_seconds()

    def _look_again(self, looked_back: bool, seconds: float, mono: float) -> None:
        if self._step is not None:
            extra = max(0.0, seconds - self._usual)
            for number in range(self._step, len(LADDER)):
                self._looks[number] = mono + max(LADDER[number].every, extra / SHARE if number == self._step else 0.0)
        elif not looked_back:
            self._usual += (seconds - self._usual) * (0.1 if self._usual else 1.0)

    def _mark(self, mono: float, now: datetime, xmax: int) -> None:
        every = max(MARK_EVERY, len(self._front) * MARK_EVERY_LEVEL)
        if not self._marks or mono >= self._marks[-1].mono + every:
            self._marks.append(_Mark(mono, now, xmax, self._front))
        while self._marks[0].mono < mono - MARKS_FOR:
            self._marks.popleft()

    def _lower(self, to: Positions) -> None:
        self._next = {lane: min(at, to[lane]) for lane, at in self._next.items() if lane in to}

    def _ago(self, back: float | None, mono: float) -> Positions:
        """Returns where the front stood ``back`` seconds ago."""
        if back is not None:
            for mark in reversed(self._marks):
                if mark.mono <= mono - back:
                    return mark.front
        return BEGINNING

    def _before(self, xid: int) -> Positions:
        """Returns the first positions at which this transaction can have left rows."""
        for mark in reversed(self._marks):
            if mark.xmax <= xid:
                return dict.fromkeys(self._next, (mark.now - MARGIN, _LOWEST))
        return BEGINNING


def _last_of_each(tasks: Sequence[ClaimedTask]) -> Places:
    # Tasks come in order, so the last one of each lane overwrites the earlier ones.
    return {(task.task_type, task.priority): (task.scheduled_at, task.id) for task in tasks}


def _furthest(one: Positions, other: Positions) -> Places:
    merged = dict(one)
    for lane, at in other.items():
        merged[lane] = max(at, merged[lane]) if lane in merged else at
    return merged
