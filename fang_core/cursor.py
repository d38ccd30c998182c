"""Where a pool's next claim starts: behind what it has claimed, so that dead entries at the head cost nothing. Pure.

Under a long transaction the entries of claimed rows cannot be removed from the index of due rows. A claim that starts
at its head walks through all of them; one that starts at the cursor does not. But rows become visible behind a cursor
in normal traffic: their transaction was still running when it passed. So three things lower it:

- the *xid rule*. Each claim tells which transactions were running. Where one of them has ended by the next claim, the
  claim after that starts at the time of the last claim before it began: no row of it is due earlier than that.
- *behind()*: writers that put rows behind cursors (rescue, give-back, retry by hand) say so.
- a *ladder* of look-backs beneath, for all else (times set by hand, clocks of other clients), each step at most
  ``SHARE`` of the time.

A look-back goes on until a claim came back with less than it asked for: all behind was looked at then.

A claim may leave suspects out, and passes them. The next one that does not reads everything.
"""

from collections import deque
from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from itertools import product
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from fang_core.record import PRIORITIES, ClaimedTask
from fang_core.snapshot import parse_snapshot
from fang_core.store import Behind, Claim, ClaimRequest, Level, Position, Positions

BEGINNING: Final[Positions] = MappingProxyType({})
"""Levels without a position are read from their start."""

MARGIN: Final = timedelta(milliseconds=50)
"""A cursor stays so far behind the clock: a transaction may read its clock a little before it gets its id."""

MARK_EVERY: Final = 0.02
MARKS_FOR: Final = 30.0
"""Seconds: how often, and for how long, a cursor remembers where it stood."""

MARK_EVERY_LEVEL: Final = 4e-5
"""Seconds; marks of 15,000 levels take half a megabyte each."""

SHARE: Final = 0.02
"""Of the time, for each step of the ladder."""


class _Step(NamedTuple):
    every: float
    """Seconds between two looks, at least."""
    back: float | None
    """Seconds to go back; None for all the way."""


LADDER: Final = (_Step(10.0, None), _Step(1.0, 10.0), _Step(0.1, 1.0))
"""From the deepest on: a look that goes back further covers the others."""

_LOWEST: Final = UUID(int=0)


Places: TypeAlias = dict[Level, Position]


class _Mark(NamedTuple):
    """A claim: when it was made, the first transaction id not given away by then, and where it left the front."""

    mono: float
    now: datetime
    xmax: int
    front: Positions


class Cursor:
    """Of one pool, over all of its levels. Times are seconds of one monotonic clock, or the backend's own."""

    def __init__(self, mono: float) -> None:
        self._next: Places = {}  # where the next claim starts
        self._front: Places = {}  # where it starts when nothing asks for a look back
        self._marks: deque[_Mark] = deque()
        self._running: frozenset[int] = frozenset()
        self._looks = [mono + step.every for step in LADDER]  # when each step of the ladder is due
        self._step: int | None = None  # the step that the claim under way takes
        self._usual = 0.0  # seconds of a claim that does not look back
        self._now: datetime | None = None  # the backend's, at the last claim
        self._left_suspects = False  # behind it

    @property
    def is_behind(self) -> bool:
        """Whether the next claim looks back: then an empty one before it says little."""
        return self._next != self._front

    @property
    def looks_back(self) -> bool:
        """Whether the next claim walks through what later ones will not: behind the front, or from the beginning."""
        return self.is_behind or not self._next

    def start(self, mono: float, *, whole: bool = False, suspects: bool = True) -> Positions:
        """Where the claim starts that is made now; ``whole`` has it read everything, ``suspects`` what was left out."""
        self._step = None
        if whole or (suspects and self._left_suspects):
            self._next = {}
            self._left_suspects = False
        elif not self.is_behind:
            self._step = self._step_due(mono)
            if self._step is not None:
                self._lower(self._ago(LADDER[self._step].back, mono))
        return self._next

    def claimed(self, request: ClaimRequest, claim: Claim, *, seconds: float, mono: float) -> None:
        """What the claim returned that started there, and how long it took."""
        snapshot = parse_snapshot(claim.snapshot)
        looked_back = self.looks_back
        self._now = claim.now
        self._left_suspects |= not request.suspects
        self._advance(request, claim)
        self._look_again(looked_back, seconds, mono)
        self._mark(mono, claim.now, snapshot.xmax)
        ended = self._running - snapshot.running
        self._running = snapshot.running
        if ended:
            self._lower(self._before(min(ended)))

    def behind(self, told: Behind) -> None:
        """Rows are due from there on that a cursor may have passed."""
        if told.at is None:
            self._next = {}
            return
        level = (told.task_type, told.priority)
        at = self._next.get(level)
        if at is not None and told.at <= at[0]:
            self._next = {**self._next, level: (told.at, _LOWEST)}

    def forget(self) -> None:
        """Starts over: after a claim of unknown outcome, or where the pool has learnt new kinds."""
        self._next, self._front = {}, {}
        self._marks.clear()

    def keep(self, task_types: Set[str]) -> None:
        """Forgets the places in all other types: claims that did not ask for them have moved past what came there."""
        self._next = {level: at for level, at in self._next.items() if level[0] in task_types}
        self._front = {level: at for level, at in self._front.items() if level[0] in task_types}

    def _advance(self, request: ClaimRequest, claim: Claim) -> None:
        most = (claim.now - MARGIN, _LOWEST)
        reached = self._next | {level: min(at, most) for level, at in _last_of_each(claim.tasks).items()}
        self._front = _furthest(self._front, reached)
        if len(claim.tasks) < request.limit and claim.registered:
            # Every level was read to its end: what was not claimed is held by others, or of foreign kinds.
            self._front = _furthest(self._front, dict.fromkeys(product(request.task_types, PRIORITIES), most))
            reached = self._front
        self._next = reached

    def _step_due(self, mono: float) -> int | None:
        for number, step in enumerate(LADDER):
            if mono < self._looks[number]:
                continue
            if step.back is None or self._age() <= step.back:
                return number
            self._looks[number] = mono + step.every  # of an older backlog nothing new can be this far back only
        return None

    def _age(self) -> float:
        """Seconds by which the front is behind the clock."""
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
        self._next = {level: min(at, to[level]) for level, at in self._next.items() if level in to}

    def _ago(self, back: float | None, mono: float) -> Positions:
        """Where the front stood then."""
        if back is not None:
            for mark in reversed(self._marks):
                if mark.mono <= mono - back:
                    return mark.front
        return BEGINNING

    def _before(self, xid: int) -> Positions:
        """From where on this transaction can have left rows."""
        for mark in reversed(self._marks):
            if mark.xmax <= xid:
                return dict.fromkeys(self._next, (mark.now - MARGIN, _LOWEST))
        return BEGINNING


def _last_of_each(tasks: Sequence[ClaimedTask]) -> Places:
    # Tasks come in order, so that the last one of each level stays.
    return {(task.task_type, task.priority): (task.scheduled_at, task.id) for task in tasks}


def _furthest(one: Positions, other: Positions) -> Places:
    merged = dict(one)
    for level, at in other.items():
        merged[level] = max(at, merged[level]) if level in merged else at
    return merged
