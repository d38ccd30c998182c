"""Implements the ``Verbs`` of a queue in memory, on a ``MemoryState``. None of them ever waits."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fang_core.backends.listing import page_of
from fang_core.backends.memory.audit import MemoryAudit
from fang_core.backends.memory.explaining import facts_of
from fang_core.backends.memory.moving import MemoryMoving
from fang_core.backends.memory.schedules import MemorySchedules
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.ticks import Tick
from fang_core.backends.verbs import Batch, Fetched
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import Change
from fang_core.monitoring.facts import Facts
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.monitoring.reading import Range
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_core.record import PoolInfo, Task, TaskState
from fang_core.runs.run import Run
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.editing import Edit
from fang_core.tasks.insertion import Bulk, NewTask, Overrides
from fang_core.tasks.managing import LimitChange, Pause
from fang_core.tasks.selecting.filter import TaskFilter


class MemoryVerbs:
    """See ``Verbs``. What deals with many tasks does so in one batch."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    @property
    def schedules(self) -> MemorySchedules:
        return self._state.schedules

    @property
    def audit(self) -> MemoryAudit:
        return self._state.audit

    @property
    def moving(self) -> MemoryMoving:
        return MemoryMoving(self._state)

    # Inserting --------------------------------------------------------------------------------------------------------

    def insert(self, row: NewTask, overrides: Overrides, /) -> Task:
        return self._state.insert([row], overrides)[0]

    def insert_many(self, bulk: Bulk, overrides: Overrides, /) -> list[Task]:
        return self._state.insert(list(bulk), overrides)

    def tick_by_hand(self, tick: Tick, /) -> Task | None:
        return self._state.schedules.tick_by_hand(tick)

    # One task ---------------------------------------------------------------------------------------------------------

    def find(self, task_id: UUID, /) -> Task | None:
        return self._state.find(task_id)

    def fetch(self, task_type: str, pool_id: UUID, /) -> Fetched:
        return self._state.fetch_and_touch(task_type, pool_id)

    def complete_run(self, run: Run, /) -> None:
        self._state.complete_run(run)

    def change(self, change: Change, /) -> Task:
        return self._state.change(change)

    def edit(self, edit: Edit, /) -> Task:
        return self._state.edit(edit)

    def cancel(self, task_id: UUID, wanted: Cancellation, /) -> Task | None:
        self._state.cancel(lambda task: task.id == task_id, wanted)
        return self._state.find(task_id)

    def remove(self, task_id: UUID, /) -> int:
        return self._state.remove_one(task_id)

    def remove_twin(self, compared: str, /) -> int:
        return self._state.remove_twin(compared)

    # Many tasks -------------------------------------------------------------------------------------------------------

    def cancel_batch(self, which: TaskFilter, wanted: Cancellation, limit: int, place: Any, /) -> Batch:
        return Batch(self._state.cancel(which.matches, wanted))

    def retry_batch(self, which: TaskFilter, limit: int, place: Any, /) -> Batch:
        return Batch(self._state.retry(which.matches))

    def remove_batch(self, which: TaskFilter, limit: int, place: Any, /) -> Batch:
        return Batch(self._state.remove(which.matches))

    def remove_scheduled_batch(self, limit: int, place: Any, /) -> Batch:
        return Batch(self._state.remove(self._is_scheduled))

    def _is_scheduled(self, task: Task) -> bool:
        return task.state is TaskState.NEW and task.attempt == 0 and task.scheduled_at > self._state.clock()

    # Pools ------------------------------------------------------------------------------------------------------------

    def list_pools(self) -> list[PoolInfo]:
        return self._state.registry.list_pools()

    def send(self, pool_id: UUID, kind: str, body: dict[str, Any], sender: str, /) -> bool:
        return self._state.registry.send(pool_id, kind, body, sender)

    # Task types -------------------------------------------------------------------------------------------------------

    def list_types(self) -> list[TypeInfo]:
        return self._state.managing.list_types()

    def set_limits(self, task_type: str, change: LimitChange, /) -> TypeInfo | None:
        return self._state.managing.set_limits(task_type, change)

    def pause_type(self, task_type: str, pause: Pause, /) -> TypeInfo:
        return self._state.managing.pause_type(task_type, pause)

    def resume_type(self, task_type: str, /) -> TypeInfo | None:
        return self._state.managing.resume_type(task_type)

    # Reading ----------------------------------------------------------------------------------------------------------

    def list_tasks(self, which: TaskFilter, limit: int, cursor: str | None, /) -> TaskPage:
        return page_of(self._rows(), which, limit, cursor)

    def count_tasks(self, which: TaskFilter, up_to: int, /) -> Count:
        return Count(sum(map(which.matches, self._rows())), True)

    def explain(self, task_id: UUID, /) -> Facts:
        return facts_of(self._state, task_id)

    def stats(self, asked: Range, /) -> Stats:
        return self._state.stats.read(asked)

    def heat_map(self, asked: Range, /) -> tuple[HeatPoint, ...]:
        return self._state.stats.heat_map(asked)

    # For tests --------------------------------------------------------------------------------------------------------

    def tasks_of_kinds(self, kinds: Sequence[str], /) -> list[Task]:
        return [task for task in self._rows() if task.kind in kinds]

    def count_by_kind(self) -> dict[str, int]:
        return dict(Counter(task.kind for task in self._rows()))

    def _rows(self) -> list[Task]:
        """All rows, in the order of their insertion."""
        return self._state.rows
