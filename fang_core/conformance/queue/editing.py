"""Tests changing the payload and the options of tasks that wait."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest

from fang_core.conformance.backend import Backend
from fang_core.conformance.queue.by_hand import in_state
from fang_core.conformance.store.flow import TYPE, managing
from fang_core.conformance.store.waking import Sleeper
from fang_core.errors import StaleTask, TwinExists, UsageError
from fang_core.flow.limits import Limit
from fang_core.lifecycle import DUE_STATES
from fang_core.record import Task, TaskState
from fang_core.tasks.uniqueness import Unique

HOUR: Final = timedelta(hours=1)


def edited(backend: Backend, task: Task, new_task: Any, **options: Any) -> Task:
    """Calls ``queue.update_task``; returns the row, which must be as the call has returned it."""
    row: Task = backend.call(backend.queue.update_task, task, new_task, **options)
    assert row == backend.row(task)
    return row


class EditSuite:
    """Tests ``update_task``."""

    def test_a_task_that_waits_gets_the_new_fields_and_nothing_else_changes(self, backend: Backend) -> None:
        for state in DUE_STATES:
            task = in_state(backend, state)
            after = edited(backend, task, backend.note(n=7, ending="snooze"))
            assert after.metadata == {**task.metadata, "n": 7, "ending": "snooze"}
            assert after.updated_at > task.updated_at
            assert after == task._replace(metadata=after.metadata, updated_at=after.updated_at)
            backend.call(backend.queue.remove_all_tasks)

    def test_the_new_fields_are_what_runs(self, backend: Backend) -> None:
        task = backend.insert(backend.note(n=1))
        edited(backend, task, backend.note(n=2))
        assert backend.drain() == 1
        assert [ran.n for ran in backend.journal] == [2]

    def test_options_change_only_if_they_are_given(self, backend: Backend) -> None:
        task = backend.insert(
            backend.note(), delay=HOUR, priority=1, headers={"a": "1"}, timeout=HOUR, max_retries=5, expires=HOUR
        )
        assert edited(backend, task, backend.note(n=1)).expires_at == task.expires_at
        task = backend.row(task)
        later = task.scheduled_at + HOUR
        cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"priority": -1}, {"priority": -1}),
            ({"task_type": "mail"}, {"task_type": "mail"}),
            ({"headers": {"b": "2"}}, {"headers": {"b": "2"}}),
            ({"headers": {}}, {"headers": None}),
            ({"timeout": 2 * HOUR, "max_retries": 0}, {"timeout": 2 * HOUR, "max_retries": 0}),
            ({"scheduled_at": later}, {"scheduled_at": later}),
            ({"expires": 2 * HOUR}, {"expires_at": later + 2 * HOUR}),
            ({"expires": later}, {"expires_at": later}),
        ]
        for options, changed in cases:
            after = edited(backend, task, backend.note(n=1), **options)
            assert after == task._replace(**changed, updated_at=after.updated_at), options
            task = after
        sooner = edited(backend, task, backend.note(n=1), delay=timedelta(0))
        assert sooner.scheduled_at < task.scheduled_at

    def test_a_row_that_has_changed_since_it_was_read_is_left_alone(self, backend: Backend) -> None:
        changes: tuple[Callable[[Task], Any], ...] = (
            lambda task: edited(backend, task, backend.note(n=1)),
            lambda _: backend.fetch(),
            lambda task: backend.move(backend.move(task, TaskState.CANCELLED), TaskState.NEW),
            lambda task: backend.call(backend.queue.remove_task, task.id),
        )
        for change in changes:
            task = backend.insert(backend.note())
            change(task)
            now = backend.find(task)
            with pytest.raises(StaleTask, match=f"task {task.id} has changed since it was read"):
                backend.call(backend.queue.update_task, task, backend.note(n=2))
            assert backend.find(task) == now
            backend.call(backend.queue.remove_all_tasks)

    def test_only_a_task_that_waits_can_be_changed_and_only_to_one_of_its_kind(self, backend: Backend) -> None:
        for state in set(TaskState) - set(DUE_STATES):
            task = in_state(backend, state)
            with pytest.raises(UsageError, match=f"a task that is {state} cannot be changed"):
                backend.call(backend.queue.update_task, task, backend.note(n=1))
            backend.call(backend.queue.remove_all_tasks)
        task = backend.insert(backend.note())
        for bad in (backend.foreign_note(), backend.note, None):
            with pytest.raises(UsageError):
                backend.call(backend.queue.update_task, task, bad)
        for options in ({"uniq": True}, {"priority": 9}, {"timeout": 7}, {"scheduled_at": "now"}, {"id": task.id}):
            with pytest.raises((UsageError, TypeError)):
                backend.call(backend.queue.update_task, task, backend.note(n=1), **options)
        assert backend.row(task) == task

    def test_a_unique_task_is_compared_by_its_new_fields(self, backend: Backend) -> None:
        for uniq in (True, Unique(while_="waiting")):
            task = backend.insert(backend.note(n=1), uniq=uniq, delay=HOUR)
            other = backend.insert(backend.note(n=2), uniq=uniq, delay=HOUR)
            with pytest.raises(TwinExists, match=f"task {task.id} cannot be changed so"):
                backend.call(backend.queue.update_task, task, backend.note(n=2))
            assert backend.row(task) == task
            edited(backend, task, backend.note(n=3))
            assert backend.insert(backend.note(n=3), uniq=uniq).id == task.id
            assert not backend.insert(backend.note(n=1), uniq=uniq, delay=HOUR).conflict
            assert edited(backend, other, backend.note(n=2), priority=1).priority == 1  # it is not its own twin
            backend.call(backend.queue.remove_all_tasks)

    def test_a_task_of_a_type_with_limits_is_counted_by_its_new_key(self, backend: Backend) -> None:
        managing(backend, Limit(1, by="n"))
        task = backend.insert(backend.limited_note(n=1), delay=HOUR)
        assert edited(backend, task, backend.limited_note(n=2)).lane == "2"
        plain = backend.insert(backend.note(), delay=HOUR)
        assert plain.lane is None
        assert edited(backend, plain, backend.note(n=1), task_type=TYPE).lane == ""

    def test_a_task_that_is_due_sooner_wakes_a_pool_that_waits(self, backend: Backend) -> None:
        backend.needs("wakes")
        sleeper = Sleeper(backend, "common")
        sleeper.fall_asleep()
        task = backend.insert(backend.note(), delay=HOUR)
        change = partial(backend.call, backend.queue.update_task, task, backend.note(n=1), delay=timedelta(0))
        assert sleeper.is_woken_by(change)

    def test_it_is_part_of_its_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        task = backend.insert(backend.note(), delay=HOUR)
        for ends in (backend.rolled_back, backend.transaction):
            with ends() as connection:
                after = backend.call(backend.queue.update_task, task, backend.note(n=1), connection=connection)
                assert backend.row(task) == task
            assert backend.row(task) == (after if ends == backend.transaction else task)
