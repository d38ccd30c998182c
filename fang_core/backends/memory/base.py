"""What a queue in memory does: the work of ``MemoryQueue`` and of ``AsyncMemoryQueue``, written once.

There are no transactions here: an insert stands at once, whatever ``connection`` was given.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from fang_core.backends.capabilities import Capabilities
from fang_core.backends.listing import page_of
from fang_core.backends.memory.explaining import facts_of
from fang_core.backends.memory.state import Clock, MemoryState, utc_clock
from fang_core.backends.store import manual_pool
from fang_core.backends.ticking import next_tick
from fang_core.copying import Uncopyable
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import change_by_hand, fail_by_hand, retry_by_hand
from fang_core.logs import SafeLogger
from fang_core.messages import PoolMessage, body_of, checked_message, this_process, unknown_pool
from fang_core.monitoring.audit import AuditCall
from fang_core.monitoring.explaining import explained
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.listing import Count, TaskPage, checked_limit, checked_up_to
from fang_core.monitoring.reading import Range
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_core.record import PoolInfo, Task, TaskState
from fang_core.runs.run import current_run
from fang_core.tasks.arguments import checked_id, checked_task_type
from fang_core.tasks.batches import Batches, OnProgress, cancelling, removal, retrying
from fang_core.tasks.cancelling import cancellation
from fang_core.tasks.codec import MAX_PAYLOAD_BYTES
from fang_core.tasks.filter import TaskFilter, any_filter, checked_filter, retried_filter
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Bulk, Inject, Overrides, Rules
from fang_core.tasks.managing import Pause, limited_type
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.scheduling import ScheduleCall

T = TypeVar("T")

logger = SafeLogger("fang_core")


class MemoryQueueBase(Uncopyable):
    """Has a verb for each public one of the queues, which explain them; none of these ever waits."""

    def __init__(
        self,
        *,
        state: MemoryState | None = None,
        clock: Clock = utc_clock,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        duplicated_tasks: bool = True,
        inject: Sequence[Inject] = (),
        insert_middleware: Sequence[InsertMiddleware] = (),
    ) -> None:
        self.state = state if state is not None else MemoryState(clock)
        self.rules = Rules(
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            inject=inject,
            insert_middleware=insert_middleware,
        )
        self.is_open = True
        self.capabilities = Capabilities(wakes=True)
        self.connects_within = 0.0
        self._manual_pool = manual_pool(uuid4())

    @property
    def tasks(self) -> list[Task]:
        """All rows, in the order of their insertion."""
        with self.state.lock:
            return list(self.state.tasks.values())

    # For tests --------------------------------------------------------------------------------------------------------

    def _tasks_of_kinds(self, kinds: Sequence[str]) -> list[Task]:
        return [task for task in self.tasks if task.kind in kinds]

    def _count_by_kind(self) -> dict[str, int]:
        return dict(Counter(task.kind for task in self.tasks))

    # Inserting --------------------------------------------------------------------------------------------------------

    def _insert_task(self, task: BaseRunnable, task_id: UUID | None, options: InsertOptions) -> Task:
        if not self.rules.insert_middleware:
            return self._insert([task], self.rules.overrides(task_id, **options))[0]
        with self.rules.inserting((task,), options, is_bulk=False) as insertion:
            insertion.rows = self._insert(insertion.tasks, self.rules.overrides(task_id, **insertion.options))
            return insertion.rows[0]

    def _insert_tasks(self, tasks: Iterable[BaseRunnable], options: InsertOptions) -> list[Task]:
        if not self.rules.insert_middleware:
            return self._insert(tasks, self.rules.overrides(**options))
        with self.rules.inserting(tasks, options, is_bulk=True) as insertion:
            rows = insertion.rows = self._insert(insertion.tasks, self.rules.overrides(**insertion.options))
            return rows

    def _insert(self, tasks: Iterable[BaseRunnable], overrides: Overrides) -> list[Task]:
        return self.state.insert(list(Bulk(tasks, overrides, self.rules)), overrides)

    def _schedule(self, task: BaseRunnable) -> Task:
        with self.state.lock:
            tick = next_tick(task, self.state.clock(), self.rules)
            scheduled = self.state.schedules.tick_by_hand(tick)
        assert scheduled is not None  # the tick lies ahead
        return scheduled

    def _on_schedules(self, call: ScheduleCall[T]) -> T:
        return call.on(self.state.schedules)

    # One task ---------------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        self.state.complete_run(current_run())

    def _find(self, task_id: UUID) -> Task | None:
        return self.state.find(checked_id(task_id))

    def _fetch(self, task_type: str) -> Task | None:
        return self.state.fetch_and_touch(checked_task_type(task_type), self._manual_pool)

    def _update_state(self, task: Task, state: TaskState) -> Task:
        return self.state.change(change_by_hand(task, state))

    def _fail(self, task: Task, error_message: str) -> Task:
        return self.state.change(fail_by_hand(task, error_message))

    def _schedule_retry(self, task: Task, backoff: timedelta, error_message: str) -> Task:
        return self.state.change(retry_by_hand(task, backoff, error_message))

    # Pools ------------------------------------------------------------------------------------------------------------

    def _pools(self) -> list[PoolInfo]:
        return self.state.list_pools()

    def _explain(self, task_id: UUID) -> Explanation:
        return explained(facts_of(self.state, checked_id(task_id)))

    def _stats(self, asked: Range) -> Stats:
        return self.state.stats.read(asked)

    def _heat_map(self, asked: Range) -> tuple[HeatPoint, ...]:
        return self.state.stats.heat_map(asked)

    def _control(self, pool_id: UUID, message: PoolMessage) -> None:
        checked_id(pool_id, "pool_id")
        checked_message(message)
        if not self.state.send(pool_id, message.kind, body_of(message), this_process()):
            raise unknown_pool(pool_id)

    # The audit --------------------------------------------------------------------------------------------------------

    def _on_audit(self, call: AuditCall[T]) -> T:
        done: T = call.on(self.state.audit)
        return done

    # Task types -------------------------------------------------------------------------------------------------------

    def _pause(self, task_type: str, pause: Pause) -> TypeInfo:
        return self.state.pause_type(limited_type(task_type), pause)

    def _resume(self, task_type: str) -> TypeInfo | None:
        return self.state.resume_type(limited_type(task_type))

    # Lists ------------------------------------------------------------------------------------------------------------

    def _list(self, which: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
        return page_of(self.tasks, any_filter(which), checked_limit(limit), cursor)

    def _count(self, which: TaskFilter, up_to: int) -> Count:
        checked_up_to(up_to)
        return Count(sum(map(any_filter(which).matches, self.tasks)), True)

    # Cancelling -------------------------------------------------------------------------------------------------------

    def _cancel(self, task_id: UUID, reason: str, by: str | None) -> Task | None:
        checked_id(task_id)
        self.state.cancel(lambda task: task.id == task_id, cancellation(reason, by))
        return self.state.find(task_id)

    def _cancel_many(self, which: TaskFilter, reason: str, by: str | None, on_progress: OnProgress | None) -> int:
        batches, wanted = cancelling(on_progress), cancellation(reason, by)
        matches = checked_filter(which).matches
        return self._in_one_batch(batches, lambda: self.state.cancel(matches, wanted))

    # Retrying ---------------------------------------------------------------------------------------------------------

    def _retry_many(self, which: TaskFilter, by: str | None, on_progress: OnProgress | None) -> int:
        batches, who = retrying(on_progress), cancellation("", by).by
        matches = retried_filter(which).matches
        count = self._in_one_batch(batches, lambda: self.state.retry(matches))
        logger.info("%d tasks retried by %s", count, who)
        return count

    # Removing ---------------------------------------------------------------------------------------------------------

    def _remove(self, task_id: UUID) -> int:
        return self.state.remove_one(checked_id(task_id))

    def _remove_twin(self, task: BaseRunnable) -> int:
        return self.state.remove_twin(self.rules.hash_of_unique(task))

    def _remove_type(self, task_type: str, on_progress: OnProgress | None) -> int:
        checked_task_type(task_type)
        return self._remove_many(lambda task: task.task_type == task_type, on_progress)

    def _remove_all(self, on_progress: OnProgress | None) -> int:
        return self._remove_many(lambda _: True, on_progress)

    def _remove_scheduled(self, on_progress: OnProgress | None) -> int:
        return self._remove_many(self._is_scheduled, on_progress)

    def _remove_matching(self, which: TaskFilter, on_progress: OnProgress | None) -> int:
        return self._remove_many(checked_filter(which).matches, on_progress)

    def _remove_many(self, which: Callable[[Task], bool], on_progress: OnProgress | None) -> int:
        return self._in_one_batch(removal(on_progress), lambda: self.state.remove(which))

    def _in_one_batch(self, batches: Batches, work: Callable[[], int]) -> int:
        with batches.told(logger, in_transaction=False):
            batches.ended(work())
        return batches.done

    def _is_scheduled(self, task: Task) -> bool:
        return task.state is TaskState.NEW and task.attempt == 0 and task.scheduled_at > self.state.clock()
