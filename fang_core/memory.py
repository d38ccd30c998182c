"""The memory backend: a queue for tests and for programs that need no durability, in both colours over one state.

It is the reference for the others: the conformance suite runs over it first. There are no transactions here: an insert
stands at once, whatever ``connection`` was given.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from fang_core.arguments import checked_id, checked_task_type
from fang_core.codec import MAX_PAYLOAD_BYTES
from fang_core.copying import Uncopyable
from fang_core.insertion import Bulk, Overrides, Rules
from fang_core.lifecycle import TERMINAL_STATES, Outcome, change_by_hand, fail_by_hand, retry_by_hand
from fang_core.logs import SafeLogger
from fang_core.memory_state import Clock, MemoryState, utc_clock
from fang_core.record import DEFAULT_TASK_TYPE, Task, TaskState
from fang_core.removal import OnProgress, Removal
from fang_core.run import current_run
from fang_core.runnable import BaseRunnable
from fang_core.store import (
    Claim,
    ClaimRequest,
    OnSilence,
    OnWake,
    PoolRecord,
    PruneRequest,
    Serves,
    Sighting,
    Tick,
    manual_pool,
)
from fang_core.ticking import next_tick

logger = SafeLogger("fang_core")


class _MemoryBase(Uncopyable):
    """What both colours share: the state, and checks that touch nothing."""

    def __init__(
        self,
        *,
        state: MemoryState | None = None,
        clock: Clock = utc_clock,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        duplicated_tasks: bool = True,
    ) -> None:
        self.state = state if state is not None else MemoryState(clock)
        self.rules = Rules(max_payload_bytes=max_payload_bytes, duplicated_tasks=duplicated_tasks)
        self.is_open = True
        self.keeps_session = True
        self.connects_within = 0.0
        self._manual_pool = manual_pool(uuid4())

    @property
    def tasks(self) -> list[Task]:
        """All rows, in the order of their insertion."""
        with self.state.lock:
            return list(self.state.tasks.values())

    def _count_by_kind(self) -> dict[str, int]:
        return dict(Counter(task.kind for task in self.tasks))

    def _insert(self, tasks: Iterable[BaseRunnable], overrides: Overrides) -> list[Task]:
        return self.state.insert(list(Bulk(tasks, overrides, self.rules)), overrides)

    def _schedule(self, task: BaseRunnable) -> Task:
        with self.state.lock:
            tick = next_tick(task, self.state.clock(), self.rules)
            scheduled = self.state.schedule(tick)
        assert scheduled is not None  # the tick lies ahead
        return scheduled

    def _remove(self, task_id: UUID) -> int:
        return self.state.remove(lambda task: task.id == task_id)

    def _remove_many(self, which: Callable[[Task], bool], on_progress: OnProgress | None) -> int:
        removal = Removal(on_progress)
        with removal.told(logger, in_transaction=False):
            removal.ended(self.state.remove(which))
        return removal.removed

    def _remove_type(self, task_type: str, on_progress: OnProgress | None) -> int:
        return self._remove_many(lambda task: task.task_type == task_type, on_progress)

    def _remove_twin(self, task: BaseRunnable) -> int:
        uniq_hash = self.rules.hash_of_unique(task)
        return self.state.remove(lambda row: row.uniq_hash == uniq_hash and row.state not in TERMINAL_STATES)

    def _is_scheduled(self, task: Task) -> bool:
        return task.state is TaskState.NEW and task.attempt == 0 and task.scheduled_at > self.state.clock()


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

    def tasks_of_kind(self, kind: str, /, *, connection: Any = None) -> list[Task]:
        """See ``Backend.tasks_of_kind``."""
        return [task for task in self.tasks if task.kind == kind]

    def count_by_kind(self, *, connection: Any = None) -> dict[str, int]:
        """See ``Backend.count_by_kind``."""
        return self._count_by_kind()

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
        uniq: bool | None = None,
        id: UUID | None = None,
        connection: Any = None,
    ) -> Task:
        """See ``Queueable.insert_task``."""
        return self._insert(
            [task],
            Overrides(
                priority=priority,
                scheduled_at=scheduled_at,
                delay=delay,
                task_type=task_type,
                max_retries=max_retries,
                uniq=uniq,
                id=id,
            ),
        )[0]

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
        uniq: bool | None = None,
        connection: Any = None,
    ) -> list[Task]:
        """See ``Queueable.insert_tasks``."""
        return self._insert(
            tasks,
            Overrides(
                priority=priority,
                scheduled_at=scheduled_at,
                delay=delay,
                task_type=task_type,
                max_retries=max_retries,
                uniq=uniq,
            ),
        )

    def schedule_task(self, task: BaseRunnable, /, *, connection: Any = None) -> Task:
        """See ``Queueable.schedule_task``."""
        return self._schedule(task)

    def complete(self, *, connection: Any) -> None:
        """See ``Queueable.complete``; here it stands at once."""
        self.state.complete_run(current_run())

    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        return self.state.find(checked_id(task_id))

    def fetch_and_touch_task(self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.fetch_and_touch_task``."""
        return self.state.fetch_and_touch(checked_task_type(task_type), self._manual_pool)

    def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
        """See ``Queueable.update_task_state``."""
        return self.state.change(change_by_hand(task, state))

    def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """See ``Queueable.fail_task``."""
        return self.state.change(fail_by_hand(task, error_message))

    def schedule_retry(self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None) -> Task:
        """See ``Queueable.schedule_retry``."""
        return self.state.change(retry_by_hand(task, backoff, error_message))

    def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_task``."""
        return self._remove(checked_id(task_id))

    def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_task_by_metadata``."""
        return self._remove_twin(task)

    def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
    ) -> int:
        """See ``Queueable.remove_tasks_type``."""
        return self._remove_type(checked_task_type(task_type), on_progress)

    def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """See ``Queueable.remove_all_tasks``."""
        return self._remove_many(lambda _: True, on_progress)

    def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """See ``Queueable.remove_all_scheduled_tasks``."""
        return self._remove_many(self._is_scheduled, on_progress)


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

    async def tasks_of_kind(self, kind: str, /, *, connection: Any = None) -> list[Task]:
        """See ``Backend.tasks_of_kind``."""
        return [task for task in self.tasks if task.kind == kind]

    async def count_by_kind(self, *, connection: Any = None) -> dict[str, int]:
        """See ``Backend.count_by_kind``."""
        return self._count_by_kind()

    async def store(self) -> "AsyncMemoryStore":
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
        uniq: bool | None = None,
        id: UUID | None = None,
        connection: Any = None,
    ) -> Task:
        """See ``Queueable.insert_task``."""
        return self._insert(
            [task],
            Overrides(
                priority=priority,
                scheduled_at=scheduled_at,
                delay=delay,
                task_type=task_type,
                max_retries=max_retries,
                uniq=uniq,
                id=id,
            ),
        )[0]

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
        uniq: bool | None = None,
        connection: Any = None,
    ) -> list[Task]:
        """See ``Queueable.insert_tasks``."""
        return self._insert(
            tasks,
            Overrides(
                priority=priority,
                scheduled_at=scheduled_at,
                delay=delay,
                task_type=task_type,
                max_retries=max_retries,
                uniq=uniq,
            ),
        )

    async def schedule_task(self, task: BaseRunnable, /, *, connection: Any = None) -> Task:
        """See ``Queueable.schedule_task``."""
        return self._schedule(task)

    async def complete(self, *, connection: Any) -> None:
        """See ``Queueable.complete``; here it stands at once."""
        self.state.complete_run(current_run())

    async def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        return self.state.find(checked_id(task_id))

    async def fetch_and_touch_task(
        self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None
    ) -> Task | None:
        """See ``Queueable.fetch_and_touch_task``."""
        return self.state.fetch_and_touch(checked_task_type(task_type), self._manual_pool)

    async def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
        """See ``Queueable.update_task_state``."""
        return self.state.change(change_by_hand(task, state))

    async def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """See ``Queueable.fail_task``."""
        return self.state.change(fail_by_hand(task, error_message))

    async def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None
    ) -> Task:
        """See ``Queueable.schedule_retry``."""
        return self.state.change(retry_by_hand(task, backoff, error_message))

    async def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_task``."""
        return self._remove(checked_id(task_id))

    async def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """See ``Queueable.remove_task_by_metadata``."""
        return self._remove_twin(task)

    async def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
    ) -> int:
        """See ``Queueable.remove_tasks_type``."""
        return self._remove_type(checked_task_type(task_type), on_progress)

    async def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """See ``Queueable.remove_all_tasks``."""
        return self._remove_many(lambda _: True, on_progress)

    async def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """See ``Queueable.remove_all_scheduled_tasks``."""
        return self._remove_many(self._is_scheduled, on_progress)


class MemoryStore:
    """A ``Store`` over a ``MemoryState``."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        self._state.register(pool)

    def learn(self, pool_id: UUID, kinds: Sequence[str], /) -> None:
        """See ``Store.learn``."""
        self._state.learn(pool_id, kinds)

    def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        self._state.unregister(pool_id)

    def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        return self._state.claim(request)

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``Store.complete``."""
        return self._state.complete(pool_id, outcomes)

    def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``Store.reconcile``."""
        return self._state.reconcile(pool_id, known)

    def heart(self, locks: bool, /) -> None:
        """The tasks die with the process, and so do its pools: nobody is to be watched."""

    def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        return self._state.prune(request)

    def listen(self, task_types: Sequence[str], on_wake: OnWake, on_silence: OnSilence, /) -> None:
        """See ``Store.listen``."""
        self._state.listen(self, task_types, on_wake)

    def announce(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``Store.announce``; every insert wakes who listens, announced or not."""
        self._state.announce(pool_id, waiting)

    def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``Store.has_taker``; not known of pools that do not listen."""
        return self._state.has_taker(pool_id, tasks)

    def sight(self, names: Sequence[str], /) -> Sighting:
        """See ``Store.sight``."""
        return self._state.sight(names)

    def tick(self, tick: Tick, /) -> bool:
        """See ``Store.tick``."""
        return self._state.tick(tick)

    def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``Store.next_due``."""
        return self._state.next_due(task_types, kinds)

    def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``Store.unknown_kinds``."""
        return self._state.unknown_kinds(task_types)

    def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``Store.unserved_types``."""
        return self._state.unserved_types(due_for)

    def close(self) -> None:
        """Ends listening."""
        self._state.unlisten(self)


class AsyncMemoryStore:
    """An ``AsyncStore`` over a ``MemoryState``."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        self._state.register(pool)

    async def learn(self, pool_id: UUID, kinds: Sequence[str], /) -> None:
        """See ``Store.learn``."""
        self._state.learn(pool_id, kinds)

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        self._state.unregister(pool_id)

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        return self._state.claim(request)

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``Store.complete``."""
        return self._state.complete(pool_id, outcomes)

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``Store.reconcile``."""
        return self._state.reconcile(pool_id, known)

    def heart(self, locks: bool, /) -> None:
        """The tasks die with the process, and so do its pools: nobody is to be watched."""

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        return self._state.prune(request)

    def listen(self, task_types: Sequence[str], on_wake: OnWake, on_silence: OnSilence, /) -> None:
        """See ``Store.listen``."""
        self._state.listen(self, task_types, on_wake)

    async def announce(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``Store.announce``; every insert wakes who listens, announced or not."""
        self._state.announce(pool_id, waiting)

    async def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``Store.has_taker``; not known of pools that do not listen."""
        return self._state.has_taker(pool_id, tasks)

    async def sight(self, names: Sequence[str], /) -> Sighting:
        """See ``Store.sight``."""
        return self._state.sight(names)

    async def tick(self, tick: Tick, /) -> bool:
        """See ``Store.tick``."""
        return self._state.tick(tick)

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``Store.next_due``."""
        return self._state.next_due(task_types, kinds)

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``Store.unknown_kinds``."""
        return self._state.unknown_kinds(task_types)

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``Store.unserved_types``."""
        return self._state.unserved_types(due_for)

    async def close(self) -> None:
        """Ends listening."""
        self._state.unlisten(self)
