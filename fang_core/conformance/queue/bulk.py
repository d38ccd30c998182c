"""Tests retrying and removing all tasks of a filter."""

from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest

from fang_core.conformance.backend import Backend
from fang_core.conformance.queue.by_hand import in_state
from fang_core.conformance.queue.cancelling import some
from fang_core.conformance.queue.removals import Stop, in_every_state, left, stop
from fang_core.conformance.store.flow import TYPE, managing
from fang_core.conformance.store.waking import Sleeper
from fang_core.flow.limits import Limit
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.record import Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.uniqueness import Unique

HOUR: Final = timedelta(hours=1)


def retry_many(backend: Backend, **options: Any) -> int:
    """Calls ``queue.retry_tasks``; options that it does not have are those of the filter."""
    return _call(backend, backend.queue.retry_tasks, options)


def remove_many(backend: Backend, **options: Any) -> int:
    """Calls ``queue.remove_tasks``; options that it does not have are those of the filter."""
    return _call(backend, backend.queue.remove_tasks, options)


def _call(backend: Backend, method: Any, options: dict[str, Any]) -> int:
    of_call = {name: options.pop(name) for name in ("by", "on_progress", "connection") if name in options}
    count: int = backend.call(method, TaskFilter(**options), **of_call)
    return count


class BulkSuite:
    """Tests ``retry_tasks`` and ``remove_tasks``."""

    # Retrying ---------------------------------------------------------------------------------------------------------

    def test_a_task_is_retried_as_a_move_by_hand_revives_it(self, backend: Backend) -> None:
        for state in TaskState:
            before = in_state(backend, state)
            can_be = state in {*TERMINAL_STATES, TaskState.RETRIED}
            assert retry_many(backend, states=state) == can_be
            after = backend.row(before)
            if not can_be:
                assert after == before
            elif state is TaskState.RETRIED:
                assert before.updated_at < after.scheduled_at < before.scheduled_at  # now
                assert after == before._replace(scheduled_at=after.scheduled_at, updated_at=after.updated_at)
            else:
                assert after.updated_at > before.updated_at
                by_hand = backend.move(backend.move(after, state), TaskState.NEW)
                assert after == by_hand._replace(updated_at=after.updated_at)
            backend.call(backend.queue.remove_all_tasks)

    def test_a_retried_task_begins_its_life_again(self, backend: Backend) -> None:
        task = backend.insert(backend.note(ending="fail"), expires=HOUR)
        assert backend.drain() == 3
        failed = backend.row(task)
        assert (failed.state, failed.retries, len(failed.errors)) == (TaskState.FAILED, 2, 3)
        assert retry_many(backend, kinds=task.kind) == 1
        after = backend.row(task)
        assert (after.state, after.retries, after.crashes, after.expires_at) == (TaskState.NEW, 0, 0, None)
        assert (after.attempt, after.errors, after.error_message) == (3, failed.errors, failed.error_message)
        assert backend.drain() == 3

    def test_without_states_those_are_retried_that_have_failed(self, backend: Backend) -> None:
        tasks = in_every_state(backend)
        failed = {"retried", "failed"}
        assert retry_many(backend, task_types="common") == 2
        changed = {name for name, task in tasks.items() if backend.row(task).updated_at > task.updated_at}
        assert changed >= failed  # the others have run since they were inserted
        assert backend.row(tasks["finished"]) == tasks["finished"]
        assert backend.row(tasks["cancelled"]) == tasks["cancelled"]
        assert retry_many(backend, all_tasks=True) == 0
        assert retry_many(backend, ids=[tasks["finished"].id, tasks["due"].id]) == 1
        assert retry_many(backend, states=[TaskState.CANCELLED, TaskState.FINISHED, TaskState.NEW]) == 1

    def test_the_filter_says_which_are_retried(self, backend: Backend) -> None:
        note, foreign = (each.__fang_options__.kind for each in (backend.note, backend.foreign_note))
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({"states": "failed"}, {"new", "mail", "other", "last"}),
            ({"states": "failed", "kinds": foreign}, {"other"}),
            ({"states": "failed", "kinds": [note, foreign], "task_types": "mail"}, {"mail", "other"}),
            ({"states": "failed", "task_types": ["mail", "nobody's"]}, {"mail", "other"}),
            ({"states": ["failed", "finished"], "task_types": "common"}, {"new", "last", "ended"}),
            ({"states": "failed", "headers": {"user": "7"}}, {"mail"}),
            ({"states": "failed", "payload": {"n": 5}}, {"other"}),
            ({"error": "no luck"}, {"new", "mail", "other", "last"}),
            ({"task_types": ["held", "mail"]}, {"mail", "other", "retried"}),
            ({"kinds": []}, set()),
        ]
        for which, expected in cases:
            tasks = some(backend)
            for name in ("new", "mail", "other", "last"):
                tasks[name] = backend.call(backend.queue.fail_task, tasks[name], "no luck")
            assert retry_many(backend, **which) == len(expected), which
            assert {name for name, task in tasks.items() if backend.row(task) != task} == expected, which
            assert retry_many(backend, **which) == 0, which
            backend.call(backend.queue.remove_all_tasks)

    def test_a_unique_task_is_not_retried_beside_its_twin(self, backend: Backend) -> None:
        first = backend.insert(backend.unique_note(n=1), delay=HOUR)
        failed = backend.call(backend.queue.fail_task, first, "no")
        waits = backend.insert(backend.unique_note(n=1), delay=HOUR)
        assert not waits.conflict
        other = backend.call(backend.queue.fail_task, backend.insert(backend.unique_note(n=2), delay=HOUR), "no")
        assert retry_many(backend, states="failed") == 1
        assert backend.row(failed) == failed
        assert backend.row(other).state is TaskState.NEW

    def test_of_equal_tasks_the_last_one_is_retried(self, backend: Backend) -> None:
        for uniq in (True, Unique(while_="waiting")):
            failed: list[Task] = []
            for _ in range(3):
                task = backend.insert(backend.note(n=1), uniq=uniq, delay=HOUR)
                assert not task.conflict
                failed.append(backend.call(backend.queue.fail_task, task, "no"))
            assert retry_many(backend, states="failed", task_types="common") == 1
            assert [backend.row(task).state for task in failed] == [TaskState.FAILED, TaskState.FAILED, TaskState.NEW]
            assert retry_many(backend, ids=[task.id for task in failed]) == 0
            backend.call(backend.queue.remove_all_tasks)

    # Removing ---------------------------------------------------------------------------------------------------------

    def test_the_filter_says_which_are_removed(self, backend: Backend) -> None:
        kind = backend.note.__fang_options__.kind
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({"states": "new"}, {"due", "scheduled", "snoozed"}),
            ({"states": ["retried", "in_progress"]}, {"retried", "held"}),
            ({"states": "in_progress", "kinds": "nobody's"}, set()),
            ({"states": "failed", "task_types": "common"}, {"failed"}),
            ({"states": "failed", "kinds": kind}, {"failed"}),
            ({"states": TERMINAL_STATES}, {"finished", "failed", "cancelled"}),
            ({"ids": ["due", "held"]}, {"due", "held"}),
            ({"payload": {"ending": "snooze"}}, {"snoozed"}),
            ({"states": []}, set()),
            ({"all_tasks": True}, {"snoozed", "retried", "held", "due", "scheduled", *TERMINAL_STATES}),
        ]
        for which, expected in cases:
            tasks = in_every_state(backend)
            if "ids" in which:
                which["ids"] = [tasks[name].id for name in which["ids"]]
            assert remove_many(backend, **which) == len(expected), which
            assert left(backend, tasks) == tasks.keys() - expected, which
            assert remove_many(backend, **which) == 0
            backend.call(backend.queue.remove_all_tasks)

    def test_a_removed_unique_task_keeps_none_out(self, backend: Backend) -> None:
        for uniq in (True, Unique(while_="waiting"), Unique(within=HOUR)):
            task = backend.insert(backend.note(n=1), uniq=uniq, delay=HOUR)
            assert backend.insert(backend.note(n=1), uniq=uniq).conflict
            assert remove_many(backend, ids=[task.id]) == 1
            assert not backend.insert(backend.note(n=1), uniq=uniq, delay=HOUR).conflict
            backend.call(backend.queue.remove_all_tasks)

    def test_the_slot_of_a_removed_task_is_told(self, backend: Backend) -> None:
        backend.needs("wakes")
        managing(backend, Limit(1))
        sleeper = Sleeper(backend, TYPE)
        sleeper.fall_asleep()
        queue = backend.queue
        ways: dict[str, Any] = {
            "by id": lambda task: backend.call(queue.remove_task, task.id),
            "by its fields": lambda _: backend.call(queue.remove_task_by_metadata, backend.note(n=1)),
            "by a filter": lambda task: remove_many(backend, states="in_progress"),
            "by its type": lambda _: backend.call(queue.remove_tasks_type, TYPE),
        }
        for name, remove in ways.items():
            held = backend.held(backend.note(n=1), task_type=TYPE, uniq=True)
            assert sleeper.is_woken_by(partial(remove, held)), f"nobody was told of the slot: removed {name}"
            assert backend.find(held) is None

    # Both -------------------------------------------------------------------------------------------------------------

    def test_what_is_retried_wakes_a_pool_that_waits(self, backend: Backend) -> None:
        backend.needs("wakes")
        sleeper = Sleeper(backend, "common")
        sleeper.fall_asleep()
        for state in (TaskState.FAILED, TaskState.RETRIED):
            if state is TaskState.RETRIED:
                in_state(backend, state)
            else:
                backend.move(backend.insert(backend.note()), state)
            assert sleeper.is_woken_by(partial(retry_many, backend, states=state)), state
            backend.call(backend.queue.remove_all_tasks)

    def test_progress_is_told_up_to_all_that_were_changed(self, backend: Backend) -> None:
        for method in (retry_many, remove_many):
            rows = backend.insert_many([backend.note(n=n) for n in range(20)], delay=HOUR)
            for row in rows:
                backend.call(backend.queue.fail_task, row, "no")
            told: list[int] = []
            assert method(backend, states="failed", on_progress=told.append) == 20
            assert told == sorted(set(told))
            assert told[-1:] == [20]
            assert method(backend, states="failed", on_progress=told.append) == 0
            backend.call(backend.queue.remove_all_tasks)

    def test_what_progress_raises_stops_them_and_says_how_many_are_done(self, backend: Backend) -> None:
        for method, done in ((retry_many, "retried"), (remove_many, "removed")):
            for row in backend.insert_many([backend.note(n=n) for n in range(3)], delay=HOUR):
                backend.call(backend.queue.fail_task, row, "no")
            with pytest.raises(Stop) as stopped:
                method(backend, states="failed", on_progress=stop)
            others = method(backend, states="failed")
            assert stopped.value.args == (3 - others,)
            assert f" {3 - others} tasks were {done}" in stopped.value.__notes__[0]
            backend.call(backend.queue.remove_all_tasks)

    def test_they_are_part_of_their_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        for ends in (backend.rolled_back, backend.transaction):
            rows = backend.insert_many([backend.note(n=n) for n in range(2)], delay=HOUR)
            failed = [backend.call(backend.queue.fail_task, row, "no") for row in rows]
            with ends() as connection:
                assert retry_many(backend, payload={"n": 0}, connection=connection) == 1
                assert remove_many(backend, states="failed", payload={"n": 1}, connection=connection) == 1
                assert [backend.row(task) for task in failed] == failed
            is_done = ends == backend.transaction
            assert (backend.row(failed[0]) != failed[0]) is is_done
            assert (backend.find(failed[1]) is None) is is_done
            backend.call(backend.queue.remove_all_tasks)
