"""Defines the schedules in the database: what ``put`` stores, what ``list`` returns, and how a tick is judged.

All of it is pure: the clock is an argument, and so is the state of the task of the last tick.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum
from itertools import islice
from typing import Any, Final, NamedTuple, Self, TypeVar
from zoneinfo import ZoneInfo

from fang_core.errors import UsageError
from fang_core.record import TaskState, payload_of
from fang_core.schedules.schedule import LONGEST, Cron, Every, ScheduleOnce, zone_of
from fang_core.schedules.upcoming import Upcoming, upcoming
from fang_core.words.moments import check_range
from fang_core.words.stored_json import from_json

MOST_NAME: Final = 500
"""The most characters in the name of a schedule."""

LATE: Final = timedelta(seconds=60)
"""How late a tick may be under ``missed="skip"`` unless ``missed_within`` is given."""

CAUGHT_UP: Final = timedelta(days=1)
"""How late a tick may be under ``missed="all"`` unless ``missed_within`` is given."""

MICROSECOND: Final = timedelta(microseconds=1)

E = TypeVar("E", bound=StrEnum)


class Overlap(StrEnum):
    """Says what a tick does while the task of the last tick has not ended.

    Tasks of ``run_now`` and ``backfill`` are not such tasks.

    Attributes:
        ALLOW: inserts its task.
        SKIP: inserts nothing.
        QUEUE_ONE: inserts nothing if that task waits. If it runs, the tick waits for its end; of several ticks that
            come meanwhile, the latest does.
        CANCEL_RUNNING: cancels that task, and inserts its own at once: a run that ignores its interruption goes
            on while the new one runs.
    """

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    CANCEL_RUNNING = "cancel_running"


class Missed(StrEnum):
    """Says what happens with ticks that no pool made in time.

    Attributes:
        SKIP: a tick that is later than ``missed_within``, 60 seconds unless given, is not made.
        LATEST: of those missed ticks that are not later than ``missed_within``, which is no limit unless given, the
            latest is made.
        ALL: all those are made, in their order; ``missed_within`` is a day unless given.
    """

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class Verdict(StrEnum):
    """Says what a backend did with a tick.

    Attributes:
        TICKED: the tick counts as done, and its task was inserted, unless an equal unique task waits or runs.
        SKIPPED: the tick counts as done; the task of the last tick kept its task out.
        WAITS: nothing was written, since the task of the last tick runs, or since another process is just writing to
            the schedule: ask again after a while.
        PAUSED: nothing was inserted, since the task of the last tick has failed: the schedule is paused now.
        DONE: the tick was done before.
        LATE: the tick is too late, and is not made any more.
        STALE: the schedule was changed, paused or removed, or has ticked meanwhile: read it again.
    """

    TICKED = "ticked"
    SKIPPED = "skipped"
    WAITS = "waits"
    PAUSED = "paused"
    DONE = "done"
    LATE = "late"
    STALE = "stale"


def judged(overlap: str, last: TaskState | None, *, pause_on_failure: bool = False) -> Verdict:
    """Returns what becomes of a tick whose schedule's last task is in this state; None if that is gone, or none was."""
    if last is TaskState.FAILED and pause_on_failure:
        return Verdict.PAUSED
    waits = last in (TaskState.NEW, TaskState.RETRIED)
    runs = last is TaskState.IN_PROGRESS
    if (overlap == Overlap.SKIP and (waits or runs)) or (overlap == Overlap.QUEUE_ONE and waits):
        return Verdict.SKIPPED
    return Verdict.WAITS if overlap == Overlap.QUEUE_ONE and runs else Verdict.TICKED


def refuse_cancelling(overlap: str) -> None:
    """Raises ``UsageError`` if this, for a schedule of unique tasks, is ``cancel_running``."""
    if overlap == Overlap.CANCEL_RUNNING:
        raise UsageError("overlap='cancel_running' needs uniq=False: the unique task that runs would keep the next out")


class ScheduleSpec(NamedTuple):
    """Says when a schedule is due and how it ticks: ``put`` stores it with the task.

    Attributes:
        tz: the name of its zone, in which its ticks are shown; that of a ``Cron`` decides when they are.
        missed_within: how late a tick may be; None if there is no limit.
        jitter: each task is due later than its tick, by a part of this that is always the same for the tick.
        until: no tick comes after this time.
        pause_on_failure: whether a tick that finds the task of the last one failed pauses the schedule.
    """

    name: str
    schedule: Cron | Every | ScheduleOnce
    tz: str = "UTC"
    overlap: Overlap = Overlap.ALLOW
    missed: Missed = Missed.LATEST
    missed_within: timedelta | None = None
    jitter: timedelta | None = None
    until: datetime | None = None
    pause_on_failure: bool = False


def schedule_spec(
    name: str,
    *,
    cron: str | Cron | None = None,
    every: timedelta | Every | None = None,
    at: datetime | ScheduleOnce | None = None,
    tz: str | tzinfo | None = None,
    overlap: str = Overlap.ALLOW,
    missed: str = Missed.LATEST,
    missed_within: timedelta | None = None,
    jitter: timedelta | None = None,
    until: datetime | None = None,
    pause_on_failure: bool = False,
) -> ScheduleSpec:
    """Checks the arguments of ``put``. Raises ``UsageError``."""
    checked_name(name)
    if [cron, every, at].count(None) != 2:
        raise UsageError("give one of cron=, every= and at=")
    zone = None if tz is None else zone_name(zone_of(tz))
    schedule: Cron | Every | ScheduleOnce
    if isinstance(cron, Cron):
        if zone is not None and zone != zone_name(cron.tz):
            raise UsageError("the Cron has a zone of its own: leave out tz=")
        schedule, zone = cron, zone_name(cron.tz)
    elif cron is not None:
        schedule = Cron(cron, zone or "UTC")
    elif every is not None:
        schedule = every if isinstance(every, Every) else Every(every)
    else:
        schedule = at if isinstance(at, ScheduleOnce) else ScheduleOnce(at)  # type: ignore[arg-type]  # it checks
    if not isinstance(pause_on_failure, bool):
        raise UsageError(f"pause_on_failure is a bool, not {type(pause_on_failure).__name__}")
    if until is not None:
        until = checked_moment("until", until)
        check_range("until", until)
    policy = _one_of(Missed, "missed", missed)
    within = _span("missed_within", missed_within)
    if within is None:
        within = {Missed.SKIP: LATE, Missed.ALL: CAUGHT_UP}.get(policy)
    return ScheduleSpec(
        name,
        schedule,
        zone or "UTC",
        _one_of(Overlap, "overlap", overlap),
        policy,
        within,
        _span("jitter", jitter),
        until,
        pause_on_failure,
    )


def checked_name(name: str) -> str:
    """Returns the name of a schedule. Raises ``UsageError`` if it cannot be one."""
    if not isinstance(name, str):
        raise UsageError(f"the name of a schedule is a str, not {type(name).__name__}")
    if not 0 < len(name) <= MOST_NAME or "\0" in name or not name.isprintable():
        raise UsageError(f"the name of a schedule has 1 to {MOST_NAME} printable characters")
    return name


def checked_moment(name: str, value: datetime) -> datetime:
    """Returns a time in UTC. Raises ``UsageError`` if it has no zone."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise UsageError(f"{name} must be a datetime with a time zone, like datetime.now(UTC)")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{name} is too far away") from None


def zone_name(zone: tzinfo) -> str:
    """Returns the name by which other processes find the zone. Raises ``UsageError`` if it has none."""
    name = zone.key if isinstance(zone, ZoneInfo) else "UTC" if zone is UTC else None
    if name is None:
        raise UsageError("a schedule in the database needs a zone with a name: give one like 'Europe/Berlin'")
    return name


def _one_of(kind: type[E], name: str, value: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name} is one of {', '.join(kind)}") from None


def _span(name: str, value: timedelta | None) -> timedelta | None:
    if value is None:
        return None
    if not isinstance(value, timedelta):
        raise UsageError(f"{name} is a timedelta, not {type(value).__name__}")
    if not timedelta(0) < value <= LONGEST:
        raise UsageError(f"{name} must be more than zero, and a hundred years at most")
    return value


class ScheduleInfo(NamedTuple):
    """Holds the row of one schedule, as it was when it was read. It is a record: it does not act.

    Attributes:
        name: its name; for the schedule of a class, the class's kind, or the oldest of its former kinds.
        last_tick: the time of its last tick; at first the time when it began.
        kind: the kind of its tasks; None if its class decides about it, and no ``put`` has replaced that.
        task_type: decides which pools make its ticks.
        metadata: the payload of its tasks, as JSON text with their kind.
        options: the options of its tasks.
        cron, every, at, anchor, tz: when it is due: one of the first three is not None.
        overlap, missed, missed_within, jitter, until, pause_on_failure: see ``ScheduleSpec``.
        paused, paused_until, paused_at, paused_by, pause_reason: whether it is paused, until when (None: until
            ``resume``), since when, by whom and why.
        last_task_id: the task of the last tick that inserted one.
        declared: what the class says: its ``kind``, its ``task_type``, and ``cron`` and ``tz``, or ``at``; None if no
            class has this schedule.
        changed_at, changed_by, change_reason: when it was put, paused or resumed last, by whom and why. A tick is made
            only if its pool has seen this change.
        upcoming: its next ticks, in what ``list`` returns; otherwise empty.
    """

    name: str
    last_tick: datetime
    kind: str | None = None
    task_type: str | None = None
    metadata: str | None = None
    options: Mapping[str, Any] | None = None
    cron: str | None = None
    every: timedelta | None = None
    at: datetime | None = None
    anchor: datetime | None = None
    tz: str | None = None
    overlap: str = Overlap.ALLOW
    missed: str = Missed.LATEST
    missed_within: timedelta | None = None
    jitter: timedelta | None = None
    until: datetime | None = None
    pause_on_failure: bool = False
    paused: bool = False
    paused_until: datetime | None = None
    paused_at: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    last_task_id: Any = None
    declared: Mapping[str, Any] | None = None
    changed_at: datetime | None = None
    changed_by: str | None = None
    change_reason: str | None = None
    upcoming: Sequence[Upcoming] = ()

    @property
    def is_stored(self) -> bool:
        """Returns whether what it inserts, and when, is in the database, and not in the code of a class."""
        return self.kind is not None

    @property
    def served_as(self) -> str | None:
        """The task type whose pools make its ticks; None if neither ``put`` nor a class has said that."""
        task_type = self.task_type if self.is_stored else (self.declared or {}).get("task_type")
        return task_type if isinstance(task_type, str) else None  # anybody may have written the row

    @property
    def payload(self) -> dict[str, Any]:
        """Returns the fields of its tasks; empty if its class decides about them."""
        try:
            fields = from_json(self.metadata or "{}")
        except ValueError:  # anybody may have written the row
            return {}
        return payload_of(fields)

    @property
    def schedule(self) -> Cron | Every | ScheduleOnce:
        """Returns when it is due. Raises ``UsageError`` if the row does not say that: anybody may have edited it."""
        if not self.is_stored:
            return _as_declared(self.name, self.declared or {})
        try:
            if self.cron is not None:
                return Cron(self.cron, self.tz or "UTC")
            if self.every is not None:
                return Every(self.every, self.anchor)
            if self.at is not None:
                return ScheduleOnce(self.at)
        except UsageError as error:
            raise UsageError(f"schedule {self.name!r:.100} cannot be read: {error}") from None
        raise UsageError(f"schedule {self.name!r:.100} is never due: put it again")

    @property
    def zone(self) -> tzinfo:
        """Returns the zone in which its times are shown; UTC if the row does not name one that there is."""
        try:
            return _zone_named(self.tz or (self.declared or {}).get("tz") or "UTC")
        except UsageError:
            return UTC

    def is_paused(self, at: datetime) -> bool:
        """Returns whether it is paused at this time, or the tick of this time falls into a pause."""
        return self.paused and (self.paused_until is None or at < self.paused_until)

    def next_ticks(self, now: datetime, count: int) -> list[datetime]:
        """Returns the first ticks after ``now``, in UTC; none if it is over, or paused without an end.

        Raises ``UsageError`` like ``schedule``.
        """
        if self.paused and self.paused_until is None:
            return []
        schedule = self.schedule
        after = max(now, self.last_tick)
        if self.paused and self.paused_until is not None:
            after = max(after, self.paused_until - MICROSECOND)
        return list(islice(ticks_between(schedule, after, self.until), count))

    def with_upcoming(self, now: datetime, count: int) -> Self:
        """Returns a copy with the first ticks after ``now``, and without a pause that has ended by then.

        It has no ticks if the row cannot be understood. For zero ticks the row's times are not even read: that looks
        for a first tick, and takes seconds for thousands of schedules.
        """
        info = self
        if self.paused and not self.is_paused(now):
            info = self._replace(paused=False, paused_until=None, paused_at=None, paused_by=None, pause_reason=None)
        if count == 0:
            return info._replace(upcoming=())
        try:
            ticks = self.next_ticks(now, count)
            return info._replace(upcoming=tuple(upcoming(self.schedule, self.zone, ticks)))
        except UsageError:
            return info


STORED: Final = ScheduleInfo._fields[:-1]
"""The fields of ``ScheduleInfo`` that are columns."""

_TIMING: Final = ("cron", "every", "at", "anchor", "until")


def begins_anew(former: ScheduleInfo, put: ScheduleInfo) -> bool:
    """Returns whether what is put has other ticks than before: then none of them was missed.

    The zone decides only the ticks of a pattern; for other schedules it says how ticks are shown.
    """
    names = _TIMING if put.cron is None else (*_TIMING, "tz")
    return not former.is_stored or any(getattr(former, name) != getattr(put, name) for name in names)


class Schedules(NamedTuple):
    """Holds schedules in the order of their names, and the backend's clock when they were read."""

    now: datetime
    infos: list[ScheduleInfo]


def ticks_between(
    schedule: Cron | Every | ScheduleOnce, after: datetime, until: datetime | None = None
) -> Iterator[datetime]:
    """Yields the ticks in ``after < tick <= until``, in their order; without ``until`` there may be no end."""
    tick = schedule.next_after(after)
    while tick is not None and (until is None or tick <= until):
        yield tick
        tick = schedule.next_after(tick)


MOST_BACKFILLED: Final = 10_000
"""The most ticks that one call of ``backfill`` makes."""


class Backfill(NamedTuple):
    """Says which ticks to make up for: those in ``start <= tick <= end`` that do not lie ahead.

    If their tasks may not overlap, that is the latest of them, and it is made as a tick would be.
    """

    start: datetime
    end: datetime
    overlap: Overlap = Overlap.ALLOW


_FIRST: Final = datetime(1, 1, 3, tzinfo=UTC)
"""The first day that every zone has."""


def checked_backfill(start: datetime, end: datetime, overlap: str = Overlap.ALLOW) -> Backfill:
    """Checks the arguments of ``backfill``. Raises ``UsageError``."""
    start, end = max(checked_moment("start", start), _FIRST), checked_moment("end", end)
    if end < start:
        raise UsageError("end comes before start")
    return Backfill(start, end, _one_of(Overlap, "overlap", overlap))


def backfilled(info: ScheduleInfo, backfill: Backfill, now: datetime) -> list[datetime]:
    """Returns the ticks to make, in rising order. Raises ``UsageError`` if there are too many."""
    schedule, after = info.schedule, backfill.start - MICROSECOND
    end = min(backfill.end, now if info.until is None else min(now, info.until))
    if backfill.overlap is not Overlap.ALLOW:
        latest = schedule.latest(after, end)
        return [] if latest is None else [latest]
    ticks = list(islice(ticks_between(schedule, after, end), MOST_BACKFILLED + 1))
    if len(ticks) > MOST_BACKFILLED:
        raise UsageError(f"the schedule has more than {MOST_BACKFILLED} ticks in this time: backfill a part at a time")
    return ticks


def jitter_of(name: str, at: datetime, jitter: timedelta | None) -> timedelta:
    """Returns by how much the task of a tick is due later than the tick; always the same for the same tick."""
    if jitter is None:
        return timedelta(0)
    digest = hashlib.sha256(f"jitter\n{name}\n{at.astimezone(UTC).isoformat()}".encode()).digest()
    return (jitter // MICROSECOND * int.from_bytes(digest[:8], "big") >> 64) * MICROSECOND


def declaration(kind: str, task_type: str, schedule: Cron | ScheduleOnce) -> dict[str, str]:
    """Returns what a pool declares of a class's schedule, for ``ScheduleInfo.declared``."""
    declared = {"kind": kind, "task_type": task_type}
    if isinstance(schedule, ScheduleOnce):
        return declared | {"at": schedule.at.isoformat()}
    zone = timezone(schedule.tz.utcoffset(None)) if isinstance(schedule.tz, timezone) else schedule.tz
    return declared | {"cron": schedule.pattern, "tz": getattr(zone, "key", str(zone))}


def _as_declared(name: str, declared: Mapping[str, Any]) -> Cron | ScheduleOnce:
    if "cron" in declared:
        return Cron(declared["cron"], _zone_named(declared.get("tz") or "UTC"))
    try:
        return ScheduleOnce(datetime.fromisoformat(declared["at"]))
    except (KeyError, ValueError, TypeError):
        raise UsageError(f"schedule {name!r:.100} is of a class, and no pool has said when it is due") from None


def _zone_named(name: str) -> tzinfo:
    """Returns the zone of a name, or of an offset as a class may have it: ``UTC+01:00``. Raises ``UsageError``."""
    try:
        offset = datetime.strptime(name, "UTC%z").tzinfo
    except (ValueError, TypeError):
        offset = None
    return zone_of(name) if offset is None else offset
