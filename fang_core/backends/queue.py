"""Defines the public methods of a queue for threaded code, on the verbs of any backend: ``BaseQueue``.

The author of a backend supplies, for its two queues (``async_queue`` has the other shell, which is the same):

- the verbs, as ``fang_core.backends.verbs`` describes them: written once, for both queues.
- ``_do(call, connection)``, which has the backend carry out a call, and returns what the verb returns; with
  ``connection`` as part of the caller's transaction. How, is up to the backend. Verbs that are plain methods:
  ``call.on(verbs)``. Functions of an open transaction, which is committed behind them: ``with begin(connection) as
  transaction: return call.on(functions, transaction)``; in asyncio in one hop to a thread. Generators that yield
  operations and get replies: ``runner.run(call.on(verbs))``, with a runner of either colour. ``call.reads`` says that a
  verb writes nothing.
- ``_takes_connections = False``, if it has no transactions to take part in: ``connection=`` is then a ``UsageError``.
- ``_begin_to_hold`` and ``_doubt``, for tasks that are fetched by hand: the pool that holds them. Its heart beats until
  the queue closes, so that other pools take the tasks back if the process dies: ``fang_core.holding``.
- what ``fang_core.backends.store.Backend`` has beyond the methods of applications: ``is_open``, ``capabilities``,
  ``connects_within``, ``open``, ``close`` and ``store``.
- ``recipe``: a function that makes an equal queue in another process, for runs in child processes; None if none can.

Arguments are checked here, and rows are made here, before the backend is called; in the caller's thread, and in the
context of the caller.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, Unpack
from uuid import UUID

from fang_core.backends.moving import MovingCalls
from fang_core.backends.shells import fetch_unseen, refine_failure, too_busy, without_transactions
from fang_core.backends.ticking import next_tick
from fang_core.backends.verbs import Batch, Call, Verbs, call
from fang_core.copying import Uncopyable
from fang_core.errors import BackendError, StatementRefused
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import change_by_hand, fail_by_hand, retry_by_hand
from fang_core.logs import SafeLogger
from fang_core.messages import PoolMessage, body_of, checked_message, this_process, unknown_pool
from fang_core.monitoring.audit import Audit, AuditCall
from fang_core.monitoring.explaining import explained
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.listing import Count, TaskPage, checked_limit, checked_up_to
from fang_core.monitoring.reading import checked_range
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_core.record import DEFAULT_TASK_TYPE, PoolInfo, Task, TaskState
from fang_core.runs.interrupt import heed_interruption
from fang_core.runs.run import current_run
from fang_core.tasks.arguments import checked_id, checked_task_type
from fang_core.tasks.cancelling import cancellation
from fang_core.tasks.editing import edit
from fang_core.tasks.insertion import Bulk, Rules, name_unstorable
from fang_core.tasks.managing import LimitChange, Limits, limited_type, pause
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.queueable import Queueable
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.scheduling import LIST, QueueSchedules, ScheduleCall
from fang_core.tasks.selecting.batches import Batches, OnProgress, cancelling, removal, retrying
from fang_core.tasks.selecting.filter import ANY_TASK, TaskFilter, any_filter, checked_filter, retried_filter

C = TypeVar("C")
T = TypeVar("T")

_TRIES: Final = 20  # to insert a tick while other processes make and remove it


class BaseQueue(Uncopyable, Queueable, Generic[C]):
    """A ``Queueable`` on the verbs of a backend. ``C`` is what its ``connection=`` takes.

    ``Queueable`` has the docstrings of the public methods, which editors and ``help()`` show for these.
    """

    rules: Rules
    _logger: ClassVar = SafeLogger("fang_core")
    _takes_connections: ClassVar[bool] = True
    _makes_rows_ahead: ClassVar[bool] = False
    """Whether ``insert_many`` makes the rows of its bulk by itself, while it sends others."""

    # What the backend supplies ----------------------------------------------------------------------------------------

    @abstractmethod
    def _do(self, call: Call[T], connection: C | None, /) -> T:
        """Makes the backend carry out a call, in the caller's transaction if a connection is given."""

    @abstractmethod
    def _begin_to_hold(self) -> UUID:
        """Returns the pool that holds tasks fetched by hand; registers it, and starts its heart, if need be."""

    @abstractmethod
    def _doubt(self, pool_id: UUID) -> None:
        """Looks whether the record of that pool is gone, after a fetch did not find it."""

    @abstractmethod
    def open(self) -> None:
        """See ``Backend.open``."""

    @abstractmethod
    def close(self) -> None:
        """See ``Backend.close``."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What applications and runs call ----------------------------------------------------------------------------------

    def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        id: UUID | None = None,
        connection: C | None = None,
        **options: Unpack[InsertOptions],
    ) -> Task:
        if not self.rules.insert_middleware:
            return self._insert(task, id, connection, options)
        with self.rules.inserting((task,), options, is_bulk=False) as insertion:
            row = self._insert(task, id, connection, insertion.options)
            insertion.rows = (row,)
            return row

    def _insert(self, task: BaseRunnable, task_id: UUID | None, connection: C | None, options: InsertOptions) -> Task:
        overrides = self.rules.overrides(task_id, **options)
        row = overrides.new_task(task, self.rules)
        inserting = call(Verbs.insert, row, overrides)
        if connection is not None:
            return self._run(inserting, connection)
        try:
            return self._run(inserting)
        except BackendError as error:
            refine_failure(error, "whether the task was inserted", (row,))
            raise

    def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        connection: C | None = None,
        **options: Unpack[InsertOptions],
    ) -> list[Task]:
        if not self.rules.insert_middleware:
            return self._insert_many(tasks, connection, options)
        with self.rules.inserting(tasks, options, is_bulk=True) as insertion:
            rows = insertion.rows = self._insert_many(insertion.tasks, connection, insertion.options)
            return rows

    def _insert_many(self, tasks: Iterable[BaseRunnable], connection: C | None, options: InsertOptions) -> list[Task]:
        overrides = self.rules.overrides(**options)
        bulk = Bulk(tasks, overrides, self.rules)
        if connection is not None or not self._makes_rows_ahead:
            bulk.make_all()
        inserting = call(Verbs.insert_many, bulk, overrides)
        if connection is not None:
            return self._run(inserting, connection)
        try:
            return self._run(inserting)
        except BackendError as error:
            refine_failure(error, "whether the tasks were inserted", bulk)
            raise

    def schedule_task(self, task: BaseRunnable, /, *, connection: C | None = None) -> Task:
        for _ in range(_TRIES):
            tick = next_tick(task, self._do_schedule(LIST, connection), self.rules)
            scheduled = self._run(call(Verbs.tick_by_hand, tick), connection)
            if scheduled is not None:  # otherwise its time has come meanwhile
                return scheduled
        raise too_busy(type(task).__name__)

    @property
    def schedules(self) -> QueueSchedules:
        return QueueSchedules(self._do_schedule, self.rules)

    @property
    def moving(self) -> MovingCalls:
        """Reads and writes whole tasks, for ``fang move``: see ``fang_core.backends.moving``."""
        return MovingCalls(self._run)

    def complete(self, *, connection: C) -> None:
        self._run(call(Verbs.complete_run, current_run()), connection)

    def find_task_by_id(self, task_id: UUID, /, *, connection: C | None = None) -> Task | None:
        return self._run(call(Verbs.find, checked_id(task_id)), connection)

    def fetch_and_touch_task(
        self, task_type: str = DEFAULT_TASK_TYPE, /, *, connection: C | None = None
    ) -> Task | None:
        checked_task_type(task_type)
        for _ in range(2):
            pool_id = self._begin_to_hold()
            fetched = self._run(call(Verbs.fetch, task_type, pool_id), connection)
            if fetched.registered:
                return fetched.task
            self._doubt(pool_id)  # other pools took it for dead, or the transaction does not see it yet
        raise fetch_unseen()

    def update_task_state(self, task: Task, state: TaskState, /, *, connection: C | None = None) -> Task:
        return self._run(call(Verbs.change, change_by_hand(task, state)), connection)

    def update_task(
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
            return self._run(call(Verbs.edit, wanted), connection)
        except StatementRefused as error:
            name_unstorable((wanted.row,), error.character)
            raise

    def fail_task(self, task: Task, error_message: str, /, *, connection: C | None = None) -> Task:
        return self._run(call(Verbs.change, fail_by_hand(task, error_message)), connection)

    def schedule_retry(
        self, task: Task, backoff: timedelta, error_message: str, /, *, connection: C | None = None
    ) -> Task:
        return self._run(call(Verbs.change, retry_by_hand(task, backoff, error_message)), connection)

    def pools(self) -> list[PoolInfo]:
        return self._run(call(Verbs.list_pools))

    def explain(self, task_id: UUID, /) -> Explanation:
        return explained(self._run(call(Verbs.explain, checked_id(task_id))))

    def stats(
        self,
        since: timedelta = timedelta(hours=1),
        /,
        *,
        task_types: str | Sequence[str] | None = None,
        kinds: str | Sequence[str] | None = None,
    ) -> Stats:
        return self._run(call(Verbs.stats, checked_range(since, task_types, kinds)))

    def heat_map(
        self, kind: str, since: timedelta = timedelta(hours=1), /, *, task_type: str | None = None
    ) -> tuple[HeatPoint, ...]:
        return self._run(call(Verbs.heat_map, checked_range(since, task_type, [kind])))

    def control(self, pool_id: UUID, message: PoolMessage, /) -> None:
        checked_id(pool_id, "pool_id")
        checked_message(message)
        if not self._run(call(Verbs.send, pool_id, message.kind, body_of(message), this_process())):
            raise unknown_pool(pool_id)

    @property
    def audit(self) -> Audit:
        return Audit(self._do_audit)

    @property
    def limits(self) -> Limits:
        return Limits(self)

    def pause(
        self,
        task_type: str,
        /,
        *,
        until: datetime | timedelta | None = None,
        reason: str | None = None,
        by: str | None = None,
        connection: C | None = None,
    ) -> TypeInfo:
        return self._run(call(Verbs.pause_type, limited_type(task_type), pause(until, reason, by)), connection)

    def resume(self, task_type: str, /, *, connection: C | None = None) -> TypeInfo | None:
        return self._run(call(Verbs.resume_type, limited_type(task_type)), connection)

    def list_tasks(self, which: TaskFilter = ANY_TASK, /, *, limit: int = 50, cursor: str | None = None) -> TaskPage:
        return self._run(call(Verbs.list_tasks, any_filter(which), checked_limit(limit), cursor))

    def count_tasks(self, which: TaskFilter = ANY_TASK, /, *, up_to: int = 10_000) -> Count:
        return self._run(call(Verbs.count_tasks, any_filter(which), checked_up_to(up_to)))

    def cancel_task(
        self, task_id: UUID, /, reason: str = "", *, by: str | None = None, connection: C | None = None
    ) -> Task | None:
        return self._run(call(Verbs.cancel, checked_id(task_id), cancellation(reason, by)), connection)

    def cancel_tasks(
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
        return self._in_batches(batches, Verbs.cancel_batch, (checked_filter(which), wanted), connection)

    def retry_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        by: str | None = None,
        on_progress: OnProgress | None = None,
        connection: C | None = None,
    ) -> int:
        batches, who = retrying(on_progress), cancellation("", by).by
        count = self._in_batches(batches, Verbs.retry_batch, (retried_filter(which),), connection)
        self._logger.info("%d tasks retried by %s", count, who)
        return count

    def remove_tasks(
        self,
        which: TaskFilter,
        /,
        *,
        on_progress: OnProgress | None = None,
        connection: C | None = None,
    ) -> int:
        return self._in_batches(removal(on_progress), Verbs.remove_batch, (checked_filter(which),), connection)

    def remove_task(self, task_id: UUID, /, *, connection: C | None = None) -> int:
        return self._run(call(Verbs.remove, checked_id(task_id)), connection)

    def remove_task_by_metadata(self, task: BaseRunnable, /, *, connection: C | None = None) -> int:
        return self._run(call(Verbs.remove_twin, self.rules.hash_of_unique(task)), connection)

    def remove_tasks_type(
        self, task_type: str, /, *, on_progress: OnProgress | None = None, connection: C | None = None
    ) -> int:
        checked_task_type(task_type)
        return self._remove_all(TaskFilter(task_types=(task_type,)), on_progress, connection)

    def remove_all_tasks(self, *, on_progress: OnProgress | None = None, connection: C | None = None) -> int:
        return self._remove_all(TaskFilter(all_tasks=True), on_progress, connection)

    def remove_all_scheduled_tasks(self, *, on_progress: OnProgress | None = None, connection: C | None = None) -> int:
        return self._in_batches(removal(on_progress), Verbs.remove_scheduled_batch, (), connection)

    # For tests --------------------------------------------------------------------------------------------------------

    def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: C | None = None) -> list[Task]:
        """Returns the rows of these kinds, in the order of their insertion: for tests."""
        return self._run(call(Verbs.tasks_of_kinds, kinds), connection)

    def count_by_kind(self, *, connection: C | None = None) -> dict[str, int]:
        """Returns how many tasks of each kind there are: for tests."""
        return self._run(call(Verbs.count_by_kind), connection)

    # How calls are made -----------------------------------------------------------------------------------------------

    def _run(self, call: Call[T], connection: C | None = None) -> T:
        if connection is not None and not self._takes_connections:
            raise without_transactions(type(self).__name__)
        heed_interruption()
        return self._do(call, connection)

    def _in_batches(
        self, batches: Batches, verb: Callable[..., Any], args: tuple[Any, ...], connection: C | None
    ) -> int:
        """Repeats a verb until nothing is left; each batch is a call of its own. Returns how many tasks these were."""
        with batches.told(self._logger, in_transaction=connection is not None):
            place: Any = None
            while True:
                batches.begin()
                batch: Batch = self._run(call(verb, *args, batches.limit, place), connection)
                batches.ended(batch.dealt_with)
                if batch.place is None:
                    return batches.done
                place = batch.place

    def _remove_all(self, which: TaskFilter, on_progress: OnProgress | None, connection: C | None) -> int:
        """Removes the tasks of one type, or all. A backend may have a better way than that for other filters."""
        return self._in_batches(removal(on_progress), Verbs.remove_batch, (which,), connection)

    def _do_schedule(self, wanted: ScheduleCall[T], connection: C | None) -> T:
        try:
            return self._run(Call[T](f"schedules.{wanted.verb}", wanted.args), connection)
        except StatementRefused as error:
            name_unstorable(wanted.rows, error.character)
            raise

    def _do_audit(self, wanted: AuditCall[T]) -> T:
        return self._run(Call[T](f"audit.{wanted.verb}", wanted.args))

    def _list_types(self) -> list[TypeInfo]:
        return self._run(call(Verbs.list_types))

    def _set_limits(self, task_type: str, change: LimitChange) -> TypeInfo | None:
        return self._run(call(Verbs.set_limits, task_type, change))
