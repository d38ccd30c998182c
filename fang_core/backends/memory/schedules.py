"""The schedules of the memory backend, behind the lock of its state."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from fang_core.backends.memory.rows import after_cancel, can_be_cancelled
from fang_core.backends.scheduling import (
    PAUSER,
    due_at,
    replaced,
    row_now,
    row_of_past,
    unknown_schedule,
)
from fang_core.backends.store import SCHEDULES, ScheduleState, Tick
from fang_core.record import Task, TaskState
from fang_core.remarks import Remark
from fang_core.schedules.schedule import Cron, Every, ScheduleOnce
from fang_core.schedules.stored import (
    MICROSECOND,
    Backfill,
    Overlap,
    ScheduleInfo,
    Schedules,
    ScheduleSpec,
    Verdict,
    backfilled,
    begins_anew,
    judged,
)
from fang_core.tasks.insertion import NewTask, Overrides, Rules
from fang_core.tasks.managing import Pause
from fang_core.tasks.stored import stored_options

if TYPE_CHECKING:
    from fang_core.backends.memory.state import MemoryState


class MemorySchedules:
    """All schedules of a ``MemoryState``, and every verb on them."""

    def __init__(self, state: "MemoryState") -> None:
        self._state = state
        self.rows: dict[str, ScheduleInfo] = {}

    # What applications do ---------------------------------------------------------------------------------------------

    def put(self, spec: ScheduleSpec, row: NewTask, said: Remark) -> ScheduleInfo:
        """Stores a schedule and the task of its ticks; one that is the same already stays as it is."""
        with self._state.lock:
            now = self._state.clock()
            former = self.rows.get(spec.name)
            known = former or ScheduleInfo(spec.name, now)
            schedule = spec.schedule
            put = known._replace(
                kind=row.kind,
                task_type=stored_options(row)["task_type"],
                metadata=row.metadata,
                options=stored_options(row),
                cron=schedule.pattern if isinstance(schedule, Cron) else None,
                every=schedule.interval if isinstance(schedule, Every) else None,
                at=schedule.at if isinstance(schedule, ScheduleOnce) else None,
                anchor=_anchor(schedule, known, now) if isinstance(schedule, Every) else None,
                **{name: getattr(spec, name) for name in _OF_SPEC},
            )
            if put == former:
                return former
            if begins_anew(known, put):
                put = put._replace(last_tick=max(known.last_tick, now))
            changed = self._change(put, now, said)
        self._state.tell(SCHEDULES)
        return changed

    def pause(self, name: str, pause: Pause) -> ScheduleInfo:
        """Pauses a schedule. Raises ``UnknownSchedule``."""
        with self._state.lock:
            now, known = self._state.clock(), self._known(name)
            changed = self._change(_paused(known, pause, now), now, pause.remark)
        self._state.tell(SCHEDULES)
        return changed

    def resume(self, name: str, said: Remark) -> ScheduleInfo:
        """Ends a pause: its ticks are not made up for. Raises ``UnknownSchedule``."""
        with self._state.lock:
            now, known = self._state.clock(), self._known(name)
            if not known.paused:
                return known
            ended = now if known.paused_until is None else min(now, known.paused_until - MICROSECOND)
            last = self._last_task(known)
            resumed = known._replace(
                last_tick=max(known.last_tick, ended),
                last_task_id=None if last is not None and last.state is TaskState.FAILED else known.last_task_id,
                paused=False,
                paused_until=None,
                paused_at=None,
                paused_by=None,
                pause_reason=None,
            )
            changed = self._change(resumed, now, said)
        self._state.tell(SCHEDULES)
        return changed

    def remove(self, name: str) -> bool:
        """Removes a schedule, or gives it back to the class that declares it; returns whether there was one."""
        with self._state.lock:
            known = self.rows.pop(name, None)
            if known is None:
                return False
            if known.declared is not None and (known.is_stored or known.changed_at is not None):
                now = self._state.clock()
                self.rows[name] = ScheduleInfo(name, max(known.last_tick, now), declared=known.declared)
        self._state.tell(SCHEDULES)
        return True

    def list_all(self, name: str | None = None) -> Schedules:
        """Returns all schedules, or the one of this name; without those of classes that nobody has declared."""
        with self._state.lock:
            infos = sorted(self.rows.values())
            wanted = [info for info in infos if info.is_stored or info.declared is not None or info.paused]
            return Schedules(self._state.clock(), [info for info in wanted if name in (None, info.name)])

    def run_now(self, name: str, rules: Rules) -> Task:
        """Inserts a task of a schedule that is due now, and is of no tick. Raises ``UnknownSchedule``."""
        with self._state.lock:
            row = row_now(self._known(name), rules)
        return self._state.insert([row], Overrides())[0]

    def backfill(self, name: str, backfill: Backfill, rules: Rules) -> int:
        """Inserts the tasks of past ticks that are not there; returns how many. See ``Backfill``.

        Raises ``UnknownSchedule`` or ``UsageError``.
        """
        with self._state.lock:
            now, info = self._state.clock(), self._known(name)
            ticks = backfilled(info, backfill, now)
            last = self._last_task(info)
            if not ticks or judged(backfill.overlap, None if last is None else last.state) is not Verdict.TICKED:
                return 0
            rows = [(row_of_past(info, at, now, rules), due_at(info, at)) for at in ticks]
            self.rows[name] = info._replace(last_tick=max(info.last_tick, ticks[-1]))
            told = self._cancel(backfill.overlap, last, name, now)
            tasks = [self._state.insert_row(row, due, now) for row, due in rows]
        self._state.tell_all(told)
        new = [task.task_type for task in tasks if not task.conflict]
        self._state.wake(new)
        return len(new)

    # What pools do ----------------------------------------------------------------------------------------------------

    def declare(self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str]) -> None:
        """Notes what classes say of their schedules."""
        with self._state.lock:
            now = self._state.clock()
            for name, each in declared.items():
                self.rows[name] = self.rows.get(name, ScheduleInfo(name, now))._replace(declared=each)
            for name in dropped:
                if name in self.rows:
                    self.rows[name] = self.rows[name]._replace(declared=None)

    def read(self, names: Sequence[str], task_types: Sequence[str] = (), known: str = "") -> ScheduleState:
        """Returns the last ticks; a schedule of a class that no pool has read before begins now."""
        with self._state.lock:
            now = self._state.clock()
            last_ticks = {name: self.rows.setdefault(name, ScheduleInfo(name, now)).last_tick for name in names}
            wanted = [
                info
                for info in self.rows.values()
                if (info.is_stored and info.task_type in task_types)
                or (info.name in last_ticks and info.changed_at is not None)
            ]
            version = str(sorted((info.name, info.changed_at) for info in wanted))
            return ScheduleState(now, last_ticks, None if version == known else wanted, version)

    def tick(self, tick: Tick) -> bool:
        """One task for each tick of a class, however often it is asked for; whether the last tick was raised."""
        raised, _ = self._tick(tick, by_hand=False)
        return raised

    def tick_by_hand(self, tick: Tick) -> Task | None:
        """Like ``tick``; the task that is there now, or None where the tick lies back and was done before."""
        _, task = self._tick(tick, by_hand=True)
        return task

    def _tick(self, tick: Tick, *, by_hand: bool) -> tuple[bool, Task | None]:
        with self._state.lock:
            now = self._state.clock()
            is_ahead = tick.at > now
            info = self.rows.get(tick.name)
            is_news = info is None or info.last_tick < tick.at
            if not is_news and not (by_hand and is_ahead):
                return False, None
            if info is not None and not by_hand and (info.is_stored or info.is_paused(tick.at)):
                return False, None
            there = self._state.tasks.get(tick.row.id)
            task = self._state.insert_row(tick.row, tick.at, now) if there is None else there._replace(conflict=True)
            # A twin leaves a tick out when its time has come, not ahead of it: the twin may have ended by then.
            raised = is_news and (not is_ahead or task.id == tick.row.id)
            if raised:
                known = info or ScheduleInfo(tick.name, now)
                self.rows[tick.name] = known._replace(last_tick=tick.at)
        if not task.conflict:
            self._state.wake([task.task_type])
        return raised, task

    def tick_stored(self, tick: Tick) -> Verdict:
        """See ``ScheduleStore.tick_stored``."""
        with self._state.lock:
            now, info = self._state.clock(), self.rows.get(tick.name)
            refused = _refused(info, tick, now)
            if refused is not None or info is None:
                return refused or Verdict.STALE
            last = self._last_task(info)
            state = None if last is None else last.state
            verdict = judged(info.overlap, state, pause_on_failure=info.pause_on_failure)
            if verdict is Verdict.WAITS:
                return verdict
            told: list[UUID] = []
            woken: list[str] = []
            if verdict is Verdict.PAUSED:
                why = Remark(PAUSER, f"task {info.last_task_id} of its last tick has failed")
                self._change(_paused(info, Pause(None, None, why), now), now, why)
                told = [SCHEDULES]
            elif verdict is Verdict.SKIPPED:
                self.rows[tick.name] = info._replace(last_tick=tick.at)
            else:
                told = self._cancel(info.overlap, last, info.name, now)
                task = self._state.insert_row(tick.row, tick.due or tick.at, now)
                last_id = info.last_task_id if task.conflict else task.id
                self.rows[tick.name] = info._replace(last_tick=tick.at, last_task_id=last_id)
                woken = [] if task.conflict else [task.task_type]
        self._state.tell_all(told)
        self._state.wake(woken)
        return verdict

    def _known(self, name: str) -> ScheduleInfo:
        info = self.rows.get(name)
        if info is None:
            raise unknown_schedule(name, self.rows)
        return info

    def _last_task(self, info: ScheduleInfo) -> Task | None:
        return None if info.last_task_id is None else self._state.tasks.get(info.last_task_id)

    def _cancel(self, overlap: str, last: Task | None, name: str, now: datetime) -> list[UUID]:
        """Cancels the last task, if it is to be; returns the pools to tell."""
        if overlap != Overlap.CANCEL_RUNNING or last is None or not can_be_cancelled(last):
            return []
        self._state.tasks[last.id] = after_cancel(last, replaced(name), now)
        return [] if last.pool_id is None else [last.pool_id]

    def _change(self, info: ScheduleInfo, now: datetime, said: Remark) -> ScheduleInfo:
        """Writes a changed row. The time of its change is always another one, so that no pool takes it for the same."""
        before = self.rows.get(info.name)
        changed_at = now if before is None or before.changed_at is None else max(now, before.changed_at + MICROSECOND)
        changed = info._replace(changed_at=changed_at, changed_by=said.by, change_reason=said.reason)
        self.rows[info.name] = changed
        return changed


_OF_SPEC = ("tz", "overlap", "missed", "missed_within", "jitter", "until", "pause_on_failure")


def _anchor(schedule: Every, known: ScheduleInfo, now: datetime) -> datetime:
    if schedule.anchor is not None:
        return schedule.anchor
    return known.anchor if known.anchor and known.every == schedule.interval else now.replace(microsecond=0)


def _paused(info: ScheduleInfo, pause: Pause, now: datetime) -> ScheduleInfo:
    by, reason = pause.remark
    return info._replace(paused=True, paused_until=pause.end(now), paused_at=now, paused_by=by, pause_reason=reason)


def _refused(info: ScheduleInfo | None, tick: Tick, now: datetime) -> Verdict | None:
    """Returns why the tick is not made, before the task of the last one is looked at."""
    if info is None or not info.is_stored or info.changed_at != tick.changed_at or info.is_paused(tick.at):
        return Verdict.STALE
    if tick.at > now:
        return Verdict.STALE
    if info.last_tick >= tick.at:
        return Verdict.DONE
    return Verdict.LATE if info.missed_within is not None and now - tick.at > info.missed_within else None
