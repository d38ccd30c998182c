"""Keeps the schedules of the memory backend, behind the lock of its state."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from fang_core.backends import schedule_rows
from fang_core.backends.rows import after_cancel
from fang_core.backends.scheduling import is_listed, replaced, row_now, unknown_schedule
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import SCHEDULES
from fang_core.record import Task
from fang_core.remarks import Remark
from fang_core.schedules.stored import Backfill, ScheduleInfo, Schedules, ScheduleSpec, Verdict
from fang_core.tasks.insertion import NewTask, Overrides, Rules
from fang_core.tasks.managing import Pause

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
            former = self.rows.get(spec.name)
            after = schedule_rows.after_put(former, spec, row, self._state.clock(), said)
            if after is former:
                return former
            self.rows[spec.name] = after
        self._state.listeners.tell(SCHEDULES)
        return after

    def pause(self, name: str, pause: Pause) -> ScheduleInfo:
        """Pauses a schedule. Raises ``UnknownSchedule``."""
        with self._state.lock:
            after = self.rows[name] = schedule_rows.after_pause(self._known(name), pause, self._state.clock())
        self._state.listeners.tell(SCHEDULES)
        return after

    def resume(self, name: str, said: Remark) -> ScheduleInfo:
        """Ends a pause: its ticks are not made up for. Raises ``UnknownSchedule``."""
        with self._state.lock:
            known = self._known(name)
            after = schedule_rows.after_resume(known, self._last_task(known), self._state.clock(), said)
            if after is known:
                return known
            self.rows[name] = after
        self._state.listeners.tell(SCHEDULES)
        return after

    def remove(self, name: str) -> bool:
        """Removes a schedule, or gives it back to the class that declares it; returns whether there was one."""
        with self._state.lock:
            known = self.rows.pop(name, None)
            if known is None:
                return False
            left = schedule_rows.after_removal(known, self._state.clock())
            if left is not None:
                self.rows[name] = left
        self._state.listeners.tell(SCHEDULES)
        return True

    def list_all(self, name: str | None = None) -> Schedules:
        """Returns all schedules, or the one of this name; without those of classes that no pool has declared."""
        with self._state.lock:
            wanted = [info for info in sorted(self.rows.values()) if is_listed(info)]
            return Schedules(self._state.clock(), [info for info in wanted if name in (None, info.name)])

    def run_now(self, name: str, task_id: UUID, rules: Rules) -> Task:
        """Inserts a task of a schedule that is due now, and is of no tick.

        Raises ``UnknownSchedule`` or ``IdInUse``.
        """
        with self._state.lock:
            row = row_now(self._known(name), task_id, rules)
        return self._state.insert([row], Overrides(task_id))[0]

    def backfill(self, name: str, backfill: Backfill, rules: Rules) -> int:
        """Inserts the tasks of past ticks that are not there; returns how many. See ``Backfill``.

        Raises ``UnknownSchedule`` or ``UsageError``.
        """
        with self._state.lock:
            now, info = self._state.clock(), self._known(name)
            last, past = self._last_task(info), schedule_rows.past_tasks(info, backfill, now, rules)
            is_there = bool(past) and past[0].row.id in self._state.tasks
            if not schedule_rows.is_to_backfill(backfill, past, last, is_there=is_there):
                return 0
            self.rows[name] = schedule_rows.after_backfill(info, past[-1].at)
            told = self._cancel(backfill.overlap, last, name, now)
            tasks = [self._insert(each.row, each.due, now) for each in past]
        self._state.listeners.tell_all(told)
        new = [task.task_type for task in tasks if not task.conflict]
        self._state.listeners.wake(new)
        return len(new)

    # What pools do ----------------------------------------------------------------------------------------------------

    def declare(self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False) -> None:
        """Notes what classes say of their schedules."""
        with self._state.lock:
            now = self._state.clock()
            for name, says in {**declared, **dict.fromkeys(dropped)}.items():
                after = schedule_rows.after_declaration(self.rows.get(name), name, says, now, again=again)
                if after is not None:
                    self.rows[name] = after

    def read(self, names: Sequence[str], task_types: Sequence[str] = (), known: str = "") -> ScheduleState:
        """Returns the last ticks; a schedule of a class that no pool has read before begins now."""
        with self._state.lock:
            now = self._state.clock()
            last_ticks = {name: self.rows.setdefault(name, ScheduleInfo(name, now)).last_tick for name in names}
            wanted = [info for info in self.rows.values() if schedule_rows.is_read(info, last_ticks, task_types)]
            version = schedule_rows.version_of(wanted)
            return ScheduleState(now, last_ticks, None if version == known else wanted, version)

    def tick(self, tick: Tick) -> bool:
        """Inserts one task for each tick of a class, if called again too; returns whether the last tick was raised."""
        raised, _ = self._tick(tick, by_hand=False)
        return raised

    def tick_by_hand(self, tick: Tick) -> Task | None:
        """Does what ``tick`` does; returns the task that exists now, or None if the tick was done before."""
        _, task = self._tick(tick, by_hand=True)
        return task

    def _tick(self, tick: Tick, *, by_hand: bool) -> tuple[bool, Task | None]:
        with self._state.lock:
            now, info = self._state.clock(), self.rows.get(tick.name)
            if not schedule_rows.is_to_tick(info, tick, now, by_hand=by_hand):
                return False, None
            task = self._insert(tick.row, tick.at, now)
            after = schedule_rows.after_class_tick(info, tick, task, now)
            if after is not None:
                self.rows[tick.name] = after
        if not task.conflict:
            self._state.listeners.wake([task.task_type])
        return after is not None, task

    def tick_stored(self, tick: Tick) -> Verdict:
        """See ``ScheduleStore.tick_stored``."""
        with self._state.lock:
            now, info = self._state.clock(), self.rows.get(tick.name)
            refused = schedule_rows.refused(info, tick, now)
            if refused is not None or info is None:
                return refused or Verdict.STALE
            last = self._last_task(info)
            verdict = schedule_rows.judged_by(info, last)
            told: list[UUID] = [SCHEDULES] if verdict is Verdict.PAUSED else []
            task = None
            if verdict is Verdict.TICKED:
                told = self._cancel(info.overlap, last, info.name, now)
                task = self._insert(tick.row, tick.due or tick.at, now)
            self.rows[tick.name] = schedule_rows.after_tick(info, tick, verdict, task, now)
        self._state.listeners.tell_all(told)
        if task is not None and not task.conflict:
            self._state.listeners.wake([task.task_type])
        return verdict

    def _insert(self, row: NewTask, due: datetime, now: datetime) -> Task:
        """Inserts the task of a tick, unless it exists: it may have been edited since."""
        there = self._state.tasks.get(row.id)
        return self._state.insert_row(row, due, now) if there is None else there._replace(conflict=True)

    def _known(self, name: str) -> ScheduleInfo:
        info = self.rows.get(name)
        if info is None or not is_listed(info):
            raise unknown_schedule(name, [each.name for each in self.rows.values() if is_listed(each)])
        return info

    def _last_task(self, info: ScheduleInfo) -> Task | None:
        return None if info.last_task_id is None else self._state.tasks.get(info.last_task_id)

    def _cancel(self, overlap: str, last: Task | None, name: str, now: datetime) -> list[UUID]:
        """Cancels the last task, if it is to be; returns the pools to notify."""
        if last is None or not schedule_rows.cancels(overlap, last):
            return []
        self._state.tasks[last.id] = after_cancel(last, replaced(name), now)
        return [] if last.pool_id is None else [last.pool_id]
