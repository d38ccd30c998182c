"""What the memory backend does, as one pure state behind one lock; the clock is an argument."""

import json
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from fang_core.config import RetentionMode
from fang_core.errors import IdInUse, StaleTask, TaskLost, TwinExists
from fang_core.failure import ERRORS_KEPT
from fang_core.insertion import NewTask, Overrides
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES, Change, Outcome, is_suspect
from fang_core.record import DEFAULT_MAX_RETRIES, ClaimedTask, Task, TaskState
from fang_core.run import Run
from fang_core.store import Claim, ClaimRequest, Level, OnWake, PoolRecord, PruneRequest, Serves, Sighting, Tick

Clock = Callable[[], datetime]


def utc_clock() -> datetime:
    """The wall clock, with its zone."""
    return datetime.now(UTC)


@dataclass(slots=True)
class MemoryState:
    """All tasks, pools and schedules of a memory backend, and every verb on them.

    Share one between a ``MemoryQueue`` and an ``AsyncMemoryQueue`` to let either mode insert for the other.
    """

    clock: Clock = utc_clock
    tasks: dict[UUID, Task] = field(default_factory=dict)
    pools: dict[UUID, PoolRecord] = field(default_factory=dict)
    waiting: set[UUID] = field(default_factory=set)
    last_ticks: dict[str, datetime] = field(default_factory=dict)
    listeners: dict[object, tuple[frozenset[str], OnWake]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    # What applications do ---------------------------------------------------------------------------------------------

    def insert(self, rows: Sequence[NewTask], overrides: Overrides) -> list[Task]:
        """Adds rows, due as the overrides say; all of them or none. Raises ``IdInUse``."""
        with self.lock:
            now = self.clock()
            due = overrides.scheduled_at or now + (overrides.delay or timedelta(0))
            tasks = [self._insert(row, due, now) for row in rows]
        self._wake(task.task_type for task in tasks if not task.conflict)
        return tasks

    def _insert(self, row: NewTask, due: datetime, now: datetime) -> Task:
        existing = self.tasks.get(row.id)
        if existing is not None:
            if existing.metadata != from_json(row.metadata):
                raise IdInUse(f"another task has the id {row.id}")
            return existing._replace(conflict=True)
        twin = self._live_twin(row.uniq_hash)
        if twin is not None:
            return twin._replace(conflict=True)
        task = self.tasks[row.id] = _new_row(row, due, now)
        return task

    def _live_twin(self, uniq_hash: str | None) -> Task | None:
        """The task that keeps another of its hash from being inserted."""
        if uniq_hash is None:
            return None
        live = (task for task in self.tasks.values() if task.state not in TERMINAL_STATES)
        return next((task for task in live if task.uniq_hash == uniq_hash), None)

    def find(self, task_id: UUID) -> Task | None:
        """The row as it is now."""
        with self.lock:
            return self.tasks.get(task_id)

    def change(self, change: Change) -> Task:
        """A move by hand. Raises ``StaleTask`` or ``TwinExists``."""
        with self.lock:
            read = change.task
            task = self.tasks.get(read.id)
            if task is None or (task.state, task.attempt, task.updated_at) != (
                read.state,
                read.attempt,
                read.updated_at,
            ):
                raise StaleTask(f"task {read.id} is not as it was read any more: read it again")
            if change.revives and self._live_twin(task.uniq_hash) is not None:
                raise TwinExists(f"task {read.id} cannot be revived: an equal unique task is waiting or running")
            changed = self.tasks[task.id] = _changed(task, change, self.clock())
        self._wake([changed.task_type])
        return changed

    def remove(self, which: Callable[[Task], bool]) -> int:
        """Removes the tasks of which this is true; how many."""
        with self.lock:
            gone = [task.id for task in self.tasks.values() if which(task)]
            for task_id in gone:
                del self.tasks[task_id]
            return len(gone)

    def fetch_and_touch(self, task_type: str, pool: PoolRecord) -> Task | None:
        """Claims the first due task of a type for a queue, which is registered as ``pool``."""
        with self.lock:
            self.pools.setdefault(pool.id, pool)
            now = self.clock()
            due = self._due((task_type,), None, now)
            return self._take(due[0], pool.id, now) if due else None

    # What pools do ----------------------------------------------------------------------------------------------------

    def register(self, pool: PoolRecord) -> None:
        """Makes a pool known."""
        with self.lock:
            self.pools[pool.id] = pool

    def learn(self, pool_id: UUID, kinds: Sequence[str]) -> None:
        """Has a known pool's record name these kinds."""
        with self.lock:
            if pool_id in self.pools:
                self.pools[pool_id] = self.pools[pool_id]._replace(kinds=tuple(kinds))

    def unregister(self, pool_id: UUID) -> None:
        """Forgets a pool."""
        with self.lock:
            self.pools.pop(pool_id, None)
            self.waiting.discard(pool_id)

    def announce(self, pool_id: UUID, waiting: bool) -> None:
        """Remembers whether a pool waits to be woken."""
        with self.lock:
            if waiting:
                self.waiting.add(pool_id)
            else:
                self.waiting.discard(pool_id)

    def has_taker(self, pool_id: UUID, tasks: Collection[Serves]) -> bool:
        """Whether another pool waits for one of these."""
        with self.lock:
            others = [self.pools[other] for other in self.waiting & self.pools.keys() if other != pool_id]
        return any(task_type in pool.task_types and kind in pool.kinds for pool in others for task_type, kind in tasks)

    def claim(self, request: ClaimRequest) -> Claim:
        """Marks due tasks as held by the pool."""
        with self.lock:
            now = self.clock()
            if request.pool_id not in self.pools:
                return Claim([], now, "", registered=False)
            due = self._due(request.task_types, request.kinds, now)
            wanted = [task for task in due if request.suspects or not is_suspect(task)][: request.limit]
            return Claim([as_claimed(self._take(task, request.pool_id, now)) for task in wanted], now, "", True)

    def _due(self, task_types: Sequence[str], kinds: Sequence[str] | None, now: datetime) -> list[Task]:
        """In the order in which they are to be run."""
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
                    self.tasks[outcome.id] = _after(task, outcome, outcome.state, now)
        self._wake(written[outcome.id].task_type for outcome in outcomes if _gives_back(outcome, written))
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
                self.tasks[task.id] = _after(task, outcome, TaskState.FINISHED, self.clock())
            else:
                del self.tasks[task.id]

    def reconcile(self, pool_id: UUID, known: Sequence[UUID]) -> int:
        """Gives back what the pool holds without knowing it."""
        with self.lock:
            unknown = [task for task in self.tasks.values() if task.pool_id == pool_id and task.id not in known]
            for task in unknown:
                state = TaskState.RETRIED if task.retries + task.crashes else TaskState.NEW
                self.tasks[task.id] = task._replace(state=state, pool_id=None, claimed_at=None, updated_at=self.clock())
        self._wake(task.task_type for task in unknown)
        return len(unknown)

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
            return len(old)

    # Schedules --------------------------------------------------------------------------------------------------------

    def sight(self, names: Sequence[str]) -> Sighting:
        """The last ticks; a schedule that nobody has seen begins now."""
        with self.lock:
            now = self.clock()
            return Sighting(now, {name: self.last_ticks.setdefault(name, now) for name in names})

    def tick(self, tick: Tick) -> bool:
        """One task for each tick, however often it is asked for; whether the last tick was raised."""
        raised, _ = self._tick(tick, by_hand=False)
        return raised

    def schedule(self, tick: Tick) -> Task | None:
        """Like ``tick``, by hand; the task that is there now, or None where the tick lies back and was done before."""
        _, task = self._tick(tick, by_hand=True)
        return task

    def _tick(self, tick: Tick, *, by_hand: bool) -> tuple[bool, Task | None]:
        with self.lock:
            now = self.clock()
            is_ahead = tick.at > now
            last = self.last_ticks.get(tick.name)
            is_news = last is None or last < tick.at
            if not is_news and not (by_hand and is_ahead):
                return False, None
            there = self.tasks.get(tick.row.id)
            task = self._insert(tick.row, tick.at, now) if there is None else there._replace(conflict=True)
            # A twin leaves a tick out when its time has come, not ahead of it: the twin may have ended by then.
            raised = is_news and (not is_ahead or task.id == tick.row.id)
            if raised:
                self.last_ticks[tick.name] = tick.at
        if not task.conflict:
            self._wake([task.task_type])
        return raised, task

    # Waking -----------------------------------------------------------------------------------------------------------

    def listen(self, listener: object, task_types: Iterable[str], on_wake: OnWake) -> None:
        """Calls ``on_wake``, on whatever thread inserts, after inserts of these types."""
        with self.lock:
            self.listeners[listener] = (frozenset(task_types), on_wake)

    def unlisten(self, listener: object) -> None:
        """Ends it."""
        with self.lock:
            self.listeners.pop(listener, None)

    def waiting_types(self, most: int) -> dict[str, bool] | None:
        """Task types with waiting tasks, and whether one is due."""
        with self.lock:
            now = self.clock()
            levels: dict[Level, bool] = {}
            for task in self.tasks.values():
                if task.state in DUE_STATES:
                    level = (task.task_type, task.priority)
                    levels[level] = levels.get(level, False) or task.scheduled_at <= now
        if len(levels) >= most:
            return None
        types = {task_type for task_type, _ in levels}
        return {each: any(is_due for level, is_due in levels.items() if level[0] == each) for each in sorted(types)}

    def next_due(self, task_types: Sequence[str], kinds: Sequence[str]) -> float | None:
        """Seconds until the next of these tasks is due that is not yet."""
        with self.lock:
            now = self.clock()
            later = [
                (task.scheduled_at - now).total_seconds()
                for task in self.tasks.values()
                if task.state in DUE_STATES and task.task_type in task_types and task.kind in kinds
            ]
        return min((seconds for seconds in later if seconds > 0), default=None)

    def unknown_kinds(self, task_types: Sequence[str]) -> list[str]:
        """Kinds of due tasks of these types that no registered pool of the type knows."""
        with self.lock:
            known = {
                (task_type, kind)
                for pool in self.pools.values()
                for task_type in pool.task_types
                for kind in pool.kinds
            }
            due = self._due(task_types, None, self.clock())
            return sorted({task.kind for task in due if (task.task_type, task.kind) not in known})

    def unserved_types(self, due_for: timedelta) -> list[str]:
        """Task types with tasks that have been due for so long, and that no registered pool serves."""
        with self.lock:
            served = {task_type for pool in self.pools.values() for task_type in pool.task_types}
            unserved = {task.task_type for task in self.tasks.values()} - served
            return sorted({task.task_type for task in self._due(tuple(unserved), None, self.clock() - due_for)})

    def _wake(self, task_types: Iterable[str]) -> None:
        """Outside of the lock: a listener may do anything."""
        woken = frozenset(task_types)
        if woken:
            for types, on_wake in list(self.listeners.values()):
                if not types.isdisjoint(woken):
                    on_wake(None)


def _gives_back(outcome: Outcome, written: dict[UUID, Task]) -> bool:
    """Whether other pools can take the task now."""
    return outcome.id in written and outcome.state in DUE_STATES and not outcome.delay


def _new_row(row: NewTask, due: datetime, now: datetime) -> Task:
    return Task(
        id=row.id,
        metadata=from_json(row.metadata),
        kind=row.kind,
        task_type=row.task_type,
        state=TaskState.NEW,
        priority=row.priority,
        retries=0,
        max_retries=row.max_retries,
        crashes=0,
        attempt=0,
        scheduled_at=due,
        created_at=now,
        updated_at=now,
        uniq_hash=row.uniq_hash,
    )


def _after(task: Task, outcome: Outcome, state: TaskState, now: datetime) -> Task:
    return task._replace(
        state=state,
        scheduled_at=task.scheduled_at if outcome.delay is None else now + outcome.delay,
        retries=task.retries + outcome.charge,
        crashes=0 if outcome.forgets_crashes else task.crashes,
        error_message=task.error_message if outcome.error_message is None else outcome.error_message,
        errors=_with_entry(task, outcome.error_entry, now),
        pool_id=None,
        claimed_at=None,
        updated_at=now,
    )


def _changed(task: Task, change: Change, now: datetime) -> Task:
    due = task.scheduled_at if change.delay is None else now + change.delay
    return task._replace(
        state=change.state,
        scheduled_at=max(due, now) if change.revives else due,
        retries=0 if change.revives else task.retries + change.charge,
        crashes=0 if change.revives else task.crashes,
        error_message=task.error_message if change.error_message is None else change.error_message,
        errors=_with_entry(task, change.error_entry, now),
        pool_id=None,
        claimed_at=None,
        updated_at=now,
    )


def _with_entry(task: Task, entry: str | None, now: datetime) -> Sequence[Any]:
    """The error history with one more entry, of which the last ones are kept."""
    if entry is None:
        return task.errors
    return (*task.errors, {**json.loads(entry), "time": now.isoformat()})[-ERRORS_KEPT:]


def as_claimed(task: Task) -> ClaimedTask:
    """The short form of a held row."""
    payload = {key: value for key, value in task.metadata.items() if key != "type"}
    return ClaimedTask(
        task.id,
        task.kind,
        json.dumps(payload),
        task.attempt,
        task.retries,
        DEFAULT_MAX_RETRIES if task.max_retries is None else task.max_retries,
        task.crashes,
        task.task_type,
        task.priority,
        task.scheduled_at,
    )
