"""When the schedules of a pool tick, without a clock of its own: the backend's, as it was read, and a monotonic one."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from fang_core import codec
from fang_core.errors import UsageError
from fang_core.insertion import Overrides, Rules
from fang_core.runnable import BaseRunnable
from fang_core.schedule import Schedule
from fang_core.store import Sighting, Tick

RESIGHT: Final = 60.0
"""Seconds after which the last ticks and the backend's clock are read again."""

LOOK_AGAIN: Final = 0.1
"""Seconds until a schedule is asked for again that another pool was just adding."""


class Timetable:
    """The schedules of some task classes: which ticks are due, and how long until the next.

    Of ticks that were missed only the latest is due. All ``mono`` are seconds of one monotonic clock.
    """

    def __init__(self, task_types: tuple[str, ...], rules: Rules) -> None:
        self._task_types = task_types
        self._rules = rules
        self._classes: dict[str, type[BaseRunnable]] = {}
        self._last: dict[str, datetime] = {}
        self._now: datetime | None = None
        self._seen_at = 0.0

    def serve(self, classes: Mapping[str, type[BaseRunnable]]) -> None:
        """Takes the classes that have a schedule and whose task type is served."""
        self._classes = {
            cls.__fang_options__.schedule_name: cls
            for cls in classes.values()
            if cls.__fang_options__.cron is not None and cls.__fang_options__.task_type in self._task_types
        }

    @property
    def names(self) -> list[str]:
        """The schedules' names: the kinds of their classes, or what those were at first."""
        return list(self._classes)

    def saw(self, sighting: Sighting, mono: float) -> None:
        """Takes in what the backend says."""
        self._now, self._seen_at = sighting.now, mono
        self._last = {name: last for name, last in sighting.last_ticks.items() if name in self._classes}

    def must_look(self, mono: float) -> bool:
        """Whether the backend is to be asked again."""
        if not self._classes:
            return False
        return self._now is None or self._last.keys() != self._classes.keys() or mono - self._seen_at >= RESIGHT

    def due(self, mono: float) -> list[tuple[str, datetime]]:
        """The names and times of the ticks whose time has come."""
        if self._now is None:
            return []
        now = self._backend_time(mono)
        latest = ((name, schedule.latest(last, now)) for name, schedule, last in self._schedules())
        return [(name, at) for name, at in latest if at is not None]

    def tick(self, name: str, at: datetime) -> Tick:
        """What is to be inserted for it. Raises whatever building the task raises, if that would not end a thread."""
        try:
            return tick_of(self._classes[name](), at, self._rules)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:  # a SystemExit of a default's factory
            raise UsageError(f"{name} cannot be built without arguments: {type(error).__name__}") from error

    def ticked(self, name: str, at: datetime) -> None:
        """The tick is done, by whomever."""
        self._last[name] = max(at, self._last[name])

    def seconds_until_next(self, mono: float) -> float:
        """How long to wait before asking again what is due."""
        if self._now is None:
            return RESIGHT
        if self._last.keys() != self._classes.keys():
            return LOOK_AGAIN
        now = self._backend_time(mono)
        nexts = [schedule.next_after(last) for _, schedule, last in self._schedules()]
        waits = [(at - now).total_seconds() for at in nexts if at is not None]
        return max(0.0, min([RESIGHT, *waits]))

    def _schedules(self) -> list[tuple[str, Schedule, datetime]]:
        """Those that are served and whose last tick is known."""
        return [
            (name, cron, self._last[name])
            for name, cls in self._classes.items()
            if name in self._last and (cron := cls.__fang_options__.cron) is not None
        ]

    def _backend_time(self, mono: float) -> datetime:
        assert self._now is not None
        return self._now + timedelta(seconds=mono - self._seen_at)


def tick_of(task: BaseRunnable, at: datetime, rules: Rules) -> Tick:
    """The tick of the task's schedule at this time. Raises ``UsageError``."""
    row = Overrides(scheduled_at=at).new_task(task, rules)
    name = task.__fang_options__.schedule_name
    return Tick(name, at, row._replace(id=tick_id(name, at)))


def next_tick(task: BaseRunnable, now: datetime, rules: Rules) -> Tick:
    """The first tick after ``now`` of the task's schedule. Raises ``UsageError`` where there is none."""
    codec.insertable_kind(task)
    schedule = task.__fang_options__.cron
    if schedule is None:
        raise UsageError(
            f"{type(task).__name__} has no schedule: give it TaskConfig(cron=...), or insert it with delay="
        )
    at = schedule.next_after(now)
    if at is None:
        raise UsageError(f"the schedule of {type(task).__name__} has no tick left")
    return tick_of(task, at, rules)


def tick_id(name: str, at: datetime) -> UUID:
    """One id for each tick, so that inserting it twice can never make two rows.

    A UUIDv7 (RFC 9562, 5.7) of the tick's time, whose random bits come from SHA-256 over name and time.
    """
    at = at.astimezone(UTC)
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    digest = int.from_bytes(hashlib.sha256(f"{name}\n{at.isoformat()}".encode()).digest()[:10], "big")
    low_12, low_62 = digest >> 68, digest & (1 << 62) - 1
    return UUID(int=(milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | low_12 << 64 | 0b10 << 62 | low_62)
