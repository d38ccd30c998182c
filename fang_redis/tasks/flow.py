"""Pauses and limits task types, and claims their tasks.

What holds for a type is one hash with a version, which changes whenever it is written. A claim reads it, together with
the first tasks of the type's lanes and how many tasks run; ``pick`` chooses among them; and a second script starts
those that were chosen, unless the version is another one by then. So a claim knows all others, and no limit is
exceeded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.backends.claims import NO_TRANSACTIONS, TURN_TAKEN, LaneClaim, LaneRequest
from fang_core.backends.json_forms import Unreadable, managed_as_json, managed_from_json
from fang_core.backends.managed import NEVER, Lanes, ManagedType, Picked, pick
from fang_core.backends.pools import Declaration
from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import FlowSettings
from fang_core.flow.settings import check_key
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask
from fang_core.tasks.managing import LimitChange, Pause
from fang_redis.connections.sending import Sending
from fang_redis.layout import LATE
from fang_redis.operations import Argument, Operation, Verb
from fang_redis.records import (
    UNREADABLE,
    Spoilt,
    all_claimed,
    as_json,
    id_in,
    microseconds,
    of_kinds,
    records_in,
    time_of,
    unreadable,
)
from fang_redis.tasks.spoilt import fail_spoilt, mend

_LOGGER: Final = SafeLogger("fang_redis")

TURNS: Final = 3
"""How often a claim reads again because another pool was faster, before it leaves the turn to others."""

_EVER: Final = "inf"


class Flow:
    """The verbs on task types, of queues and of pools."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    # What applications do ---------------------------------------------------------------------------------------------

    def list_types(self) -> Verb[list[TypeInfo]]:
        """See ``Verbs.list_types``."""
        read = yield from self._read()
        infos = [each.info(read.now) for each in sorted(read.types, key=lambda each: each.task_type)]
        return [info for info in infos if info.is_managed]

    def pause_type(self, task_type: str, pause: Pause, /) -> Verb[TypeInfo]:
        """See ``Verbs.pause_type``."""
        return (yield from self._change(task_type, lambda managed, read: managed.pause(pause, read.now)))

    def resume_type(self, task_type: str, /) -> Verb[TypeInfo | None]:
        """See ``Verbs.resume_type``."""
        return _left((yield from self._change(task_type, lambda managed, _: managed.resume())))

    def set_limits(self, task_type: str, change: LimitChange, /) -> Verb[TypeInfo | None]:
        """See ``Verbs.set_limits``: the limits hold at once, since claims compare the version."""

        def change_it(managed: ManagedType, read: "Types") -> None:
            if change.rules is not None:
                check_key(task_type, change.rules, managed.declared)
            managed.change(change, read.now)

        return _left((yield from self._change(task_type, change_it)))

    # What pools do ----------------------------------------------------------------------------------------------------

    def declare(self, declarations: Sequence[Declaration], /) -> Verb[None]:
        """See ``PoolStore.declare``."""
        for declaration in declarations:

            def declare_it(managed: ManagedType, read: "Types", declaration: Declaration = declaration) -> None:
                managed.declare(declaration, read.kinds_of(declaration.task_type))

            try:
                yield from self._change(declaration.task_type, declare_it, reads_pools=True)
            except Unreadable as error:
                _LOGGER.error("tasks of type %r are not run: %s", declaration.task_type, error)

    def tell_types(self, task_types: Sequence[str], /) -> Verb[None]:
        """See ``FlowStore.tell_types``."""
        for task_type in task_types:  # not between MULTI and EXEC, which are refused when the memory is full
            yield from self._sending.say(LATE + task_type)

    def claim_lanes(self, request: LaneRequest, /) -> Verb[LaneClaim]:
        """See ``FlowStore.claim_lanes``."""
        return (yield from self._claim(request, request.kinds, is_fetch=False))

    def fetch_lane(self, task_type: str, pool_id: UUID, /) -> Verb[LaneClaim]:
        """Claims one task of any kind of a managed type; the keys take turns among all queues that fetch by hand."""
        request = LaneRequest(pool_id, task_type, (), 1)
        while True:
            claim = yield from self._claim(request, None, is_fetch=True)
            if claim.room != TURN_TAKEN:
                return claim

    def _claim(self, request: LaneRequest, kinds: Sequence[str] | None, *, is_fetch: bool) -> Verb[LaneClaim]:
        for _ in range(TURNS):
            seen = yield from self._look(request, kinds, is_fetch=is_fetch)
            claim = LaneClaim([], seen.now, NO_TRANSACTIONS, seen.registered)
            if not seen.managed.is_managed(seen.now):
                return claim._replace(is_managed=False)
            if seen.managed.is_paused(seen.now):
                end = seen.managed.paused_until
                return claim._replace(look_in=None if end is None else (end - seen.now).total_seconds())
            if not seen.registered:
                return claim
            if seen.managed.settings.is_limited and not seen.stands:
                _LOGGER.warning(
                    "the limits of type %r are written again: another client has written to them", request.task_type
                )
                yield from self._change(request.task_type, lambda managed, _: None)
                continue
            asked = request._replace(after_lane=seen.fetched_last) if is_fetch else request
            picked = pick(
                seen.managed,
                seen,
                seen.running,
                limit=asked.limit,
                after_lane=asked.after_lane,
                now=seen.now,
                quantum=asked.quantum,
                all_running=seen.all_running,
            )
            claim = claim._replace(
                room=picked.room,
                look_in=picked.look_in,
                after_lane=picked.after_lane,
                is_counted=seen.managed.is_counted,
                is_short=picked.is_short,
                cut_at=picked.cut_at,
            )
            if not picked.tasks:
                return claim
            started = yield from self._start(request, seen, picked, is_fetch=is_fetch)
            if not started.registered:
                return LaneClaim([], started.now, NO_TRANSACTIONS, False)
            if started.moved is not None:
                yield from self._mend(request.task_type, seen, started.moved)
            if started.tasks is not None:
                tasks, spoilt = of_kinds(started.tasks, kinds, started.spoilt)
                yield from fail_spoilt(self._sending, request.pool_id, spoilt)
                return claim._replace(tasks=tasks, now=started.now)
        return claim._replace(room=TURN_TAKEN, look_in=None, after_lane=None)

    def _mend(self, task_type: str, seen: "Look", moved: UUID) -> Verb[None]:
        """Looks whether a task that could not be started stands in a wrong place."""
        for priority, level in seen.levels.items():
            for lane, ids in level.heads.items():
                if moved in ids:
                    yield from mend(self._sending, task_type, priority, lane, moved)

    def _look(self, request: LaneRequest, kinds: Sequence[str] | None, *, is_fetch: bool) -> Operation["Look"]:
        args: tuple[Argument, ...] = (
            str(request.pool_id),
            request.task_type,
            request.limit,
            request.after_lane,
            request.most_lanes,
            request.group_size,
            request.quantum,
            int(kinds is None),
            int(is_fetch),
            len(request.isolated_kinds),
            *request.isolated_kinds,
            *(kinds or ()),
        )
        return self._sending.script("lanes", *args, parse=partial(_look_of, request.task_type))

    def _start(
        self, request: LaneRequest, seen: "Look", picked: Picked[UUID], *, is_fetch: bool
    ) -> Operation["Started"]:
        charges = list(seen.charges())
        args: tuple[Argument, ...] = (
            str(request.pool_id),
            request.task_type,
            seen.version,
            f"={picked.after_lane or ''}" if is_fetch else "",
            len(charges),
            *(value for charge in charges for value in charge),
            *map(str, picked.tasks),
        )
        return self._sending.script("start", *args, parse=_started_of)

    # Both -------------------------------------------------------------------------------------------------------------

    def _read(self, *task_types: str, pools: bool = False) -> Operation["Types"]:
        return self._sending.script("types", int(pools), *task_types, parse=_types_in)

    def _change(
        self, task_type: str, change: Callable[[ManagedType, "Types"], None], *, reads_pools: bool = False
    ) -> Verb[TypeInfo]:
        """Changes what holds for a type; returns what there is to say of it then."""
        while True:
            read = yield from self._read(task_type, pools=reads_pools)
            (found,) = read.types
            change(found.managed, read)
            info = found.info(read.now)
            fields = _fields_of(found.managed) if info.is_managed else ()
            if (not fields and not found.row) or (
                yield from self._sending.script("manage", task_type, found.row, *fields)
            ):
                break
        if not fields and not found.row:
            yield from self.tell_types([task_type])
        return info


def _left(info: TypeInfo) -> TypeInfo | None:
    """Returns what is left to say of a type; None if that is nothing."""
    return info if info.is_managed else None


def prune_rates(sending: Sending, task_types: Sequence[str]) -> Verb[None]:
    """Forgets the rates of keys that are full again, as those of keys are that have never started a task."""
    for task_type in task_types:
        place = yield from sending.script("rates", task_type, "0")
        while place != "0":
            place = yield from sending.script("rates", task_type, place)


# What is kept of a type -----------------------------------------------------------------------------------------------


class FoundType(NamedTuple):
    """Holds what was read of a task type.

    Attributes:
        row: what holds for it as JSON; empty if nothing does.
    """

    task_type: str
    row: str
    managed: ManagedType
    running: int
    waiting: int

    def info(self, now: datetime) -> TypeInfo:
        """Describes the type."""
        return self.managed.info(self.task_type, now, self.running, self.waiting)


class Types(NamedTuple):
    """Holds what was read at one moment of task types, and of the records of pools."""

    now: datetime
    types: list[FoundType]
    pools: list[Mapping[str, Any]]

    def kinds_of(self, task_type: str) -> set[str]:
        """Returns the kinds that pools of this type know."""
        return {kind for pool in self.pools if task_type in pool["task_types"] for kind in pool["kinds"]}


def _types_in(reply: Sequence[Any]) -> Types:
    now, pools, *rows = reply
    types = [
        FoundType(task_type, row, managed_in(task_type, row), int(running), int(waiting))
        for task_type, row, running, waiting in rows
    ]
    return Types(time_of(now), types, records_in(pools))


def managed_in(task_type: str, row: str) -> ManagedType:
    """Returns what holds for a type, from the text of its row; empty if nothing does.

    Raises ``BackendError``: to leave it out would be to forget a limit, or a pause.
    """
    try:
        return managed_from_json(row) if row else ManagedType()
    except UNREADABLE as error:
        raise unreadable(f"the row of task type {task_type!r:.80} in the hash managed:{task_type:.80}", error) from None


def _fields_of(managed: ManagedType) -> list[str]:
    """Returns the fields and values of a type's hash: its row, and the parts of it that scripts read."""
    settings = managed.settings
    fields = {"row": managed_as_json(managed)}
    if settings.is_limited:
        fields["limited"] = "1"
    if managed.paused:
        fields["until"] = _EVER if managed.paused_until is None else str(microseconds(managed.paused_until))
    if settings.max_running_per_key is not None:
        fields["key_most"] = str(settings.max_running_per_key)
    if settings.key_rate is not None:
        fields |= {"interval": str(microseconds(settings.key_rate.interval)), "burst": str(settings.key_rate.burst)}
    if settings.weights:
        fields["weights"] = as_json(settings.weights)
    return [text for pair in fields.items() for text in pair]


# What a claim sees ----------------------------------------------------------------------------------------------------


class Level(NamedTuple):
    """The lanes of one priority, as far as they were looked at.

    Attributes:
        reached: the last lane that was looked at, if there may be more.
        heads: the first tasks of each lane that the pool may run now.
    """

    reached: str | None
    heads: dict[str, list[UUID]]


class Look(NamedTuple):
    """Holds the facts, of one moment, that decide a claim; it shows ``pick`` the ids of tasks.

    Attributes:
        stands: whether plain claims leave the type alone, by the parts of the row that scripts read.
        fetched_last: the lane that tasks fetched by hand begin behind.
        running: how many tasks of each lane run that was looked at, if that is limited.
        all_running: how many tasks of the type run.
        tat, tats: when the rates of the type, and of lanes, are full again, before ``pick`` charges them.
    """

    now: datetime
    registered: bool
    version: str
    managed: ManagedType
    stands: bool
    fetched_last: str
    running: Mapping[str, int]
    all_running: int
    levels: Mapping[int, Level]
    tat: datetime
    tats: Mapping[str, datetime]

    def charges(self) -> Iterator[tuple[str, int, int]]:
        """Yields the rates that ``pick`` has charged: ``=`` and the lane, or nothing for that of the type; when it was
        full again, and by how much it is charged."""
        settings, managed = self.managed.settings, self.managed
        if settings.rate is not None:
            yield "", *_charge(settings.rate.clamped(self.tat, self.now), managed.tat)
        for lane, tat in managed.tats.items():
            before = self.tats.get(lane, NEVER)
            if settings.key_rate is not None and tat != before:
                yield f"={lane}", *_charge(settings.key_rate.clamped(before, self.now), tat)

    def lanes(self, priority: int, /) -> Lanes:
        """See ``Waiting``."""
        level = self.levels.get(priority, _NO_LANES)
        return Lanes(tuple(level.heads), level.reached)

    def heads(self, priority: int, lane: str, most: int, /) -> list[UUID]:
        """See ``Waiting``."""
        return self.levels[priority].heads[lane][:most]


_NO_LANES: Final = Level(None, {})


def _look_of(task_type: str, reply: Sequence[Any]) -> Look:
    now, registered, (version, row, tat, fetched, stands), running, *levels = reply
    managed = ManagedType(_settings_in(task_type, row)) if levels else managed_in(task_type, row)
    managed.tat = time_of(tat) if tat else NEVER
    found: dict[int, Level] = {}
    counts: dict[str, int] = {}
    for priority, reached, *lanes in levels:
        found[int(priority)] = Level(reached[1:] if reached else None, {lane: _ids(ids) for lane, _, ids, _ in lanes})
        managed.tats |= {lane: time_of(until) for lane, until, _, _ in lanes if until}
        counts |= {lane: runs for lane, _, _, runs in lanes}
    tat, tats = managed.tat, dict(managed.tats)
    return Look(
        time_of(now), bool(registered), version, managed, bool(stands), fetched, counts, running, found, tat, tats
    )


def _charge(before: datetime, after: datetime) -> tuple[int, int]:
    return microseconds(before), microseconds(after - before)


def _ids(texts: Sequence[str]) -> list[UUID]:
    return [found for found in map(id_in, texts) if found is not None]


@lru_cache(maxsize=256)
def _settings_in(task_type: str, row: str) -> FlowSettings:
    return managed_in(task_type, row).settings


class Started(NamedTuple):
    """Holds the tasks that a claim has started.

    Attributes:
        tasks: None if something has changed since it was picked.
        spoilt: those that cannot be read.
        moved: the one that stands elsewhere, if that is why nothing was started.
    """

    now: datetime
    registered: bool
    tasks: list[ClaimedTask] | None
    spoilt: Sequence[Spoilt] = ()
    moved: UUID | None = None


def _started_of(reply: Sequence[Any]) -> Started:
    now, registered, what, *rows = reply
    if what != "started":
        return Started(time_of(now), True, None, moved=UUID(rows[0]) if rows else None)
    tasks, spoilt = all_claimed(rows)
    return Started(time_of(now), bool(registered), tasks, spoilt)
