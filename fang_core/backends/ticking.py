"""Computes which ticks of a pool's schedules are due, from the backend's clock as last read and a monotonic one."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from math import inf
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from fang_core.backends.scheduling import stored_tick, tick_id
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.errors import UsageError
from fang_core.schedules.schedule import Cron, Every, ScheduleOnce
from fang_core.schedules.stored import MICROSECOND, Missed, ScheduleInfo, Schedules, declaration, ticks_between
from fang_core.tasks.insertion import Overrides, Rules, refuse_terms
from fang_core.tasks.payloads import codec
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.stored import stored_row
from fang_core.words.moments import EARLIEST

READ_AGAIN_AFTER: Final = 10.0
"""Seconds after which schedules and the backend's clock are read again if no notification of a change arrives."""

TRY_AGAIN_AFTER: Final = 60.0
"""Seconds after which ticks of classes are tried again that the backend, or the class itself, has refused."""

LOOK_AGAIN: Final = 0.1
"""Seconds until the backend is read again if it does not know a schedule yet, which another pool was just adding; or if
a schedule was found to have changed."""

ASK_AGAIN: Final = 1.0
"""Seconds until a tick that waits for the end of a run is asked for again."""

MOST_AT_ONCE: Final = 1_000
"""How many missed ticks of one schedule are due at once."""


_Schedule: TypeAlias = Cron | Every | ScheduleOnce


class _Served(NamedTuple):
    """Describes a schedule whose ticks the pool makes.

    Attributes:
        changed: its row, if it lives in the backend, or a person has changed or paused it.
        cls: its class, if that decides about it.
    """

    schedule: _Schedule
    changed: ScheduleInfo | None
    cls: type[BaseRunnable] | None


class Timetable:
    """Tells which ticks of schedules are due, and how long to wait for the next.

    These are the schedules of some task classes, and those of the pool's task types that live in the backend. If
    several ticks were missed, only the latest is due, unless the schedule says otherwise. Every ``mono`` is in seconds
    of one monotonic clock.
    """

    def __init__(self, task_types: tuple[str, ...], rules: Rules) -> None:
        self.task_types = task_types
        self.version = ""
        """The version of the schedules in the backend that it knows."""
        self.undeclared = False
        """Whether ``declared`` and ``dropped`` are to be written: they have changed."""
        self.declares_again = False
        """Whether ``declared`` is to be written where nothing is."""
        self.declared: dict[str, dict[str, str]] = {}
        self.dropped: list[str] = []
        self._rules = rules
        self._classes: dict[str, type[BaseRunnable]] = {}
        self._changed: dict[str, ScheduleInfo] = {}
        self._schedules: dict[str, tuple[datetime | None, _Schedule]] = {}  # with the change that they are of
        self._served: dict[str, _Served] = {}
        self._last: dict[str, datetime] = {}
        self._next: dict[str, datetime | None] = {}  # ticks that were found, so that no turn searches for all of them
        self._held_until: dict[str, float] = {}
        self._is_stale = False
        self._refused: dict[str, datetime] = {}
        self._tried_at = -inf
        self._now: datetime | None = None
        self._seen_at = 0.0

    def serve(self, classes: Mapping[str, type[BaseRunnable]]) -> None:
        """Takes those of the classes that have a schedule and a task type that the pool serves."""
        served = [cls for cls in classes.values() if cls.__fang_options__.task_type in self.task_types]
        self._classes = {
            cls.__fang_options__.schedule_name: cls for cls in served if cls.__fang_options__.cron is not None
        }
        declared = {}
        for name, cls in self._classes.items():
            options = cls.__fang_options__
            assert options.cron is not None
            declared[name] = declaration(options.kind, options.task_type, options.cron)
        dropped = sorted({cls.__fang_options__.schedule_name for cls in served} - declared.keys())
        self.undeclared = self.undeclared or (declared, dropped) != (self.declared, self.dropped)
        self.declared, self.dropped = declared, dropped
        self._choose()

    @property
    def names(self) -> list[str]:
        """The names of the classes' schedules: the kind of each class, or its oldest former kind."""
        return list(self._classes)

    def saw(self, state: ScheduleState, mono: float) -> list[UsageError]:
        """Takes what was read from the backend at ``mono``; returns an error for each schedule that cannot be read."""
        self._now, self._seen_at = state.now, mono
        errors: list[UsageError] = []
        kept = {name: last for name, last in self._last.items() if name in self._changed}
        if state.changed is not None:
            self.version = state.version
            known, self._changed = self._schedules, {}
            self._schedules = {}
            kept = {}
            for info in state.changed:
                try:
                    self._learn(info, known)
                except UsageError as error:
                    errors.append(error)
                else:
                    kept[info.name] = info.last_tick
            self._choose()
            self._held_until = {name: until for name, until in self._held_until.items() if name in self._served}
        if mono - self._tried_at >= TRY_AGAIN_AFTER:
            self._tried_at, self._refused = mono, {}
        last_ticks = {name: max(last, self._refused.get(name, last)) for name, last in state.last_ticks.items()}
        self._last = kept | {name: last for name, last in last_ticks.items() if name in self._classes}
        for name in last_ticks:
            self._next.pop(name, None)
        return errors

    def _learn(self, info: ScheduleInfo, known: Mapping[str, tuple[datetime | None, _Schedule]]) -> None:
        """Takes a schedule; it reads the pattern of one that has not changed only once, since that takes a while."""
        if info.is_stored:
            changed_at, schedule = known.get(info.name, (None, None))
            if schedule is None or changed_at != info.changed_at:
                schedule = info.schedule
                stored_row(info, UUID(int=0))
            self._schedules[info.name] = (info.changed_at, schedule)
        self._changed[info.name] = info

    def _choose(self) -> None:
        """Decides which schedules the pool makes the ticks of."""
        served = {
            name: _Served(self._schedules[name][1], info, None)
            for name, info in self._changed.items()
            if info.is_stored and info.task_type in self.task_types
        }
        for name, cls in self._classes.items():
            changed, cron = self._changed.get(name), cls.__fang_options__.cron
            if cron is not None and not (changed is not None and changed.is_stored):
                served[name] = _Served(cron, changed, cls)
        # At once: the claimer may learn of new classes while the ticker goes through the old ones.
        self._next, self._served = {}, served

    def must_look(self, mono: float) -> bool:
        """Returns whether to read the backend again."""
        return self._now is None or self._is_stale or self._lacks_some or mono >= self._seen_at + READ_AGAIN_AFTER

    @property
    def _lacks_some(self) -> bool:
        """Returns whether the last tick of a class's schedule is not known."""
        return not self._classes.keys() <= self._last.keys()

    def due(self, mono: float) -> list[tuple[str, datetime]]:
        """Returns the name and time of each tick that is due; those of one schedule in their order."""
        if self._now is None:
            return []
        now = self._backend_time(mono)
        return [
            (name, at)
            for name, served in self._served.items()
            if name in self._last and mono >= self._held_until.get(name, mono)
            if (first := self._first(name, served, now)) is not None and first <= now
            for at in self._due(name, served, now)
        ]

    def _first(self, name: str, served: _Served, now: datetime) -> datetime | None:
        """Returns the schedule's next tick, which may be due; None if none will be made until the schedule changes."""
        first = self._next.get(name, now)
        if first is not None and first <= now:
            after = self._made_up_to(name, served, now)
            first = None if after is None else served.schedule.next_after(after)
            until = None if served.changed is None else served.changed.until
            if first is not None and until is not None and first > until:
                first = None
            self._next[name] = first
        return first

    def _due(self, name: str, served: _Served, now: datetime) -> Iterable[datetime]:
        changed = served.changed
        after = self._made_up_to(name, served, now)
        if after is None:
            return ()
        until = now if changed is None or changed.until is None else min(now, changed.until)
        if changed is not None and changed.missed == Missed.ALL:
            return islice(ticks_between(served.schedule, after, until), MOST_AT_ONCE)
        latest = served.schedule.latest(after, until)
        return () if latest is None else (latest,)

    def _made_up_to(self, name: str, served: _Served, now: datetime) -> datetime | None:
        """Returns the time up to which ticks were made, fall into a pause or are too late; None if none will be made
        until the schedule changes."""
        after, changed = self._last[name], served.changed
        if changed is None:
            return after
        if changed.paused:
            if changed.paused_until is None:
                return None
            after = max(after, changed.paused_until - MICROSECOND)
        if changed.missed_within is not None:
            after = max(after, _before(now, changed.missed_within))
        return after

    def is_stored(self, name: str) -> bool:
        """Returns whether the schedule lives in the backend."""
        served = self._served.get(name)
        return served is not None and served.cls is None

    def tick(self, name: str, at: datetime) -> Tick:
        """Returns the tick to insert. Raises any error of building the task, a ``SystemExit`` as ``UsageError``."""
        served = self._served[name]
        if served.cls is None:
            assert served.changed is not None
            return stored_tick(served.changed, at)
        try:
            return tick_of(served.cls(), at, self._rules)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:  # a default_factory may raise SystemExit
            raise UsageError(f"{name} cannot be built without arguments: {type(error).__name__}") from error

    def ticked(self, name: str, at: datetime) -> None:
        """Notes that the tick is inserted, by this pool or another one."""
        self._last[name] = max(at, self._last.get(name, at))
        self._next.pop(name, None)
        self._held_until.pop(name, None)

    def refused(self, name: str, at: datetime) -> None:
        """Notes that the tick cannot be made, and is to be tried again only after a while."""
        self.ticked(name, at)
        self._refused[name] = at

    def waits(self, name: str, mono: float) -> None:
        """Notes that the schedule's tick waits for the end of a run."""
        self._held_until[name] = mono + ASK_AGAIN

    def mark_stale(self) -> None:
        """Notes that a schedule has changed since it was read."""
        self._is_stale = True

    def declare_again(self) -> None:
        """Writes the declarations of the classes once more, since a row that holds them may have been removed."""
        self.declares_again = bool(self.declared)

    def begin_look(self) -> None:
        """Notes that what has changed so far is read now."""
        self._is_stale = False

    def seconds_until_next(self, mono: float) -> float:
        """Returns how long to wait before calling ``due`` again."""
        if self._now is None:
            return READ_AGAIN_AFTER
        if self._lacks_some or self._is_stale:
            return LOOK_AGAIN
        now = self._backend_time(mono)
        waits = (self._wait(name, served, now, mono) for name, served in self._served.items())
        return max(0.0, min([self._seen_at + READ_AGAIN_AFTER - mono, *(each for each in waits if each is not None)]))

    def _wait(self, name: str, served: _Served, now: datetime, mono: float) -> float | None:
        held_until = self._held_until.get(name)
        if held_until is not None and held_until > mono:
            return held_until - mono
        at = self._first(name, served, now)
        if at is None:
            return None
        return (at - now).total_seconds()

    def _backend_time(self, mono: float) -> datetime:
        assert self._now is not None
        return self._now + timedelta(seconds=mono - self._seen_at)


def _before(now: datetime, within: timedelta) -> datetime:
    """Returns the last time at which a tick would be too late now."""
    return now - within - MICROSECOND if within < now - EARLIEST else EARLIEST


def tick_of(task: BaseRunnable, at: datetime, rules: Rules) -> Tick:
    """Returns the tick of the task's schedule at this time. Raises ``UsageError``."""
    row = Overrides(scheduled_at=at).new_task(task, rules)
    refuse_terms(row)
    name = task.__fang_options__.schedule_name
    return Tick(name, at, row._replace(id=tick_id(name, at)))


def next_tick(task: BaseRunnable, known: Schedules, rules: Rules) -> Tick:
    """Returns the next tick of the task's schedule, or of what was put in its place: pools make the ticks of that one.

    Raises ``UsageError`` if there is none.
    """
    codec.insertable_kind(task)
    schedule = task.__fang_options__.cron
    if schedule is None:
        raise UsageError(
            f"{type(task).__name__} has no schedule: give it TaskConfig(cron=...), or insert it with delay="
        )
    name = task.__fang_options__.schedule_name
    put = next((info for info in known.infos if info.name == name and info.is_stored), None)
    ticks = ticks_between(schedule, known.now) if put is None else ticks_between(put.schedule, known.now, put.until)
    at = next(ticks, None)
    if at is None:
        raise UsageError(f"the schedule of {type(task).__name__} has no tick left")
    return tick_of(task, at, rules)
