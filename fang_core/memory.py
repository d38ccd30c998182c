"""The memory backend: a queue for tests and for programs that need no durability, in both colours over one state.

It is the reference for the others: the conformance suite runs over it first. There are no transactions here: an insert
stands at once, whatever ``connection`` was given.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    """A ``Queueable`` in memory, for threaded code: what it holds is gone when the process ends."""

    def open(self) -> None:
        """Nothing is to be opened."""

    def close(self) -> None:
        """Nothing is to be closed; the tasks stay."""

    def __enter__(self) -> "MemoryQueue":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: Any = None) -> list[Task]:
        """Returns the rows of these kinds, in the order of their insertion: for tests."""
        return [task for task in self.tasks if task.kind in kinds]

    def count_by_kind(self, *, connection: Any = None) -> dict[str, int]:
        """Returns how many tasks of each kind there are: for tests."""
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
        """Inserts one task and returns its row.

        Args:
            task: a task of either mode; a worker of its mode runs it.
            priority: -2 (first) to 2 (last), instead of the class's.
            scheduled_at: the earliest time to run it, with a time zone.
            delay: how long to wait at least, by the database's clock; not together with ``scheduled_at``.
            task_type: which pools take it, instead of the class's.
            max_retries: how often a failure leads to another run, instead of the class's.
            uniq: whether it is unique, instead of the class's. If an equal unique task is waiting or running, nothing
                is written, and that one is returned with ``conflict`` true.
            id: the id of the new row, so that an insert whose reply was lost can be repeated: if the row is there
                already, with the same fields, it is returned with ``conflict`` true.
            connection: a connection of the caller's; the task is then committed or rolled back with the caller's own
                writes.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was sent.
            UsageError: an argument cannot be used; nothing was sent.
            IdInUse: a task with other fields has this id.
            NotConnected: the backend cannot be reached; nothing was sent.
            OutcomeUnknown: the connection broke before the reply came: the task may be there, or not.
            BackendError: the backend refused, or failed: nothing was written.
        """
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
        """Inserts many tasks, all or none, and returns their rows in the order given.

        The options are those of ``insert_task`` but for ``id``, and hold for all of the tasks.

        Raises what ``insert_task`` raises. Some tasks may be on their way when another one turns out bad, and are
        rolled back; with ``connection`` nothing is sent before all of them are known to be good.
        """
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
        """Inserts a task of a class with ``cron`` for the next tick of its schedule, and returns its row.

        A tick is inserted once: if its task is there already, that one is returned with ``conflict`` true. So is an
        equal unique task that waits or runs; nothing is written then, and a pool inserts the tick when its time comes.

        Raises ``UsageError`` if the class has no ``cron``, or its schedule has no tick left; otherwise like
        ``insert_task``.
        """
        return self._schedule(task)

    def complete(self, *, connection: Any) -> None:
        """Marks the task of this run as finished, in the caller's transaction.

        What the run writes in that transaction and the completion of its task are committed together, or not at all, so
        that the effect happens once even if the process dies. Let the transaction be the last thing that the run does.
        If it is rolled back and the run returns, the task is finished as usual.

        Raises:
            TaskLost: this run no longer holds its task. The statement has failed in the database, so that the
                transaction, or the savepoint, can only be rolled back.
            NotInRun: it was called outside of a run.
            UsageError: the connection is in autocommit, so that nothing could be rolled back.
        """
        self.state.complete_run(current_run())

    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """Returns the row as it is now, or None if there is none.

        Raises ``UnreadablePayload`` for JSON that Python cannot read.
        """
        return self.state.find(checked_id(task_id))

    def fetch_and_touch_task(self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None) -> Task | None:
        """Claims the first due task of a type, of any kind, for this queue; returns None if no task is due.

        The caller does the work, and ends the task with ``update_task_state``, ``fail_task``, ``schedule_retry`` or
        ``remove_task``.
        """
        return self.state.fetch_and_touch(checked_task_type(task_type), self._manual_pool)

    def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
        """Moves a task to another state by hand, if its row is still as it was read; returns the new row.

        ``lifecycle.BY_HAND`` has the moves. A finished, failed or cancelled task that is made new begins its life
        again, with no retries charged, and due now at the earliest. A run that is under way loses its task.

        Raises:
            UsageError: there is no such move.
            StaleTask: the row was changed or removed meanwhile.
            TwinExists: a unique task cannot be revived, since an equal one is waiting or running. If another one is
                being revived at the same moment, the caller's own ``connection`` fails with the database's error.
        """
        return self.state.change(change_by_hand(task, state))

    def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """Fails a task by hand, whatever retries are left, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        return self.state.change(fail_by_hand(task, error_message))

    def schedule_retry(self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None) -> Task:
        """Charges a failure to a task in progress, has it run again after ``backoff``, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        return self.state.change(retry_by_hand(task, backoff, error_message))

    def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """Removes a task in whatever state, and returns how many were removed: 0 or 1.

        A run that is under way loses its task.
        """
        return self._remove(checked_id(task_id))

    def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """Removes the unique task that equals this one and waits or runs; returns how many: 0 or 1.

        It does not matter whether its class, ``uniq=`` of its insert or the queue made it unique. A task that was not
        inserted as unique is not found by its fields: remove it by its id.
        """
        return self._remove_twin(task)

    def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
    ) -> int:
        """Removes all tasks of a type, in whatever state, and returns how many.

        On Postgres it works in batches of about a second, and removes the tasks that were there when it began. Without
        ``connection`` each batch is committed by itself: if the call is interrupted, cancelled or fails, what is done
        stays done, and the exception has a note that says how many were removed.

        Args:
            task_type: the type.
            on_progress: called after each batch with the number of tasks removed so far. What it raises stops the
                removal.
            connection: a connection of the caller's; then all is part of one transaction.
        """
        return self._remove_type(checked_task_type(task_type), on_progress)

    def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes every task, in whatever state, and returns how many.

        It works in batches, as ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        return self._remove_many(lambda _: True, on_progress)

    def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes the tasks that wait for their first run at a later time, and returns how many.

        A task that was run before stays: a retry in backoff, or a snoozed one. It works in batches, as
        ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        return self._remove_many(self._is_scheduled, on_progress)


class AsyncMemoryQueue(_MemoryBase):
    """An ``AsyncQueueable`` in memory: what it holds is gone when the process ends."""

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is to be closed; the tasks stay."""

    async def __aenter__(self) -> "AsyncMemoryQueue":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: Any = None) -> list[Task]:
        """Returns the rows of these kinds, in the order of their insertion: for tests."""
        return [task for task in self.tasks if task.kind in kinds]

    async def count_by_kind(self, *, connection: Any = None) -> dict[str, int]:
        """Returns how many tasks of each kind there are: for tests."""
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
        """Inserts one task and returns its row.

        Args:
            task: a task of either mode; a worker of its mode runs it.
            priority: -2 (first) to 2 (last), instead of the class's.
            scheduled_at: the earliest time to run it, with a time zone.
            delay: how long to wait at least, by the database's clock; not together with ``scheduled_at``.
            task_type: which pools take it, instead of the class's.
            max_retries: how often a failure leads to another run, instead of the class's.
            uniq: whether it is unique, instead of the class's. If an equal unique task is waiting or running, nothing
                is written, and that one is returned with ``conflict`` true.
            id: the id of the new row, so that an insert whose reply was lost can be repeated: if the row is there
                already, with the same fields, it is returned with ``conflict`` true.
            connection: a connection of the caller's; the task is then committed or rolled back with the caller's own
                writes.

        Raises:
            PayloadError: a field cannot be stored, or a worker would read it as something else; nothing was sent.
            UsageError: an argument cannot be used; nothing was sent.
            IdInUse: a task with other fields has this id.
            NotConnected: the backend cannot be reached; nothing was sent.
            OutcomeUnknown: the connection broke before the reply came: the task may be there, or not.
            BackendError: the backend refused, or failed: nothing was written.
        """
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
        """Inserts many tasks, all or none, and returns their rows in the order given.

        The options are those of ``insert_task`` but for ``id``, and hold for all of the tasks.

        Raises what ``insert_task`` raises. Some tasks may be on their way when another one turns out bad, and are
        rolled back; with ``connection`` nothing is sent before all of them are known to be good.
        """
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
        """Inserts a task of a class with ``cron`` for the next tick of its schedule, and returns its row.

        A tick is inserted once: if its task is there already, that one is returned with ``conflict`` true. So is an
        equal unique task that waits or runs; nothing is written then, and a pool inserts the tick when its time comes.

        Raises ``UsageError`` if the class has no ``cron``, or its schedule has no tick left; otherwise like
        ``insert_task``.
        """
        return self._schedule(task)

    async def complete(self, *, connection: Any) -> None:
        """Marks the task of this run as finished, in the caller's transaction.

        What the run writes in that transaction and the completion of its task are committed together, or not at all, so
        that the effect happens once even if the process dies. Let the transaction be the last thing that the run does.
        If it is rolled back and the run returns, the task is finished as usual.

        Raises:
            TaskLost: this run no longer holds its task. The statement has failed in the database, so that the
                transaction, or the savepoint, can only be rolled back.
            NotInRun: it was called outside of a run.
            UsageError: the connection is in autocommit, so that nothing could be rolled back.
        """
        self.state.complete_run(current_run())

    async def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """Returns the row as it is now, or None if there is none.

        Raises ``UnreadablePayload`` for JSON that Python cannot read.
        """
        return self.state.find(checked_id(task_id))

    async def fetch_and_touch_task(
        self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: Any = None
    ) -> Task | None:
        """Claims the first due task of a type, of any kind, for this queue; returns None if no task is due.

        The caller does the work, and ends the task with ``update_task_state``, ``fail_task``, ``schedule_retry`` or
        ``remove_task``.
        """
        return self.state.fetch_and_touch(checked_task_type(task_type), self._manual_pool)

    async def update_task_state(self, task: Task, state: TaskState, /, *, connection: Any = None) -> Task:
        """Moves a task to another state by hand, if its row is still as it was read; returns the new row.

        ``lifecycle.BY_HAND`` has the moves. A finished, failed or cancelled task that is made new begins its life
        again, with no retries charged, and due now at the earliest. A run that is under way loses its task.

        Raises:
            UsageError: there is no such move.
            StaleTask: the row was changed or removed meanwhile.
            TwinExists: a unique task cannot be revived, since an equal one is waiting or running. If another one is
                being revived at the same moment, the caller's own ``connection`` fails with the database's error.
        """
        return self.state.change(change_by_hand(task, state))

    async def fail_task(self, task: Task, error_message: str, /, *, connection: Any = None) -> Task:
        """Fails a task by hand, whatever retries are left, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        return self.state.change(fail_by_hand(task, error_message))

    async def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: Any = None
    ) -> Task:
        """Charges a failure to a task in progress, has it run again after ``backoff``, and returns the new row.

        Raises what ``update_task_state`` raises.
        """
        return self.state.change(retry_by_hand(task, backoff, error_message))

    async def remove_task(self, task_id: UUID, /, *, connection: Any = None) -> int:
        """Removes a task in whatever state, and returns how many were removed: 0 or 1.

        A run that is under way loses its task.
        """
        return self._remove(checked_id(task_id))

    async def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: Any = None) -> int:
        """Removes the unique task that equals this one and waits or runs; returns how many: 0 or 1.

        It does not matter whether its class, ``uniq=`` of its insert or the queue made it unique. A task that was not
        inserted as unique is not found by its fields: remove it by its id.
        """
        return self._remove_twin(task)

    async def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: Any = None
    ) -> int:
        """Removes all tasks of a type, in whatever state, and returns how many.

        On Postgres it works in batches of about a second, and removes the tasks that were there when it began. Without
        ``connection`` each batch is committed by itself: if the call is interrupted, cancelled or fails, what is done
        stays done, and the exception has a note that says how many were removed.

        Args:
            task_type: the type.
            on_progress: called after each batch with the number of tasks removed so far. What it raises stops the
                removal.
            connection: a connection of the caller's; then all is part of one transaction.
        """
        return self._remove_type(checked_task_type(task_type), on_progress)

    async def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes every task, in whatever state, and returns how many.

        It works in batches, as ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
        return self._remove_many(lambda _: True, on_progress)

    async def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: Any = None) -> int:
        """Removes the tasks that wait for their first run at a later time, and returns how many.

        A task that was run before stays: a retry in backoff, or a snoozed one. It works in batches, as
        ``remove_tasks_type`` does, whose ``on_progress`` and ``connection`` it takes.
        """
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

    def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``Store.waiting_types``."""
        return self._state.waiting_types(most)

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

    async def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``Store.waiting_types``."""
        return self._state.waiting_types(most)

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
