"""Tests removing tasks by hand."""

from datetime import timedelta
from typing import Any

import pytest

from fang_core.conformance.backend import Backend
from fang_core.record import Task, TaskState

HOUR = timedelta(hours=1)


MANY: list[tuple[str, list[str]]] = [
    ("remove_tasks_type", ["common"]),
    ("remove_all_tasks", []),
    ("remove_all_scheduled_tasks", []),
]


class Stop(Exception):
    """Stops a removal."""


def stop(removed: int) -> None:
    raise Stop(removed)


def in_every_state(backend: Backend) -> dict[str, Task]:
    """Returns a task in each state, by name; no other task may be due."""
    snoozed, retried = backend.insert(backend.note(ending="snooze")), backend.insert(backend.note(ending="later"))
    assert backend.drain() == 2
    tasks = {
        "snoozed": snoozed,
        "retried": retried,
        "held": backend.held(backend.note()),
        "due": backend.insert(backend.note()),
        "scheduled": backend.insert(backend.note(), delay=HOUR),
    }
    for state in (TaskState.FINISHED, TaskState.FAILED, TaskState.CANCELLED):
        tasks[state] = backend.move(backend.insert(backend.note(), delay=HOUR), state)
    return tasks


def left(backend: Backend, tasks: dict[str, Task]) -> set[str]:
    """Returns the names of the tasks that still exist."""
    return {name for name, task in tasks.items() if backend.find(task) is not None}


class RemovalSuite:
    """Tests ``remove_task`` and the other removals."""

    def test_one_is_removed_by_its_id_in_whatever_state(self, backend: Backend) -> None:
        tasks = in_every_state(backend)
        for name, task in list(tasks.items()):
            assert backend.call(backend.queue.remove_task, task.id) == 1
            assert backend.call(backend.queue.remove_task, task.id) == 0
            assert name not in left(backend, tasks)
            del tasks[name]
            assert left(backend, tasks) == tasks.keys()

    def test_all_of_a_type_are_removed_in_whatever_state(self, backend: Backend) -> None:
        tasks = in_every_state(backend)
        other = backend.insert(backend.note(), task_type="other")
        assert backend.call(backend.queue.remove_tasks_type, "nobody's") == 0
        assert backend.call(backend.queue.remove_tasks_type, "common") == len(tasks)
        assert left(backend, tasks) == set()
        assert backend.row(other) == other

    def test_all_are_removed_in_whatever_state(self, backend: Backend) -> None:
        tasks = in_every_state(backend)
        backend.insert(backend.note(), task_type="other")
        assert backend.call(backend.queue.remove_all_tasks) == len(tasks) + 1
        assert left(backend, tasks) == set()
        assert backend.call(backend.queue.remove_all_tasks) == 0

    def test_of_the_scheduled_ones_only_those_that_wait_for_their_first_run_are_removed(self, backend: Backend) -> None:
        tasks = in_every_state(backend)
        backend.insert(backend.note(), task_type="other", delay=HOUR)
        assert backend.call(backend.queue.remove_all_scheduled_tasks) == 2
        assert left(backend, tasks) == tasks.keys() - {"scheduled"}
        assert backend.call(backend.queue.remove_all_scheduled_tasks) == 0

    def test_progress_is_told_up_to_all_that_were_removed(self, backend: Backend) -> None:
        for method, args in MANY:
            backend.insert_many([backend.note() for _ in range(20)], delay=HOUR)
            told: list[int] = []
            assert backend.call(getattr(backend.queue, method), *args, on_progress=told.append) == 20
            assert told == sorted(set(told))
            assert told[-1] == 20
            assert backend.call(getattr(backend.queue, method), *args, on_progress=told.append) == 0
            assert told[-1] == 20

    def test_what_progress_raises_stops_a_removal_and_says_how_many_are_gone(self, backend: Backend) -> None:
        backend.insert_many([backend.note() for _ in range(3)])
        with pytest.raises(Stop) as stopped:
            backend.call(backend.queue.remove_all_tasks, on_progress=stop)
        left = backend.call(backend.queue.remove_all_tasks)
        assert stopped.value.args == (3 - left,)
        assert f" {3 - left} tasks were removed" in stopped.value.__notes__[0]

    def test_removals_are_part_of_their_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        for method in ("one", "by_metadata", "type", "all", "all_scheduled"):
            task = backend.insert(backend.unique_note(), delay=HOUR)
            with backend.rolled_back() as connection:
                assert self._remove(backend, method, task, connection) == 1
                assert backend.row(task) == task
            assert backend.row(task) == task
            with backend.transaction() as connection:
                assert self._remove(backend, method, task, connection) == 1
            assert backend.find(task) is None

    def _remove(self, backend: Backend, method: str, task: Task, connection: Any) -> int:
        queue = backend.queue
        calls: dict[str, tuple[Any, ...]] = {
            "one": (queue.remove_task, task.id),
            "by_metadata": (queue.remove_task_by_metadata, backend.unique_note()),
            "type": (queue.remove_tasks_type, "common"),
            "all": (queue.remove_all_tasks,),
            "all_scheduled": (queue.remove_all_scheduled_tasks,),
        }
        count: int = backend.call(*calls[method], connection=connection)
        return count
