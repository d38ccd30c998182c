"""Implements the memory backend, as one pure state behind one lock; the clock is an argument."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pydantic_core import from_json

from fang_core.backends.claims import NO_TRANSACTIONS, Claim, ClaimRequest, LaneClaim, LaneRequest
from fang_core.backends.conflicts import after_conflict
from fang_core.backends.managed import ManagedType, WaitingTasks, pick
from fang_core.backends.memory.audit import MemoryAudit
from fang_core.backends.memory.listeners import Listeners
from fang_core.backends.memory.managing import MemoryManaging
from fang_core.backends.memory.outlook import MemoryOutlook
from fang_core.backends.memory.pool_registry import MemoryPool, MemoryPoolRegistry
from fang_core.backends.memory.schedules import MemorySchedules
from fang_core.backends.memory.stats import MemoryStats
from fang_core.backends.memory.uniques import Uniques
from fang_core.backends.pools import PruneRequest, Rescued
from fang_core.backends.rows import (
    after_cancel,
    after_change,
    after_edit,
    after_outcome,
    after_rescue,
    as_claimed,
    can_be_cancelled,
    gives_back,
    is_as_read,
)
from fang_core.backends.verbs import Fetched
from fang_core.config import RetentionMode
from fang_core.crashes import after_crash, group_limit, is_suspect, runs_apart
from fang_core.errors import IdInUse, StaleTask, TaskLost, TwinExists
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES, Change, Outcome, cancelled_by_hand, change_by_hand
from fang_core.record import Task, TaskState, as_progress, waiting_state, was_charged
from fang_core.runs.run import Run
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.editing import Edit, edit_meets_twin
from fang_core.tasks.insertion import NewTask, Overrides, refuse_equal, twin_of

Clock = Callable[[], datetime]


def utc_clock() -> datetime:
    """The wall clock, with its zone."""
    return datetime.now(UTC)


@dataclass(slots=True)
class MemoryState:
    """All tasks, pools and schedules of a memory backend, and the verbs on tasks; its parts have the other verbs.

    Share one between a ``MemoryQueue`` and an ``AsyncMemoryQueue`` to let either mode insert for the other.
    """

    clock: Clock = utc_clock
    tasks: dict[UUID, Task] = field(default_factory=dict)
    pools: dict[UUID, MemoryPool] = field(default_factory=dict)
    waiting: set[UUID] = field(default_factory=set)
    types: dict[str, ManagedType] = field(default_factory=dict)
    uniques: Uniques = field(default_factory=Uniques)
    listeners: Listeners = field(default_factory=Listeners)
    last_message: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    schedules: MemorySchedules = field(init=False)
    audit: MemoryAudit = field(init=False)
    stats: MemoryStats = field(init=False)
    managing: MemoryManaging = field(init=False)
    registry: MemoryPoolRegistry = field(init=False)
    outlook: MemoryOutlook = field(init=False)

    def __post_init__(self) -> None:
        self.schedules = MemorySchedules(self)
        self.audit = MemoryAudit(self)
        self.stats = MemoryStats(self)
        self.managing = MemoryManaging(self)
        self.registry = MemoryPoolRegistry(self)
        self.outlook = MemoryOutlook(self)

    @property
    def rows(self) -> list[Task]:
        """All rows, in the order of their insertion."""
        with self.lock:
            return list(self.tasks.values())

    # What applications do ---------------------------------------------------------------------------------------------

    def insert(self, rows: Sequence[NewTask], overrides: Overrides) -> list[Task]:
        """Adds rows, due as the overrides say; all of them or none. Raises ``IdInUse``."""
        with self.lock:
            now = self.clock()
            due = overrides.scheduled_at or now + (overrides.delay or timedelta(0))
            self._raise_if_told(rows, now)
            tasks = [self.insert_row(row, due, now, is_due_given=overrides.gives_due_time) for row in rows]
            # A task that was inserted may have been replaced by an equal one of the same call.
            tasks = [self.tasks.get(task.id, task)._replace(conflict=task.conflict) for task in tasks]
        changing = {"replace", "postpone"}
        told = [task for row, task in zip(rows, tasks, strict=True) if not task.conflict or row.on_conflict in changing]
        self.listeners.wake(task.task_type for task in told)
        return tasks

    def insert_row(self, row: NewTask, due: datetime, now: datetime, *, is_due_given: bool = True) -> Task:
        """Adds one row, under the lock; wakes no pool. Raises ``IdInUse``."""
        twin = self.uniques.twin(row, self.tasks.values(), now)
        existing = self.tasks.get(row.id)
        if existing is not None and not (twin is existing and row.on_conflict == "replace"):
            if existing.metadata != from_json(row.metadata):
                raise IdInUse(f"another task has the id {row.id}")
            return existing._replace(conflict=True)
        if twin is None:
            task = self.tasks[row.id] = self.in_lane(row.inserted(due, now), now)
            self.uniques.add(row, now)
            return task
        task = after_conflict(twin, row, due, now, is_due_given=is_due_given)
        if task is not twin:
            task = self.tasks[task.id] = self.in_lane(task, now)
        return task._replace(conflict=True)

    def in_lane(self, task: Task, now: datetime) -> Task:
        """The task with a lane, if its type is managed."""
        return task._replace(lane="") if task.lane is None and self._is_managed(task.task_type, now) else task

    def _raise_if_told(self, rows: Sequence[NewTask], now: datetime) -> None:
        """Raises ``TwinExists`` if one of the rows meets an equal task, and is to raise then."""
        for row in rows:
            if row.on_conflict == "raise" and row.id not in self.tasks:
                twin = self.uniques.twin(row, self.tasks.values(), now)
                if twin is not None:
                    raise twin_of(twin)
        refuse_equal(rows)

    def find(self, task_id: UUID) -> Task | None:
        """The row as it is now."""
        with self.lock:
            task = self.tasks.get(task_id)
            pool = None if task is None or task.pool_id is None else self.pools.get(task.pool_id)
            if task is None or pool is None:
                return task
            told = pool.runs.get(str(task_id))
            if not isinstance(told, Mapping) or told.get("attempt") != task.attempt:
                return task
            return task._replace(progress=as_progress(told.get("progress")))

    def is_unchanged(self, read: Task) -> bool:
        """Returns whether the row of a task is as it was read."""
        return is_as_read(read, self.tasks.get(read.id))

    def _unchanged(self, read: Task) -> Task:
        """The row of a task that was read. Raises ``StaleTask``."""
        if not self.is_unchanged(read):
            raise StaleTask(f"task {read.id} has changed since it was read: read it again")
        return self.tasks[read.id]

    def edit(self, edit: Edit) -> Task:
        """Changes payload and options of a waiting task. Raises ``StaleTask`` or ``TwinExists``."""
        with self.lock:
            now = self.clock()
            task = self._unchanged(edit.task)
            if self.uniques.edited(task, edit.compared, self.tasks.values()):
                raise edit_meets_twin(task.id)
            after = self.tasks[task.id] = self.in_lane(after_edit(task, edit, now), now)
        self.listeners.wake([after.task_type])
        return after

    def change(self, change: Change) -> Task:
        """A move by hand. Raises ``StaleTask`` or ``TwinExists``."""
        with self.lock:
            read = change.task
            task = self._unchanged(read)
            if change.revives and self.uniques.has_twin(task, self.tasks.values()):
                raise TwinExists(f"task {read.id} cannot be revived: an equal unique task is waiting or running")
            changed = self.tasks[task.id] = after_change(task, change, self.clock())
        self.listeners.wake([changed.task_type])
        if task.state is TaskState.IN_PROGRESS and task.task_type in self.types:
            self.listeners.tell_types([task.task_type])  # of its slot
        return changed

    def cancel(self, which: Callable[[Task], bool], cancellation: Cancellation) -> int:
        """Cancels the waiting tasks of which this is true, and marks those in progress; how many."""
        with self.lock:
            now = self.clock()
            wanted = [task for task in self.tasks.values() if can_be_cancelled(task) and which(task)]
            for task in wanted:
                self.tasks[task.id] = after_cancel(task, cancellation, now)
        self.listeners.tell_all({task.pool_id for task in wanted if task.pool_id is not None})
        return len(wanted)

    def retry(self, which: Callable[[Task], bool]) -> int:
        """Revives ended tasks of which this is true, unless they have twins, and has those due that wait for a retry;
        how many."""
        with self.lock:
            now = self.clock()
            wanted = sorted((task for task in self.tasks.values() if which(task)), key=lambda each: each.updated_at)
            changed = [after for task in reversed(wanted) if (after := self._retried(task, now)) is not None]
        self.listeners.wake(task.task_type for task in changed)
        return len(changed)

    def _retried(self, task: Task, now: datetime) -> Task | None:
        if task.state in TERMINAL_STATES and not self.uniques.has_twin(task, self.tasks.values()):
            after = after_change(task, change_by_hand(task, TaskState.NEW), now)
        elif task.state is TaskState.RETRIED and task.scheduled_at > now:
            after = task._replace(scheduled_at=now, updated_at=now)
        else:
            return None
        self.tasks[task.id] = after
        return after

    def remove(self, which: Callable[[Task], bool]) -> int:
        """Removes the tasks of which this is true; how many."""
        with self.lock:
            gone = self._removed(which)
        return self._after_removal(gone)

    def remove_one(self, task_id: UUID) -> int:
        """Removes a task, and ends the period of one that is gone already; how many tasks."""
        with self.lock:
            gone = self._removed(lambda task: task.id == task_id)
            self.uniques.forget([task_id])
        return self._after_removal(gone)

    def remove_twin(self, compared: str) -> int:
        """Removes the unique task with this hash that has not ended, and ends its period; how many tasks."""
        with self.lock:
            gone = self._removed(lambda task: self.uniques.is_compared_by(task, compared))
            self.uniques.periods.pop(compared, None)
        return self._after_removal(gone)

    def _removed(self, which: Callable[[Task], bool]) -> list[Task]:
        gone = [task for task in self.tasks.values() if which(task)]
        for task in gone:
            del self.tasks[task.id]
        self.uniques.forget([task.id for task in gone])
        return gone

    def _after_removal(self, gone: Sequence[Task]) -> int:
        """Notifies pools of the slots of removed tasks; returns how many these are."""
        running = {task.task_type for task in gone if task.state is TaskState.IN_PROGRESS}
        self.listeners.tell_types(sorted(running & self.types.keys()))
        return len(gone)

    def fetch_and_touch(self, task_type: str, pool_id: UUID) -> Fetched:
        """Claims the first due task of a type for a pool."""
        with self.lock:
            now = self.clock()
            if pool_id not in self.pools:
                return Fetched(None, registered=False)
            while (due := self._first_due(task_type, now)) is not None:
                task = self._take(due, pool_id, now)
                cancelled = cancelled_by_hand(task)
                if cancelled is None:
                    return Fetched(task)
                self.change(cancelled)
            return Fetched(None)

    def _first_due(self, task_type: str, now: datetime) -> Task | None:
        """The task of a type that is to be run first; None if none may start now."""
        due = self.due((task_type,), None, now)
        managed = self.types.get(task_type)
        if managed is None or not managed.is_managed(now):
            return next(iter(due), None)
        if managed.is_paused(now):
            return None
        after_lane = managed.fetched_last
        waiting = WaitingTasks(due, after_lane, len(due) + 1)
        picked = pick(managed, waiting, self.running(task_type), limit=1, after_lane=after_lane, now=now)
        managed.fetched_last = picked.after_lane or ""
        return next(iter(picked.tasks), None)

    # What pools do ----------------------------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest) -> Claim:
        """Marks due tasks as held by the pool."""
        with self.lock:
            now = self.clock()
            if request.pool_id not in self.pools:
                return Claim([], now, NO_TRANSACTIONS, registered=False)
            managed = tuple(each for each in request.task_types if self._is_managed(each, now))
            plain = [each for each in request.task_types if each not in managed]
            due = self.due(plain, request.kinds, now)
            if request.retries_first:
                place = {task_type: place for place, task_type in enumerate(request.task_types)}
                due.sort(key=lambda task: (place[task.task_type], task.priority, not was_charged(task)))
            wanted = [task for task in due if _is_wanted(task, request)][: request.limit]
            tasks = [as_claimed(self._take(task, request.pool_id, now)) for task in wanted]
            return Claim(tasks, now, NO_TRANSACTIONS, True, managed)

    def claim_lanes(self, request: LaneRequest) -> LaneClaim:
        """Marks due tasks of a managed type as held by the pool."""
        with self.lock:
            now = self.clock()
            claim = LaneClaim([], now, NO_TRANSACTIONS, registered=request.pool_id in self.pools)
            managed = self.types.get(request.task_type)
            if managed is None or not managed.is_managed(now):
                return claim._replace(is_managed=False)
            if managed.is_paused(now):
                end = managed.paused_until
                return claim._replace(look_in=None if end is None else (end - now).total_seconds())
            if not claim.registered:
                return claim
            due = [each for each in self.due((request.task_type,), request.kinds, now) if _is_wanted(each, request)]
            picked = pick(
                managed,
                WaitingTasks(due, request.after_lane, request.most_lanes),
                self.running(request.task_type),
                limit=request.limit,
                after_lane=request.after_lane,
                now=now,
                quantum=request.quantum,
            )
            tasks = [as_claimed(self._take(task, request.pool_id, now)) for task in picked.tasks]
            return claim._replace(
                tasks=tasks,
                room=picked.room,
                look_in=picked.look_in,
                after_lane=picked.after_lane,
                is_counted=managed.is_counted,
                is_short=picked.is_short,
                cut_at=picked.cut_at,
            )

    def _is_managed(self, task_type: str, now: datetime) -> bool:
        managed = self.types.get(task_type)
        return managed is not None and managed.is_managed(now)

    def running(self, task_type: str) -> dict[str, int]:
        """Returns how many tasks of each key run."""
        of_type = (task for task in self.tasks.values() if task.task_type == task_type)
        return Counter(task.lane or "" for task in of_type if task.state is TaskState.IN_PROGRESS)

    def due(self, task_types: Sequence[str], kinds: Sequence[str] | None, now: datetime) -> list[Task]:
        """Returns them in the order in which they are to be run."""
        order = {task_type: place for place, task_type in enumerate(task_types)}
        return sorted(
            (
                task
                for task in self.tasks.values()
                if task.state in DUE_STATES
                and task.scheduled_at <= now
                and task.task_type in order
                and (kinds is None or task.kind in kinds)
            ),
            key=lambda task: (order[task.task_type], task.priority, task.scheduled_at, task.id),
        )

    def _take(self, task: Task, pool_id: UUID, now: datetime) -> Task:
        taken = self.tasks[task.id] = task._replace(
            state=TaskState.IN_PROGRESS,
            attempt=task.attempt + 1,
            pool_id=pool_id,
            claimed_at=now,
            updated_at=now,
        )
        return taken

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome]) -> set[UUID]:
        """Writes the outcomes that pass the fence; the ids of those."""
        written: dict[UUID, Task] = {}
        with self.lock:
            now = self.clock()
            for outcome in outcomes:
                task = self.tasks.get(outcome.id)
                if task is None or (task.attempt, task.pool_id) != (outcome.attempt, pool_id):
                    continue
                written[outcome.id] = task
                if outcome.state is None:
                    del self.tasks[outcome.id]
                else:
                    self.tasks[outcome.id] = after_outcome(task, outcome, outcome.state, now)
        self.listeners.wake(written[outcome.id].task_type for outcome in outcomes if gives_back(outcome, written))
        return set(written)

    def complete_run(self, run: Run) -> None:
        """A run completes its own task. Raises ``TaskLost``."""
        with self.lock:
            task = self.tasks.get(run.task.id)
            if task is None or (task.attempt, task.pool_id) != (run.task.attempt, run.pool_id):
                raise TaskLost(f"the run no longer holds task {run.task.id}")
            run.completed = True
            if run.retention_mode is RetentionMode.KEEP_ALL:
                outcome = Outcome(task.id, task.attempt, TaskState.FINISHED)
                self.tasks[task.id] = after_outcome(task, outcome, TaskState.FINISHED, self.clock())
            else:
                del self.tasks[task.id]

    def reconcile(self, pool_id: UUID, known: Sequence[UUID]) -> int:
        """Gives back what the pool holds without knowing it."""
        with self.lock:
            unknown = [task for task in self.held_by(pool_id) if task.id not in known]
            for task in unknown:
                state = waiting_state(task.retries, task.crashes)
                self.tasks[task.id] = task._replace(state=state, pool_id=None, claimed_at=None, updated_at=self.clock())
        self.listeners.wake(task.task_type for task in unknown)
        return len(unknown)

    def rescue(self, pool_id: UUID, *, was_stopping: bool, max_crashes: int) -> list[Rescued]:
        """Takes back what a dead pool held.

        No heart of this backend rescues, since all pools share a process: only a caller can know that one of them is
        dead, such as a test that plays its death.
        """
        with self.lock:
            now = self.clock()
            held = self.held_by(pool_id)
            record = self.pools[pool_id].record if pool_id in self.pools else None
            rescued: list[Rescued] = []
            for task in held:
                after = after_crash(
                    task,
                    was_stopping=was_stopping,
                    held=len(held),
                    workers=None if record is None else record.workers,
                    max_crashes=max_crashes,
                    is_isolated=record is not None and task.kind in record.isolated_kinds,
                )
                self.tasks[task.id] = after_rescue(task, after, now)
                told = (task.id, task.kind, task.attempt, after.crashes, after.state, was_stopping, after.is_charged)
                rescued.append(Rescued(*told, task_type=task.task_type))
        self.listeners.wake(task.task_type for task in held)
        return rescued

    def held_by(self, pool_id: UUID) -> list[Task]:
        return [task for task in self.tasks.values() if task.pool_id == pool_id]

    def orphaned(self) -> set[UUID]:
        """Returns the pools that hold tasks and have no record."""
        with self.lock:
            return {task.pool_id for task in self.tasks.values() if task.pool_id is not None} - self.pools.keys()

    def prune(self, request: PruneRequest) -> int:
        """Deletes rows of some task types whose life ended long enough ago."""
        ages = {
            TaskState.FINISHED: request.keep_finished,
            TaskState.CANCELLED: request.keep_finished,
            TaskState.FAILED: request.keep_failed,
        }
        with self.lock:
            now = self.clock()
            old = [
                task.id
                for task in self.tasks.values()
                if task.task_type in request.task_types
                and (keep := ages.get(task.state)) is not None
                and task.updated_at < now - keep
            ][: request.limit]
            for task_id in old:
                del self.tasks[task_id]
            return len(old) + self.uniques.prune(self.tasks.keys(), now)


def _is_wanted(task: Task, request: ClaimRequest | LaneRequest) -> bool:
    """Returns whether a claim may bring the task, though it may be a suspect."""
    is_apart = task.kind in request.isolated_kinds and runs_apart(task)
    is_tried = group_limit(task) >= request.group_size or is_apart
    return is_tried or not is_suspect(task)
