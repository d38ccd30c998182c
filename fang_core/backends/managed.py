"""Keeps a backend's state of managed task types, and picks tasks of one for a claim. Pure: the clock is an argument.

A backend whose engine can pick for itself, as Postgres does in SQL, does not need ``pick``.
"""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from fang_core.backends.claims import QUANTUM
from fang_core.backends.pools import Declaration
from fang_core.flow.info import MOST_COUNTED, TypeInfo
from fang_core.flow.limits import UNLIMITED, FlowRule, FlowSettings, Gcra, rules_from_json
from fang_core.flow.settings import effective
from fang_core.record import PRIORITIES, Task
from fang_core.remarks import NOTHING_SAID, Remark
from fang_core.tasks.managing import LimitChange, Pause

NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class ManagedType:
    """A task type that is paused, or has limits, rates or fairness.

    Attributes:
        settings: what holds.
        declared, changed: by what it is decided, with who changed it, when and why.
        paused, paused_until: whether it is paused, and until when, with who paused it, when and why.
        tat: when the bucket of the type's rate is full again: the theoretical arrival time of GCRA.
        tats: the same for each key that has started a task.
        fetched_last: the key that tasks fetched by hand begin behind.
    """

    settings: FlowSettings = UNLIMITED
    declared: dict[str, tuple[FlowRule, ...]] = field(default_factory=dict)
    changed: tuple[FlowRule, ...] | None = None
    changed_at: datetime | None = None
    change_remark: Remark = NOTHING_SAID
    paused: bool = False
    paused_until: datetime | None = None
    paused_at: datetime | None = None
    pause_remark: Remark = NOTHING_SAID
    tat: datetime = NEVER
    tats: dict[str, datetime] = field(default_factory=dict)
    fetched_last: str = ""

    def is_paused(self, now: datetime) -> bool:
        """Returns whether nothing of it starts now."""
        return self.paused and (self.paused_until is None or now < self.paused_until)

    def is_managed(self, now: datetime) -> bool:
        """Returns whether plain claims leave it alone."""
        return self.settings.is_limited or self.is_paused(now)

    @property
    def is_counted(self) -> bool:
        """Returns whether limits or rates count its tasks, and not only fairness."""
        return self.settings._replace(fair=False, weights=None).is_limited

    def declare(self, declaration: Declaration, known: Collection[str]) -> None:
        """Notes what the classes of a pool declare, and drops what was declared for kinds that are unknown."""
        self.declared = declared_with(self.declared, declaration, known)
        self.settings = effective(self.declared, self.changed)

    def change(self, change: LimitChange, now: datetime) -> None:
        """Sets limits, or forgets what was set."""
        self.changed = change.rules
        self.changed_at, self.change_remark = (now, change.remark) if change.rules is not None else (None, NOTHING_SAID)
        self.settings = effective(self.declared, self.changed)

    def pause(self, pause: Pause, now: datetime) -> None:
        """Pauses the type. Raises what ``Pause.end`` raises."""
        self.paused_until = pause.end(now)
        self.paused, self.paused_at, self.pause_remark = True, now, pause.remark

    def resume(self) -> None:
        """Ends its pause."""
        self.paused, self.paused_until, self.paused_at, self.pause_remark = False, None, None, NOTHING_SAID

    def info(self, task_type: str, now: datetime, running: int, waiting: int) -> TypeInfo:
        """Describes the type."""
        is_paused = self.is_paused(now)
        pause = self.pause_remark if is_paused else NOTHING_SAID
        return TypeInfo(
            task_type=task_type,
            is_paused=is_paused,
            paused_until=self.paused_until if is_paused else None,
            paused_at=self.paused_at if is_paused else None,
            paused_by=pause.by,
            pause_reason=pause.reason,
            settings=self.settings,
            declared=dict(self.declared),
            changed=self.changed,
            changed_at=self.changed_at,
            changed_by=self.change_remark.by,
            change_reason=self.change_remark.reason,
            running=running,
            waiting=min(waiting, MOST_COUNTED),
        )


def declared_with(
    there: Mapping[str, tuple[FlowRule, ...]], declaration: Declaration, known: Collection[str]
) -> dict[str, tuple[FlowRule, ...]]:
    """Returns what is declared, by kind, after a declaration; what is there for kinds that are not ``known`` goes."""
    kept = {kind: rules for kind, rules in there.items() if kind in known or kind in declaration.limits}
    given = {kind: rules_from_json(rules) for kind, rules in declaration.limits.items()}
    return {kind: rules for kind, rules in (given | kept if declaration.is_repeated else kept | given).items() if rules}


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Picked(NamedTuple, Generic[T]):
    """Holds what a claim takes of one type; the other attributes are as in ``LaneClaim``."""

    tasks: list[T]
    room: int | None
    look_in: float | None
    after_lane: str | None
    is_short: bool
    cut_at: str | None


class Lanes(NamedTuple):
    """The keys of one priority that have a task to take, in turn.

    ``reached`` is the last key that was looked at, if there may be more; None if there are not.
    """

    keys: Sequence[str]
    reached: str | None


class InTurn(Protocol):
    """Gives what ``Lanes`` has while keys are being read: a claim reads no more of them than it needs."""

    @property
    def keys(self) -> Iterable[str]:
        """The keys, in turn."""
        ...

    @property
    def reached(self) -> str | None:
        """The last key that was looked at, if there may be more; it is asked for when no more are read."""
        ...


class Waiting(Protocol[T_co]):
    """Shows a claim the tasks of one type that it may take."""

    def lanes(self, priority: int, /) -> InTurn:
        """Returns the keys of a priority that have a task to take."""
        ...

    def heads(self, priority: int, lane: str, most: int, /) -> Sequence[T_co]:
        """Returns the first tasks of a key, at most this many, in the order in which they are to be run."""
        ...


class WaitingTasks:
    """Shows tasks that are all at hand.

    Args:
        due: the type's tasks that the claim may take, in the order in which they are to be run.
        after_lane, most_lanes: as in ``LaneRequest``.
    """

    def __init__(self, due: Iterable[Task], after_lane: str, most_lanes: int) -> None:
        self._after_lane = after_lane
        self._most_lanes = most_lanes
        self._levels: dict[int, dict[str, list[Task]]] = {priority: {} for priority in PRIORITIES}
        for task in due:
            self._levels[task.priority].setdefault(task.lane or "", []).append(task)

    def lanes(self, priority: int, /) -> Lanes:
        """See ``Waiting``."""
        lanes = self._levels[priority]
        keys = sorted(lanes, key=lambda lane: (lane <= self._after_lane, lane))[: self._most_lanes]
        return Lanes(keys, keys[-1] if len(keys) == self._most_lanes else None)

    def heads(self, priority: int, lane: str, most: int, /) -> list[Task]:
        """See ``Waiting``."""
        return self._levels[priority][lane][:most]


def pick(
    managed: ManagedType,
    waiting: Waiting[T],
    running: Mapping[str, int],
    *,
    limit: int,
    after_lane: str,
    now: datetime,
    quantum: int = QUANTUM,
    all_running: int | None = None,
    chance: Callable[[], float] = random.random,
) -> Picked[T]:
    """Picks tasks of a type that is not paused, and charges its rates for them.

    Args:
        waiting: the type's tasks that the claim may take.
        running: how many tasks of each key run.
        all_running: how many tasks of the type run; the sum of those if not given.
        after_lane: the key that ``waiting`` begins behind.
        quantum: how many tasks each key is expected to have.
    """
    total = sum(running.values()) if all_running is None else all_running
    turn = _Turn(managed, waiting, running, limit, now, total=total, quantum=quantum)
    place: str | None = None
    ends: list[str] = []
    cuts: list[str] = []
    for priority in PRIORITIES:
        if not turn.left:
            break
        lanes = waiting.lanes(priority)
        served, ran_out = turn.serve(priority, lanes.keys, after_lane, chance)
        place = place if served is None else served
        end = lanes.reached if ran_out else served
        if end is not None:
            ends.append(end)
        if ran_out and lanes.reached is not None:
            cuts.append(lanes.reached)

    if turn.left and ends:  # the first of them, or keys of the other priorities up to there would be passed over
        place = min(ends, key=lambda lane: (lane <= after_lane, lane))
    cut_at = cuts[0] if cuts and not turn.left else None
    room = None if managed.settings.max_running == 0 else turn.room
    return Picked(turn.tasks, room, turn.look_in(), place, turn.is_short and turn.left > 0, cut_at)


class _Turn(Generic[T]):
    """Represents a claim while it goes from key to key."""

    def __init__(
        self,
        managed: ManagedType,
        waiting: Waiting[T],
        running: Mapping[str, int],
        limit: int,
        now: datetime,
        *,
        total: int,
        quantum: int,
    ) -> None:
        self._managed = managed
        self._waiting = waiting
        self._settings = settings = managed.settings
        self._running = dict(running)
        self._now = now
        self._quantum = quantum
        self.is_short = False
        """Whether keys had fewer tasks than they were expected to have."""
        self._waits: list[float] = []  # until the rates of keys allow their next starts
        self.tasks: list[T] = []
        room = limit
        if settings.max_running is not None:
            room = min(room, settings.max_running - total)
        if settings.rate is not None:
            room = min(room, _starts(managed.tat, settings.rate, now))
        self.room = max(0, room)

    @property
    def left(self) -> int:
        """Returns how many more tasks it may take."""
        return self.room - len(self.tasks)

    def look_in(self) -> float | None:
        """Returns the seconds until a claim may find more, as far as rates say."""
        if self._settings.rate is not None and not _starts(self._managed.tat, self._settings.rate, self._now):
            return _until_next(self._managed.tat, self._settings.rate, self._now)
        return min(self._waits, default=None) if self.left else None

    def serve(
        self, priority: int, lanes: Iterable[str], before: str, chance: Callable[[], float]
    ) -> tuple[str | None, bool]:
        """Takes tasks of these keys of a priority, whose turns come in this order, behind that of ``before``.

        Returns the key to begin behind the next time, None if no key could be served; and whether it needed more keys
        than there are.
        """
        usable: list[tuple[str, str, int]] = []
        wanted = 0
        for lane in lanes:
            free = self._free(lane)
            if free > 0:
                usable.append((before, lane, free))
                wanted += min(free, self._quantum * self._weight(lane))
            before = lane
            if wanted >= self.left:
                break
        left, shares = self.left, sum(self._weight(lane) for _, lane, _ in usable)
        place: str | None = None
        for former, lane, free in usable:
            weight = self._weight(lane)
            share = min(free, self.left, ceil(left * weight / shares))
            if not share:
                break
            found = self._waiting.heads(priority, lane, share + 1)
            taken = found[:share]
            self._take(lane, taken)
            # In claims that are too small for its weight a key keeps its turn for as long as it should on the average.
            is_over = len(found) <= share or chance() * weight < (len(taken) if len(usable) > 1 else 1)
            place = lane if is_over else former
        self.is_short |= wanted >= left and self.left > 0
        return place, wanted < left

    def _free(self, lane: str) -> int:
        """Returns how many tasks of a key may start now."""
        settings, free = self._settings, self.left
        if settings.max_running_per_key is not None:
            free = min(free, settings.max_running_per_key - self._running.get(lane, 0))
        if settings.key_rate is not None and free > 0:
            tat = self._managed.tats.get(lane, NEVER)
            free = min(free, _starts(tat, settings.key_rate, self._now))
            if free <= 0:
                self._waits.append(_until_next(tat, settings.key_rate, self._now))
        return free

    def _take(self, lane: str, tasks: Sequence[T]) -> None:
        self.tasks += tasks
        self._running[lane] = self._running.get(lane, 0) + len(tasks)
        settings, managed = self._settings, self._managed
        if settings.rate is not None:
            managed.tat = _after(managed.tat, len(tasks), settings.rate, self._now)
        if settings.key_rate is not None:
            managed.tats[lane] = _after(managed.tats.get(lane, NEVER), len(tasks), settings.key_rate, self._now)

    def _weight(self, lane: str) -> int:
        return (self._settings.weights or {}).get(lane, 1)


def _starts(tat: datetime, rate: Gcra, now: datetime) -> int:
    return rate.burst - ceil((rate.clamped(tat, now) - now) / rate.interval)


def _until_next(tat: datetime, rate: Gcra, now: datetime) -> float:
    return (rate.next_start(tat, now) - now).total_seconds()


def _after(tat: datetime, starts: int, rate: Gcra, now: datetime) -> datetime:
    return rate.clamped(tat, now) + starts * rate.interval
