"""The pool that holds what a queue has fetched by hand, on the memory backend."""

from fang_core import MemoryQueue, Queueable, Runnable, TaskState
from fang_core.backends.memory.store import MemoryStore
from fang_core.holding import Holder


class Carry(Runnable):
    def run(self, queue: Queueable) -> None:
        """Never runs."""


def test_tasks_are_held_until_the_end_and_then_given_back() -> None:
    queue = MemoryQueue()
    holder = Holder(MemoryStore(queue.state))
    held_by = holder.begin()
    assert holder.begin() == held_by
    task = queue.insert_task(Carry())
    assert queue.state.fetch_and_touch("common", held_by).task is not None
    holder.end()
    row = queue.find_task_by_id(task.id)
    assert row is not None
    assert (row.state, row.pool_id) == (TaskState.NEW, None)
    assert queue.pools() == []


def test_it_goes_on_under_another_id_if_its_record_is_gone() -> None:
    queue = MemoryQueue()
    holder = Holder(MemoryStore(queue.state))
    first = holder.begin()
    queue.state.registry.unregister(first)
    holder.doubt(first)
    second = holder.begin()
    holder.end()
    assert second != first
