"""Keeps schedules, and makes their ticks.

Each is JSON text in one hash. Python decides by the pure moves of ``schedule_rows``; what comes of it, with the tasks
that a tick inserts or cancels, is written by one script, if the text is the same as before.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from fang_core.backends import schedule_rows as rules_of
from fang_core.backends.json_forms import Unreadable, schedule_as_json, schedule_named
from fang_core.backends.rows import after_cancel
from fang_core.backends.scheduling import is_listed, replaced, row_now, unknown_schedule
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.logs import SafeLogger
from fang_core.record import Task
from fang_core.remarks import Remark
from fang_core.schedules.stored import Backfill, Overlap, ScheduleInfo, Schedules, ScheduleSpec, Verdict
from fang_core.tasks.insertion import NewTask, Overrides, Rules
from fang_core.tasks.managing import Pause
from fang_core.words.moments import LATEST
from fang_redis.connections.sending import Read, ScheduleWrite, Sending, Write, Written, later, read_of
from fang_redis.operations import Operation, Verb
from fang_redis.records import UNREADABLE, pairs, time_of, unreadable
from fang_redis.tasks.inserting import Due, Inserting

T = TypeVar("T")

_LOGGER: Final = SafeLogger("fang_redis")

TICK_TRIES: Final = 3
"""How often a tick is tried if other processes write to the schedule; the pool then asks again a bit later."""


class Stored(NamedTuple):
    """A schedule as it was read.

    Attributes:
        name: its name.
        text: its row as JSON; empty if there is none.
        read: the task of its last tick, and the one that was asked for, if they are there.
    """

    name: str
    text: str
    read: Read

    @property
    def now(self) -> datetime:
        """The server's clock."""
        return self.read.now

    @property
    def info(self) -> ScheduleInfo | None:
        """Its row. Raises ``BackendError`` if another client has spoilt it: to leave it out would be to forget it."""
        return schedule_in(self.name, self.text) if self.text else None

    @property
    def last(self) -> Task | None:
        """The task of its last tick."""
        info = self.info
        return None if info is None else self.read.tasks.get(info.last_task_id)


class ScheduleRoom:
    """The verbs on schedules, of queues and of pools."""

    def __init__(self, sending: Sending, inserting: Inserting) -> None:
        self._sending = sending
        self._inserting = inserting

    # What applications do ---------------------------------------------------------------------------------------------

    def put(self, spec: ScheduleSpec, row: NewTask, said: Remark, /) -> Verb[ScheduleInfo]:
        """See ``ScheduleVerbs.put``."""
        return (
            yield from self._change(spec.name, lambda seen: rules_of.after_put(seen.info, spec, row, seen.now, said))
        )

    def pause(self, name: str, pause: Pause, /) -> Verb[ScheduleInfo]:
        """See ``ScheduleVerbs.pause``."""
        yield from self._known(name)
        return (yield from self._change(name, lambda seen: rules_of.after_pause(_there(name, seen), pause, seen.now)))

    def resume(self, name: str, said: Remark, /) -> Verb[ScheduleInfo]:
        """See ``ScheduleVerbs.resume``."""
        yield from self._known(name)
        return (
            yield from self._change(
                name, lambda seen: rules_of.after_resume(_there(name, seen), seen.last, seen.now, said)
            )
        )

    def remove(self, name: str, /) -> Verb[bool]:
        """See ``ScheduleVerbs.remove``."""
        while True:
            seen = yield from self._read(name)
            if seen.info is None:
                return False
            if (yield from self._write(name, seen, rules_of.after_removal(seen.info, seen.now), tells=True)).is_done:
                return True

    def list_all(self) -> Verb[Schedules]:
        """See ``ScheduleVerbs.list_all``."""
        now, rows = yield from self._all()
        return Schedules(now, sorted(filter(is_listed, itertools.starmap(schedule_in, sorted(rows)))))

    def run_now(self, name: str, task_id: UUID, rules: Rules, /) -> Verb[Task]:
        """See ``ScheduleVerbs.run_now``."""
        seen = yield from self._known(name)
        return (yield from self._inserting.insert(row_now(_there(name, seen), task_id, rules), Overrides(task_id)))

    def backfill(self, name: str, backfill: Backfill, rules: Rules, /) -> Verb[int]:
        """See ``ScheduleVerbs.backfill``. The ids of the tasks are those of their ticks, so that what is left of a call
        that was interrupted can be made up for by another one."""
        seen = yield from self._known(name)
        past = rules_of.past_tasks(_there(name, seen), backfill, seen.now, rules)
        if past and backfill.overlap is not Overlap.ALLOW:
            return (yield from self._backfill_one(name, past[0], backfill))
        if not rules_of.is_to_backfill(backfill, past, seen.last, is_there=False):
            return 0
        times = [each.due for each in past]
        rows = [each.row for each in past]
        inserted = yield from self._inserting.insert_rows(rows, Due(), times, whatever_they_hold=True)
        yield from self._change(
            name, lambda found: rules_of.after_backfill(_there(name, found), past[-1].at), tells=False
        )
        return sum(not task.conflict for task in inserted)

    def _backfill_one(self, name: str, past: rules_of.PastTask, backfill: Backfill) -> Verb[int]:
        """Inserts the task of one tick, and cancels that of the last one if the backfill says so, in one script."""
        while True:
            seen = yield from self._read(name, past.row.id)
            is_there = past.row.id in seen.read.tasks
            if not rules_of.is_to_backfill(backfill, [past], seen.last, is_there=is_there):
                return 0
            after = rules_of.after_backfill(_there(name, seen), past.at)
            cancelled = []
            if rules_of.cancels(backfill.overlap, seen.last):
                assert seen.last is not None
                cancelled = [_cancelled(name, seen.last, seen)]
            task, written = yield from self._insert(
                seen, name, past.row, due=past.due, others=cancelled, after=partial(_whatever, after)
            )
            if written.is_done:
                return int(not task.conflict)

    def tick_by_hand(self, tick: Tick, /) -> Verb[Task | None]:
        """See ``Verbs.tick_by_hand``."""
        while True:
            done = yield from self._tick(tick, by_hand=True)
            if done is not None:
                break
        task = done.task
        if task is None or not task.conflict:
            return task
        read = yield from self._sending.read([task.id])
        return read.tasks.get(task.id, task)._replace(conflict=True)

    # What pools do ----------------------------------------------------------------------------------------------------

    def declare_schedules(
        self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False, /
    ) -> Verb[None]:
        """See ``ScheduleStore.declare_schedules``."""
        for name, said in {**dict.fromkeys(dropped), **declared}.items():
            yield from self._declare(name, said, again)

    def _declare(self, name: str, said: Mapping[str, str] | None, again: bool) -> Verb[None]:
        while True:
            seen = yield from self._read(name)
            try:
                after = rules_of.after_declaration(seen.info, name, said, seen.now, again=again)
            except Unreadable:  # read_schedules() says so
                return
            if after == seen.info or (yield from self._write(name, seen, after)).is_done:
                return

    def read_schedules(
        self, names: Sequence[str], task_types: Sequence[str] = (), known: str = "", /
    ) -> Verb[ScheduleState]:
        """See ``ScheduleStore.read_schedules``.

        A schedule whose row cannot be read is left out, and makes no tick until the row is mended or removed. That is
        logged when the caller knows another version, and so once by each pool.
        """
        now, rows = yield from self._all()
        infos, spoilt = rules_of.readable(rows, schedule_in)
        there = {info.name: info for info in infos}
        for name in names:
            if name not in there and name not in spoilt:
                there[name] = yield from self._begun(name)
        wanted = [info for info in there.values() if rules_of.is_read(info, names, task_types)]
        version = rules_of.version_of(wanted) + (f" without {sorted(spoilt)}" if spoilt else "")
        last_ticks = {name: there[name].last_tick for name in names if name in there}
        last_ticks |= {name: LATEST for name in spoilt if name in names}  # no tick of its class is due after that
        if version != known:
            for error in spoilt.values():
                _LOGGER.error("a schedule is left out: %s", error)
        return ScheduleState(now, last_ticks, None if version == known else wanted, version)

    def _begun(self, name: str) -> Verb[ScheduleInfo]:
        """Has the schedule of a class begin now, unless it has begun."""
        return (yield from self._change(name, lambda seen: seen.info or ScheduleInfo(name, seen.now), tells=False))

    def tick(self, tick: Tick, /) -> Verb[bool | None]:
        """See ``ScheduleStore.tick``."""
        for _ in range(TICK_TRIES):
            try:
                done = yield from self._tick(tick, by_hand=False)
            except Unreadable:  # read_schedules() says so
                return False
            if done is not None:
                return done.raised
        return None

    def _tick(self, tick: Tick, *, by_hand: bool) -> Verb["Ticked | None"]:
        """Tries the tick of a class once; returns None if another process has written to the schedule meanwhile."""
        seen = yield from self._read(tick.name, tick.row.id)
        if not rules_of.is_to_tick(seen.info, tick, seen.now, by_hand=by_hand):
            return Ticked(False, None)

        def after(task: Task) -> ScheduleInfo | None:
            return rules_of.after_class_tick(seen.info, tick, task, seen.now) or seen.info

        task, written = yield from self._insert(seen, tick.name, tick.row, due=tick.at, others=(), after=after)
        if not written.is_done:
            return None
        return Ticked(after(task) != seen.info, task)

    def tick_stored(self, tick: Tick, /) -> Verb[Verdict]:
        """See ``ScheduleStore.tick_stored``."""
        for _ in range(TICK_TRIES):
            try:
                verdict = yield from self._tick_stored(tick)
            except Unreadable:
                return Verdict.STALE
            if verdict is not None:
                return verdict
        return Verdict.WAITS

    def _tick_stored(self, tick: Tick) -> Verb[Verdict | None]:
        seen = yield from self._read(tick.name, tick.row.id)
        info = seen.info
        refused = rules_of.refused(info, tick, seen.now)
        if refused is not None or info is None:
            return refused or Verdict.STALE
        verdict = rules_of.judged_by(info, seen.last)
        if verdict is Verdict.WAITS:
            return verdict
        if verdict is Verdict.TICKED:
            cancelled = []
            if rules_of.cancels(info.overlap, seen.last):
                assert seen.last is not None
                cancelled = [_cancelled(info.name, seen.last, seen)]

            def after(task: Task) -> ScheduleInfo:
                return rules_of.after_tick(info, tick, verdict, task, seen.now)

            due = tick.due or tick.at
            _, written = yield from self._insert(seen, tick.name, tick.row, due=due, others=cancelled, after=after)
        else:
            changed = rules_of.after_tick(info, tick, verdict, None, seen.now)
            written = yield from self._write(info.name, seen, changed, tells=verdict is Verdict.PAUSED)
        return verdict if written.is_done else None

    def _insert(
        self,
        seen: Stored,
        name: str,
        row: NewTask,
        *,
        due: datetime,
        others: Sequence[Write],
        after: Callable[[Task], ScheduleInfo | None],
    ) -> Verb[tuple[Task, Written]]:
        """Inserts the row of a tick, unless it is there or meets an equal one, writes the schedule after it and other
        tasks. Returns the task that is there then; if that is an equal one, no more than its id counts."""
        task = row.inserted(due, seen.now)
        there = seen.read.tasks.get(task.id)
        if there is None:
            writes = [*others, Write(None, task)]
            written = yield from self._inserting.confirmed(self._write(name, seen, after(task), writes))
            if written.twin is None:
                return written.of(task), written
            there = task._replace(id=written.twin[1])
        there = there._replace(conflict=True)
        return there, (yield from self._write(name, seen, after(there), others))

    # Both -------------------------------------------------------------------------------------------------------------

    def _read(self, name: str, task_id: UUID | None = None) -> Operation[Stored]:
        return self._sending.script(
            "schedule", name, "" if task_id is None else str(task_id), parse=partial(_stored_of, name)
        )

    def _known(self, name: str) -> Verb[Stored]:
        """Reads a schedule. Raises ``UnknownSchedule``."""
        seen = yield from self._read(name)
        if seen.info is None or not is_listed(seen.info):
            _, rows = yield from self._all()
            raise unknown_schedule(
                name, [info.name for info in rules_of.readable(rows, schedule_in)[0] if is_listed(info)]
            )
        return seen

    def _all(self) -> Verb[tuple[datetime, Iterable[tuple[str, str]]]]:
        """Reads the name and the row of each."""
        now, rows = yield from self._sending.script("schedules")
        return time_of(now), pairs(rows).items()

    def _change(self, name: str, change: Callable[[Stored], ScheduleInfo], *, tells: bool = True) -> Verb[ScheduleInfo]:
        """Writes a schedule as the function changes it; the function may be called more than once."""
        while True:
            seen = yield from self._read(name)
            after = change(seen)
            if after == seen.info or (yield from self._write(name, seen, after, tells=tells)).is_done:
                return after

    def _write(
        self,
        name: str,
        seen: Stored,
        after: ScheduleInfo | None,
        writes: Sequence[Write] = (),
        *,
        tells: bool = False,
    ) -> Operation[Written]:
        text = "" if after is None else seen.text if after == seen.info else schedule_as_json(after)
        return self._sending.write(writes, ScheduleWrite(name, seen.text, text, tells))


class Ticked(NamedTuple):
    """Says what a tick has done: whether the last tick was raised, and which task exists for it."""

    raised: bool
    task: Task | None


@lru_cache(maxsize=1_000)
def schedule_in(name: str, text: str) -> ScheduleInfo:
    """Returns the schedule of a text, which is read again and again. Raises ``BackendError`` for anything else."""
    try:
        return schedule_named(name, text)
    except UNREADABLE as error:
        raise unreadable(f"the row of schedule {name!r:.80} in the hash schedules", error) from None


def _stored_of(name: str, reply: Sequence[Any]) -> Stored:
    text, read = reply
    return Stored(name, text, read_of(read))


def _whatever(after: ScheduleInfo, _: Task) -> ScheduleInfo:
    """Returns the schedule, whatever task is there."""
    return after


def _there(name: str, seen: Stored) -> ScheduleInfo:
    info = seen.info
    if info is None or not is_listed(info):
        raise unknown_schedule(name)
    return info


def _cancelled(name: str, last: Task, seen: Stored) -> Write:
    after = after_cancel(last, replaced(name), later(seen.now, last))
    return Write(last, after, seen.read.waiting_hashes.get(last.id))
