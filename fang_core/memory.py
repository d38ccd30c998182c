"""The memory backend: a queue for tests and for programs that need no durability, in both colours over one state.

It is the reference for the others: the conformance suite runs over it first. There are no transactions here: an insert
stands at once, whatever ``connection`` was given.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from fang_core.codec import MAX_PAYLOAD_BYTES
from fang_core.failure import ERRORS_KEPT
from fang_core.insertion import NewTask, Overrides
from fang_core.lifecycle import DUE_STATES, Outcome
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.runnable import BaseRunnable
from fang_core.store import Claim, ClaimRequest, PoolRecord, PruneRequest

Clock = Callable[[], datetime]


def utc_clock() -> datetime:
    """The wall clock, with its zone."""
    return datetime.fromtimestamp(time.time(), UTC)


@dataclass(slots=True)
class MemoryState:
    """All tasks and pools of a memory backend, and every verb on them, behind one lock.

    Share one between a ``MemoryQueue`` and an ``AsyncMemoryQueue`` to let either mode insert for the other.
    """

    clock: Clock = utc_clock
    tasks: dict[UUID, Task] = field(default_factory=dict)
    pools: dict[UUID, PoolRecord] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    # What applications do ---------------------------------------------------------------------------------------------

    def insert(self, rows: Sequence[NewTask], overrides: Overrides) -> list[Task]:
        """Adds rows; due as the overrides say."""
        with self.lock:
            now = self.clock()
            due = overrides.scheduled_at or now + (overrides.delay or timedelta(0))
            added = [_new_row(row, due, now) for row in rows]
            self.tasks.update((task.id, task) for task in added)
            return added

    def find(self, task_id: UUID) -> Task | None:
        """The row as it is now."""
        with self.lock:
            return self.tasks.get(task_id)

    # What pools do ----------------------------------------------------------------------------------------------------

    def register(self, pool: PoolRecord) -> None:
        """Makes a pool known."""
        with self.lock:
            self.pools[pool.id] = pool

    def unregister(self, pool_id: UUID) -> None:
        """Forgets a pool."""
        with self.lock:
            self.pools.pop(pool_id, None)

    def claim(self, request: ClaimRequest) -> Claim:
        """Marks due tasks as held by the pool."""
        with self.lock:
            now = self.clock()
            if request.pool_id not in self.pools:
                return Claim([], now, "", registered=False)
            order = {task_type: place for place, task_type in enumerate(request.task_types)}
            due = sorted(
                (
                    task
                    for task in self.tasks.values()
                    if task.state in DUE_STATES
                    and task.scheduled_at <= now
                    and task.task_type in order
                    and task.kind in request.kinds
                ),
                key=lambda task: (order[task.task_type], task.priority, task.scheduled_at, task.id),
            )
            return Claim([self._take(task, request.pool_id, now) for task in due[: request.limit]], now, "", True)

    def _take(self, task: Task, pool_id: UUID, now: datetime) -> ClaimedTask:
        taken = task._replace(
            state=TaskState.IN_PROGRESS,
            attempt=task.attempt + 1,
            pool_id=pool_id,
            claimed_at=now,
            updated_at=now,
        )
        self.tasks[task.id] = taken
        return as_claimed(taken)

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome]) -> set[UUID]:
        """Writes the outcomes that pass the fence; the ids of those."""
        written = set()
        with self.lock:
            now = self.clock()
            for outcome in outcomes:
                task = self.tasks.get(outcome.id)
                if task is None or (task.attempt, task.pool_id) != (outcome.attempt, pool_id):
                    continue
                written.add(outcome.id)
                if outcome.state is None:
                    del self.tasks[outcome.id]
                else:
                    self.tasks[outcome.id] = _after(task, outcome, outcome.state, now)
        return written

    def prune(self, request: PruneRequest) -> int:
        """Deletes rows whose life ended long enough ago."""
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
                if (keep := ages.get(task.state)) is not None and task.updated_at < now - keep
            ][: request.limit]
            for task_id in old:
                del self.tasks[task_id]
            return len(old)


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
    )


def _after(task: Task, outcome: Outcome, state: TaskState, now: datetime) -> Task:
    errors = task.errors
    if outcome.error_entry is not None:
        errors = (*errors, {**json.loads(outcome.error_entry), "time": now.isoformat()})[-ERRORS_KEPT:]
    return task._replace(
        state=state,
        scheduled_at=task.scheduled_at if outcome.delay is None else now + outcome.delay,
        retries=task.retries + outcome.charge,
        error_message=task.error_message if outcome.error_message is None else outcome.error_message,
        errors=errors,
        pool_id=None,
        claimed_at=None,
        updated_at=now,
    )


def as_claimed(task: Task) -> ClaimedTask:
    """The short form of a held row."""
    payload = {key: value for key, value in task.metadata.items() if key != "type"}
    return ClaimedTask(
        task.id,
        task.kind,
        json.dumps(payload),
        task.attempt,
        task.retries,
        20 if task.max_retries is None else task.max_retries,
        task.crashes,
        task.task_type,
        task.priority,
        task.scheduled_at,
    )


class _MemoryBase:
    """What both colours share: the state, and checks that touch nothing."""

    def __init__(
        self, *, state: MemoryState | None = None, clock: Clock = utc_clock, max_payload_bytes: int = MAX_PAYLOAD_BYTES
    ) -> None:
        self.state = state if state is not None else MemoryState(clock)
        self.max_payload_bytes = max_payload_bytes
        self.is_open = True

    @property
    def tasks(self) -> list[Task]:
        """All rows, in the order of their insertion."""
        with self.state.lock:
            return list(self.state.tasks.values())

    def _insert(self, tasks: Iterable[BaseRunnable], overrides: Overrides) -> list[Task]:
        return self.state.insert(overrides.new_tasks(tasks, max_bytes=self.max_payload_bytes), overrides)


class MemoryQueue(_MemoryBase):
    """A ``Queueable`` in memory, for threaded code; see this module's text."""

    def open(self) -> None:
        """Nothing is to be opened."""

    def close(self) -> None:
        """Nothing is to be closed; the tasks stay."""

    def __enter__(self) -> "MemoryQueue":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store(self) -> "MemoryStore":
        """A store for one pool."""
        return MemoryStore(self.state)

    def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        connection: Any = None,
    ) -> Task:
        """See ``Queueable.insert_task``."""
        return self._insert([task], _overrides(priority, scheduled_at, delay, task_type, max_retries))[0]

    def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        connection: Any = None,
    ) -> list[Task]:
        """See ``Queueable.insert_tasks``."""
        return self._insert(tasks, _overrides(priority, scheduled_at, delay, task_type, max_retries))

    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        return self.state.find(task_id)


class AsyncMemoryQueue(_MemoryBase):
    """An ``AsyncQueueable`` in memory; see this module's text."""

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is to be closed; the tasks stay."""

    async def __aenter__(self) -> "AsyncMemoryQueue":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def store(self) -> "AsyncMemoryStore":
        """A store for one pool."""
        return AsyncMemoryStore(self.state)

    async def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        connection: Any = None,
    ) -> Task:
        """See ``Queueable.insert_task``."""
        return self._insert([task], _overrides(priority, scheduled_at, delay, task_type, max_retries))[0]

    async def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        connection: Any = None,
    ) -> list[Task]:
        """See ``Queueable.insert_tasks``."""
        return self._insert(tasks, _overrides(priority, scheduled_at, delay, task_type, max_retries))

    async def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        return self.state.find(task_id)


def _overrides(
    priority: int | None,
    scheduled_at: datetime | None,
    delay: timedelta | None,
    task_type: str | None,
    max_retries: int | None,
) -> Overrides:
    return Overrides(
        priority=priority, scheduled_at=scheduled_at, delay=delay, task_type=task_type, max_retries=max_retries
    )


class MemoryStore:
    """A ``Store`` over a ``MemoryState``."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        self._state.register(pool)

    def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        self._state.unregister(pool_id)

    def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        return self._state.claim(request)

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /) -> set[UUID]:
        """See ``Store.complete``."""
        return self._state.complete(pool_id, outcomes)

    def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        return self._state.prune(request)

    def close(self) -> None:
        """Nothing is held."""


class AsyncMemoryStore:
    """An ``AsyncStore`` over a ``MemoryState``."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        self._state.register(pool)

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        self._state.unregister(pool_id)

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        return self._state.claim(request)

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /) -> set[UUID]:
        """See ``Store.complete``."""
        return self._state.complete(pool_id, outcomes)

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        return self._state.prune(request)

    async def close(self) -> None:
        """Nothing is held."""
