"""Defines the public methods of a queue for asyncio code, on the verbs of any backend: ``AsyncBaseQueue``.

``fang_core.backends.queue`` says what the author of a backend supplies: here ``_do`` and the like are coroutines. Both
have the same methods; what is not a matter of colour stands in ``verbs``, ``shells`` and ``fang_core.tasks``.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, Unpack
from uuid import UUID

from fang_core.backends.moving import AsyncMovingCalls
from fang_core.backends.shells import fetch_unseen, refine_failure, too_busy, without_transactions
from fang_core.backends.ticking import next_tick
from fang_core.backends.verbs import Batch, Call, Verbs, call
from fang_core.copying import Uncopyable
from fang_core.errors import BackendError, StatementRefused
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import change_by_hand, fail_by_hand, retry_by_hand
from fang_core.logs import SafeLogger
from fang_core.messages import PoolMessage, body_of, checked_message, this_process, unknown_pool
from fang_core.monitoring.audit import AsyncAudit, AuditCall
from fang_core.monitoring.explaining import explained
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.listing import Count, TaskPage, checked_limit, checked_up_to
from fang_core.monitoring.reading import checked_range
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_core.record import DEFAULT_TASK_TYPE, PoolInfo, Task, TaskState
from fang_core.runs.run import current_run
from fang_core.tasks.arguments import checked_id, checked_task_type
from fang_core.tasks.async_queueable import AsyncQueueable
from fang_core.tasks.cancelling import cancellation
from fang_core.tasks.editing import edit
from fang_core.tasks.insertion import Bulk, Rules, name_unstorable
from fang_core.tasks.managing import AsyncLimits, LimitChange, limited_type, pause
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.scheduling import LIST, AsyncQueueSchedules, ScheduleCall
from fang_core.tasks.selecting.batches import Batches, OnProgress, cancelling, removal, retrying
from fang_core.tasks.selecting.filter import ANY_TASK, TaskFilter, any_filter, checked_filter, retried_filter

C = TypeVar("C")
T = TypeVar("T")

_TRIES: Final = 20  # to insert a tick while other processes make and remove it


class AsyncBaseQueue(Uncopyable, AsyncQueueable, Generic[C]):
    """An ``AsyncQueueable`` on the verbs of a backend. ``C`` is what its ``connection=`` takes.

    ``AsyncQueueable`` has the docstrings of the public methods, which editors and ``help()`` show for these.
    """

    rules: Rules
    _logger: ClassVar = SafeLogger("fang_core")
    _takes_connections: ClassVar[bool] = True
    _makes_rows_ahead: ClassVar[bool] = False
    """Whether ``insert_many`` makes the rows of its bulk by itself, while it sends others."""

    # What the backend supplies ----------------------------------------------------------------------------------------

    @abstractmethod
    async def _do(self, call: Call[T], connection: C | None, /) -> T:
        """Makes the backend carry out a call, in the caller's transaction if a connection is given."""

    @abstractmethod
    async def _begin_to_hold(self) -> UUID:
        """Returns the pool that holds tasks fetched by hand; registers it, and starts its heart, if need be."""

    @abstractmethod
    async def _doubt(self, pool_id: UUID) -> None:
        """Looks whether the record of that pool is gone, after a fetch did not find it."""

    @abstractmethod
    async def open(self) -> None:
        """See ``AsyncBackend.open``."""

    @abstractmethod
    async def close(self) -> None:
        """See ``AsyncBackend.close``."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What applications and runs call ----------------------------------------------------------------------------------

    async def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        id: UUID | None = None,
        connection: C | None = None,
        **options: Unpack[InsertOptions],
    ) -> Task:
        if not self.rules.insert_middleware:
            return await self._insert(task, id, connection, options)
        with self.rules.inserting((task,), options, is_bulk=False) as insertion:
            row = await self._insert(task, id, connection, insertion.options)
            insertion.rows = (row,)
            return row

    async def _insert(
        self, task: BaseRunnable, task_id: UUID | None, connection: C | None, options: InsertOptions
    ) -> Task:
        overrides = self.rules.overrides(task_id, **options)
        row = overrides.new_task(task, self.rules)
        inserting = call(Verbs.insert, row, overrides)
        if connection is not None:
            return await self._run(inserting, connection)
        try:
            return await self._run(inserting)
        except BackendError as error:
            refine_failure(error, "whether the task was inserted", (row,))
            raise

    async def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        connection: C | None = None,
        **options: Unpack[InsertOptions],
    ) -> list[Task]:
        if not self.rules.insert_middleware:
            return await self._insert_many(tasks, connection, options)
        with self.rules.inserting(tasks, options, is_bulk=True) as insertion:
            rows = insertion.rows = await self._insert_many(insertion.tasks, connection, insertion.options)
            return rows

    async def _insert_many(
        self, tasks: Iterable[BaseRunnable], connection: C | None, options: InsertOptions
    ) -> list[Task]:
        overrides = self.rules.overrides(**options)
        bulk = Bulk(tasks, overrides, self.rules)
        if connection is not None or not self._makes_rows_ahead:
            bulk.make_all()
        inserting = call(Verbs.insert_many, bulk, overrides)
        if connection is not None:
            return await self._run(inserting, connection)
        try:
            return await self._run(inserting)
        except BackendError as error:
            refine_failure(error, "whether the tasks were inserted", bulk)
            raise

    async def schedule_task(self, task: BaseRunnable, /, *, connection: C | None = None) -> Task:
        for _ in range(_TRIES):
            tick = next_tick(task, await self._do_schedule(LIST, connection), self.rules)
            scheduled = await self._run(call(Verbs.tick_by_hand, tick), connection)
            if scheduled is not None:  # otherwise its time has come meanwhile
                return scheduled
        raise too_busy(type(task).__name__)

    @property
    def schedules(self) -> AsyncQueueSchedules:
        return AsyncQueueSchedules(self._do_schedule, self.rules)

    @property
    def moving(self) -> AsyncMovingCalls:
        """Reads and writes whole tasks, for ``fang move``: see ``fang_core.backends.moving``."""
        return AsyncMovingCalls(self._run)

    async def complete(self, *, connection: C) -> None:
        await self._run(call(Verbs.complete_run, current_run()), connection)

    async def find_task_by_id(self, task_id: UUID, /, *, connection: C | None = None) -> Task | None:
        return await self._run(call(Verbs.find, checked_id(task_id)), connection)

    async def fetch_and_touch_task(
        self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: C | None = None
    ) -> Task | None:
        checked_task_type(task_type)
        for _ in range(2):
            pool_id = await self._begin_to_hold()
            fetched = await self._run(call(Verbs.fetch, task_type, pool_id), connection)
            if fetched.registered:
                return fetched.task
            await self._doubt(pool_id)  # other pools took it for dead, or the transaction does not see it yet
        raise fetch_unseen()

    async def update_task_state(self, task: Task, state: TaskState, /, *, connection: C | None = None) -> Task:
        return await self._run(call(Verbs.change, change_by_hand(task, state)), connection)

    async def update_task(
        self,
        task: Task,
        new_task: BaseRunnable,
        /,
        *,
        connection: C | None = None,
        **options: Unpack[InsertOptions],
    ) -> Task:
        wanted = edit(task, new_task, self.rules, **options)
        try:
            return await self._run(call(Verbs.edit, wanted), connection)
        except StatementRefused as error:
            name_unstorable((wanted.row,), error.character)
            raise

    async def fail_task(self, task: Task, error_message: str, /, *, connection: C | None = None) -> Task:
        return await self._run(call(Verbs.change, fail_by_hand(task, error_message)), connection)

    async def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: C | None = None
    ) -> Task:
        return await self._run(call(Verbs.change, retry_by_hand(task, backoff, error_message)), connection)

    async def pools(self) -> list[PoolInfo]:
        return await self._run(call(Verbs.list_pools))

    async def explain(self, task_id: UUID, /) -> Explanation:
        return explained(await self._run(call(Verbs.explain, checked_id(task_id))))

    async def stats(
        self,
        since: timedelta = timedelta(hours=1),
        /,
        *,
        task_types: str | Sequence[str] | None = None,
        kinds: str | Sequence[str] | None = None,
    ) -> Stats:
        return await self._run(call(Verbs.stats, checked_range(since, task_types, kinds)))

    async def heat_map(
        self, kind: str, since: timedelta = timedelta(hours=1), /, *, task_type: str | None = None
    ) -> tuple[HeatPoint, ...]:
        return await self._run(call(Verbs.heat_map, checked_range(since, task_type, [kind])))

    async def control(self, pool_id: UUID, message: PoolMessage, /) -> None:
        checked_id(pool_id, "pool_id")
        checked_message(message)
        if not await self._run(call(Verbs.send, pool_id, message.kind, body_of(message), this_process())):
            raise unknown_pool(pool_id)

    @property
    def audit(self) -> AsyncAudit:
        return AsyncAudit(self._do_audit)

    @property
    def limits(self) -> AsyncLimits:
        return AsyncLimits(self)

    async def pause(
        self,
        task_type: str,
        /,
        *,
        until: datetime | timedelta | None = None,
        reason: str | None = None,
        by: str | None = None,
        connection: C | None = None,
    ) -> TypeInfo:
        return await self._run(call(Verbs.pause_type, limited_type(task_type), pause(until, reason, by)), connection)

    async def resume(self, task_type: str, /, *, connection: C | None = None) -> TypeInfo | None:
        return await self._run(call(Verbs.resume_type, limited_type(task_type)), connection)

    async def list_tasks(
        self, which: TaskFilter = ANY_TASK, /, *, limit: int = 50, cursor: str | None = None
    ) -> TaskPage:
        return await self._run(call(Verbs.list_tasks, any_filter(which), checked_limit(limit), cursor))

    async def count_tasks(self, which: TaskFilter = ANY_TASK, /, *, up_to: int = 10_000) -> Count:
        return await self._run(call(Verbs.count_tasks, any_filter(which), checked_up_to(up_to)))

    async def cancel_task(
        self, task_id: UUID, /, reason: str = "", *, by: str | None = None, connection: C | None = None
    ) -> Task | None:
        return await self._run(call(Verbs.cancel, checked_id(task_id), cancellation(reason, by)), connection)

    async def cancel_tasks(
        self,
        which: TaskFilter,
        /,
        reason: str = "",
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: C | None = None,
    ) -> int:
        batches, wanted = cancelling(on_progress), cancellation(reason, by)
        return await self._in_batches(batches, Verbs.cancel_batch, (checked_filter(which), wanted), connection)

    async def retry_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: C | None = None,
    ) -> int:
        batches, who = retrying(on_progress), cancellation("", by).by
        count = await self._in_batches(batches, Verbs.retry_batch, (retried_filter(which),), connection)
        self._logger.info("%d tasks retried by %s", count, who)
        return count

    async def remove_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        on_progress: OnProgress | None = None,
        connection: C | None = None,
    ) -> int:
        return await self._in_batches(removal(on_progress), Verbs.remove_batch, (checked_filter(which),), connection)

    async def remove_task(self, task_id: UUID, /, *, connection: C | None = None) -> int:
        return await self._run(call(Verbs.remove, checked_id(task_id)), connection)

    async def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: C | None = None) -> int:
        return await self._run(call(Verbs.remove_twin, self.rules.hash_of_unique(task)), connection)

    async def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: C | None = None
    ) -> int:
        checked_task_type(task_type)
        return await self._remove_all(TaskFilter(task_types=(task_type,)), on_progress, connection)

    async def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: C | None = None) -> int:
        return await self._remove_all(TaskFilter(all_tasks=True), on_progress, connection)

    async def remove_all_scheduled_tasks(
        self, *, on_progress: OnProgress | None = None, connection: C | None = None
    ) -> int:
        return await self._in_batches(removal(on_progress), Verbs.remove_scheduled_batch, (), connection)

    # For tests --------------------------------------------------------------------------------------------------------

    async def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: C | None = None) -> list[Task]:
        """Returns the rows of these kinds, in the order of their insertion: for tests."""
        return await self._run(call(Verbs.tasks_of_kinds, kinds), connection)

    async def count_by_kind(self, *, connection: C | None = None) -> dict[str, int]:
        """Returns how many tasks of each kind there are: for tests."""
        return await self._run(call(Verbs.count_by_kind), connection)

    # How calls are made -----------------------------------------------------------------------------------------------

    async def _run(self, call: Call[T], connection: C | None = None) -> T:
        if connection is not None and not self._takes_connections:
            raise without_transactions(type(self).__name__)
        return await self._do(call, connection)

    async def _in_batches(
        self, batches: Batches, verb: Callable[..., Any], args: tuple[Any, ...], connection: C | None
    ) -> int:
        """Repeats a verb until nothing is left; each batch is a call of its own. Returns how many tasks these were."""
        with batches.told(self._logger, in_transaction=connection is not None):
            place: Any = None
            while True:
                batches.begin()
                batch: Batch = await self._run(call(verb, *args, batches.limit, place), connection)
                batches.ended(batch.dealt_with)
                if batch.place is None:
                    return batches.done
                place = batch.place

    async def _remove_all(self, which: TaskFilter, on_progress: OnProgress | None, connection: C | None) -> int:
        """Removes the tasks of one type, or all. A backend may have a better way than that for other filters."""
        return await self._in_batches(removal(on_progress), Verbs.remove_batch, (which,), connection)

    async def _do_schedule(self, wanted: ScheduleCall[T], connection: C | None) -> T:
        try:
            return await self._run(Call[T](f"schedules.{wanted.verb}", wanted.args), connection)
        except StatementRefused as error:
            name_unstorable(wanted.rows, error.character)
            raise

    async def _do_audit(self, wanted: AuditCall[T]) -> T:
        return await self._run(Call[T](f"audit.{wanted.verb}", wanted.args))

    async def _list_types(self) -> list[TypeInfo]:
        return await self._run(call(Verbs.list_types))

    async def _set_limits(self, task_type: str, change: LimitChange) -> TypeInfo | None:
        return await self._run(call(Verbs.set_limits, task_type, change))
