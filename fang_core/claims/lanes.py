"""Decides from which managed task type a pool claims next, and when it looks at one again. It is pure: times are
arguments.

A managed type is paused, or has limits, rates or fairness. Plain claims leave it alone; each claim of its tasks is for
this type only, see ``LaneRequest``. What a claim answers decides when the next one is made:

- it brought all tasks that were asked for: at once, after the pool's other types;
- no key can be served: when the pool is woken, or else after a while;
- full, or paused: when a notification comes, or its own runs of the type have ended; besides, it polls;
- out of rate, or paused until some time: then. A pool that came too late adds a random part, which grows: others are
  faster, and each look in vain takes time from them. Once it is in time again it looks as often as the rate allows;
- another pool had the turn: after some milliseconds, which grow as well.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Final

from fang_core.backends.claims import TURN_TAKEN, LaneClaim, LaneRequest
from fang_core.claims.detour import Detour
from fang_core.claims.idle import Poll
from fang_core.claims.quantum import Quantum
from fang_core.claims.reach import Reach
from fang_core.claims.spacing import Spacing

TURN: Final = 0.005
"""Seconds until a pool looks again after another one had the turn the first time; they grow by ``GROWTH``."""

GROWTH: Final = 1.5

MOST_MISSES: Final = 10
"""How many looks in vain count, so that no wait is longer than half a second."""

EMPTY_FOR: Final = 0.02
"""Seconds, at least, for which a pool that is busy with other tasks does not look again at a type without tasks."""

SHARE: Final = 0.1
"""The largest part of the time that looks at types without tasks may take."""

TELLS_EVERY: Final = 0.01
"""The fewest seconds between two times that a pool tells others of slots that it does not use: it may need them
itself."""

TELLS_SHARE: Final = 0.05
"""The largest part of the time that telling may take."""

SHORT_STOP: Final = 11.0
"""A type that is stopped for no longer than these seconds is taken to be changing its limits, and not to be paused; see
``claimed``."""

MOST_AT_ONCE: Final = 20
"""After this many claims in a row that went on from key to key in vain, the pool rests from the type."""

RESTS: Final = 4
"""It rests for this many times as long as these claims took."""


class _Type:
    """Holds what a pool knows of one managed type."""

    __slots__ = (
        "after_lane",
        "detour",
        "first_lane",
        "freed",
        "helped_by_inserts",
        "in_vain",
        "is_counted",
        "is_timed",
        "keys_at",
        "look_at",
        "misses",
        "outcomes_until",
        "poll",
        "quantum",
        "reach",
        "spacing",
        "wraps",
    )

    def __init__(self, poll: Poll, after_lane: str) -> None:
        self.poll = poll
        self.after_lane = after_lane
        self.look_at = -inf
        self.is_timed = False  # whether the pool must wake for look_at; else that bounds looks of a busy pool
        self.helped_by_inserts = True  # whether a new task could start at once
        self.is_counted = True
        self.misses = 0
        self.in_vain = 0  # claims in a row that went on from key to key and brought nothing
        self.first_lane = after_lane  # where their round began
        self.keys_at = inf  # when the rate of a key that they have passed allows its next start
        self.wraps = 0  # how often they began again with the first key
        self.quantum = Quantum()
        self.reach = Reach()
        self.spacing = Spacing()
        self.detour = Detour()
        self.outcomes_until = -inf  # until when the next claim may wait for outcomes of the pool's own runs
        self.freed = 0  # slots that the pool's own runs have left, and that it has not used

    def wait_until(self, at: float, *, is_timed: bool, helped_by_inserts: bool) -> None:
        self.look_at, self.is_timed, self.helped_by_inserts = at, is_timed, helped_by_inserts

    def go_on(self) -> None:
        self.wait_until(-inf, is_timed=False, helped_by_inserts=True)


class Lanes:
    """Holds the managed types of one pool, in the order of their turns.

    The claimer calls all methods, except ``tell`` and ``free``, which any thread may call.

    Args:
        make_poll: makes the ``Poll`` that says how long to wait for changes of which the pool may not be notified.
        chance: returns a random number from 0 to 1.
    """

    def __init__(self, make_poll: Callable[[], Poll], chance: Callable[[], float] = random.random) -> None:
        self._make_poll = make_poll
        self._chance = chance
        self._types: dict[str, _Type] = {}
        self._heard: deque[tuple[str | None, int]] = deque()
        self._urgent: dict[str, None] = {}
        self._tells_at = -inf
        self.waits_for_workers = False
        """Whether there is a type to claim from as soon as a worker is free."""
        self.waits_for_outcomes: float | None = None
        """Until when there is a type to claim from as soon as outcomes of the pool's own runs are written."""

    def __len__(self) -> int:
        return len(self._types)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._types))

    def __contains__(self, task_type: object) -> bool:
        return task_type in self._types

    def add(self, task_types: Iterable[str]) -> None:
        """Notes that these types are managed. A pool begins at a random key, so that pools do not go in step."""
        for task_type in task_types:
            if task_type not in self._types:
                self._types[task_type] = _Type(self._make_poll(), chr(1 + round(self._chance() * 126)))

    def remove(self, task_type: str) -> None:
        """Notes that this type is no longer managed."""
        self._types.pop(task_type, None)
        self._urgent.pop(task_type, None)

    # What to do -------------------------------------------------------------------------------------------------------

    def next(self, mono: float, idle_workers: int, unwritten: int = 0) -> str | None:
        """Returns the type to claim from now; None if there is none.

        No type that counts its tasks is claimed from while no worker is idle: a task that waits would hold a slot. If
        the last claim from a type was not filled, the next one waits while most of the slots that the pool's own runs
        have left are taken by ``unwritten`` outcomes, as long as that claim took at most.
        """
        self.waits_for_workers, self.waits_for_outcomes = False, None
        for task_type in (*self._urgent, *self._types) if self._urgent else self._types:
            each = self._types[task_type]
            if each.look_at > mono:
                continue
            if each.is_counted and idle_workers <= 0:
                self.waits_for_workers = True
            elif each.is_counted and each.outcomes_until > mono and 2 * unwritten >= idle_workers:
                self.waits_for_outcomes = min(each.outcomes_until, self.waits_for_outcomes or inf)
            else:
                return task_type
        return None

    def is_ready(self, task_type: str, mono: float) -> bool:
        """Returns whether to claim from this type now."""
        each = self._types.get(task_type)
        return each is not None and each.look_at <= mono

    def limit(self, task_type: str, wanted: int, idle_workers: int) -> int:
        """Returns how many of the ``wanted`` tasks to ask this type for."""
        return min(wanted, idle_workers) if self._types[task_type].is_counted else wanted

    def after_lane(self, task_type: str) -> str:
        """Returns the key behind which the next claim begins."""
        each = self._types[task_type]
        return each.detour.begin(each.after_lane)

    def quantum(self, task_type: str) -> int:
        """Returns how many waiting tasks a key of the type is expected to have."""
        return self._types[task_type].quantum.tasks

    def most_lanes(self, task_type: str, limit: int) -> int:
        """Returns at how many keys of the type a claim of ``limit`` tasks should look."""
        return self._types[task_type].reach.keys(limit)

    def looks_closely(self, task_type: str) -> bool:
        """Returns whether the next claim should leave out keys with tasks that the pool cannot take."""
        return self._types[task_type].in_vain > 0

    def until_next(self, mono: float) -> float:
        """Returns the seconds for which a pool that has nothing to do may sleep before it looks at a type again."""
        timed = (each.look_at for each in self._types.values() if each.is_timed and each.look_at > mono)
        return min(timed, default=inf) - mono

    @property
    def helped_by_inserts(self) -> tuple[str, ...]:
        """The types of which a new task could start at once, as far as is known."""
        return tuple(task_type for task_type, each in self._types.items() if each.helped_by_inserts)

    def is_helped(self, task_type: str) -> bool:
        """Returns whether a new task of the type could start at once, as far as is known."""
        each = self._types.get(task_type)
        return each is not None and each.helped_by_inserts

    def unused(self, mono: float = inf) -> tuple[str, ...]:
        """Returns the types in which the pool's own runs have left slots that it did not use, once.

        It returns none while the last time is too short ago.
        """
        if mono < self._tells_at:
            return ()
        types = self._usable(mono)
        for task_type in types:
            self._types[task_type].freed = 0
        return types

    def _usable(self, mono: float) -> tuple[str, ...]:
        """Returns the types with slots that another pool might use now: not those that are full or out of rate, as far
        as is known, from which this pool itself claims when that is over."""
        return tuple(
            task_type
            for task_type, each in self._types.items()
            if each.freed and (each.helped_by_inserts or each.look_at <= mono)
        )

    def told_others(self, *, began: float, ended: float) -> None:
        """Notes that other pools were notified of what ``unused`` had returned."""
        self._tells_at = ended + max(TELLS_EVERY, (ended - began) / TELLS_SHARE)

    def until_telling(self, mono: float) -> float:
        """Returns the seconds until other pools are to be notified of a slot; infinite if there is none."""
        return max(0.0, self._tells_at - mono) if self._usable(mono) else inf

    # What has happened ------------------------------------------------------------------------------------------------

    def claimed(self, request: LaneRequest, claim: LaneClaim, *, seconds: float, mono: float) -> bool:
        """Notes the answer to a claim that took ``seconds``.

        Returns whether no task was left that may start. Tasks may still wait: because their type is paused, for longer
        than a change of its limits takes, or because their keys have as many runs as they may.
        """
        each = self._types.pop(request.task_type, None)
        self._urgent.pop(request.task_type, None)
        if each is None:
            return not claim.tasks
        self._types[request.task_type] = each  # its next turn comes after those of the other types
        taken = len(claim.tasks)
        each.is_counted = claim.is_counted
        # Other pools may need a slot if a key has due tasks, though perhaps none that this pool knows.
        # A close look does not see those.
        is_needed = taken == request.limit or claim.after_lane is not None or request.looks_closely
        each.freed = max(0, each.freed - taken) if is_needed else 0
        is_crowded = taken < request.limit and claim.after_lane is not None
        each.outcomes_until = mono + seconds if is_crowded else -inf
        if not each.detour.claimed(cut_at=claim.cut_at, brought=taken) and claim.after_lane is not None:
            locked = claim.locked if taken else 0  # a round of claims in vain has to come to its end
            each.after_lane = each.spacing.after(request.after_lane, claim.after_lane, locked=locked)
        if claim.room:
            most = request.limit if claim.room == TURN_TAKEN else claim.room
            each.quantum.claimed(taken=taken, limit=most, is_short=claim.is_short)
            each.reach.claimed(taken=taken, limit=most)
        if taken:
            each.poll.found()
            each.misses = each.in_vain = 0
        if claim.room == TURN_TAKEN:
            if claim.after_lane is not None:  # the round begins again: a key that was locked may be free then
                each.in_vain = 0
            self._miss(each, mono + TURN * GROWTH**each.misses * (0.5 + self._chance()))
            return False
        if claim.room is None or (taken >= claim.room and (taken < request.limit or claim.look_in)):
            self._wait_for_slot(each, claim, taken, mono)
            return claim.room is None and (claim.look_in is None or claim.look_in > SHORT_STOP)
        if not each.in_vain:
            each.keys_at = inf
        if claim.look_in is not None:
            each.keys_at = min(each.keys_at, mono + claim.look_in)
        if taken < request.limit and (claim.after_lane is None or self._has_gone_round(each, request, claim)):
            each.in_vain = 0
            if each.keys_at < inf:
                each.wait_until(each.keys_at, is_timed=True, helped_by_inserts=True)
                return False
            again = mono + max(EMPTY_FOR, seconds * len(self._types) / SHARE)
            each.wait_until(again, is_timed=False, helped_by_inserts=True)
            return not taken
        each.go_on()
        if each.in_vain and not each.in_vain % MOST_AT_ONCE:
            each.wait_until(
                mono + max(EMPTY_FOR, seconds * MOST_AT_ONCE * RESTS), is_timed=True, helped_by_inserts=True
            )
        return False

    def _miss(self, each: _Type, at: float) -> None:
        each.misses = min(MOST_MISSES, each.misses + 1)
        each.wait_until(at, is_timed=True, helped_by_inserts=each.helped_by_inserts)

    def _wait_for_slot(self, each: _Type, claim: LaneClaim, taken: int, mono: float) -> None:
        """Waits until the type may start a task: it is paused, full or out of rate."""
        # Never longer than the poll: the type may be resumed or limited otherwise, and the notification be lost.
        longest = each.poll.sleep()
        seconds = longest if claim.look_in is None else min(longest, claim.look_in)
        if taken or claim.room is None or claim.look_in is None:
            each.wait_until(mono + seconds, is_timed=True, helped_by_inserts=False)
        else:  # other pools took what the rate allowed
            self._miss(each, mono + seconds + self._chance() * TURN * GROWTH**each.misses)

    def _has_gone_round(self, each: _Type, request: LaneRequest, claim: LaneClaim) -> bool:
        """Notes that a claim looked at keys up to ``after_lane``. Returns whether all keys were looked at in vain.

        Only claims that look closely count: another one may have seen none but keys of a high priority with tasks that
        the pool cannot take.
        """
        assert claim.after_lane is not None
        if claim.tasks:
            return False
        each.in_vain += 1
        if not request.looks_closely:
            each.first_lane, each.wraps = claim.after_lane, 0
            return False
        each.wraps += claim.after_lane <= request.after_lane
        return each.wraps > 1 or (each.wraps == 1 and claim.after_lane >= each.first_lane)

    def looked(self, found: Mapping[str, bool]) -> None:
        """Notes which task types have tasks, due ones or not: the other types are not looked at until the next wake."""
        for task_type, each in self._types.items():
            if each.helped_by_inserts and not each.is_timed:
                each.look_at = -inf if found.get(task_type) else inf

    def look_again(self) -> None:
        """Notes that tasks may have been inserted: types are looked at again, except those which that does not help."""
        for each in self._types.values():
            if each.helped_by_inserts:
                each.look_at = -inf

    def begin_rounds(self) -> None:
        """Notes that tasks were inserted, perhaps of keys that the round of claims in vain has passed."""
        for each in self._types.values():
            each.in_vain = 0

    def tell(self, task_type: str | None) -> None:
        """Notes that tasks of a type may start now; None stands for all types."""
        if self._types:
            self._heard.append((task_type, 0))

    def free(self, task_types: Mapping[str, int]) -> None:
        """Notes how many runs of each type have ended."""
        self._heard.extend(task_types.items())

    def hear(self) -> None:
        """Takes in what ``tell`` and ``free`` have noted."""
        while self._heard:
            task_type, freed = self._heard.popleft()
            for name in self._types if task_type is None else (task_type,):
                each = self._types.get(name)
                if each is not None:
                    each.wait_until(-inf, is_timed=False, helped_by_inserts=each.helped_by_inserts)
                    each.misses = each.in_vain = 0
                    each.freed += freed
                    self._urgent[name] = None
