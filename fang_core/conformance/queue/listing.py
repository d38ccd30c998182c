"""Tests lists and counts of tasks."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from fang_core.conformance.backend import Backend
from fang_core.conformance.queue.cancelling import some
from fang_core.errors import UsageError
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.monitoring.listing import MOST_COUNTED, Count, TaskPage
from fang_core.record import Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter

HOUR: Final = timedelta(hours=1)


_PATIENCE: Final = 60.0
"""Seconds in which calls may end early again and again, on a machine that is so slow that their time is over."""


def _tries() -> Iterator[None]:
    """Yields for each try, until the patience has ended."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        yield


def page(backend: Backend, which: TaskFilter, *, limit: int = 100, cursor: str | None = None) -> TaskPage:
    """Calls ``queue.list_tasks`` until a page is full, or the last one; it goes on where the time was over."""
    tasks: tuple[Task, ...] = ()
    looked_at, looked_to = 0, None
    for _ in _tries():
        missing = limit - len(tasks)
        result: TaskPage = backend.call(backend.queue.list_tasks, which, limit=missing, cursor=cursor)
        tasks, cursor = tasks + result.tasks, result.cursor
        looked_at, looked_to = looked_at + result.looked_at, result.looked_to or looked_to
        if not result.stopped or len(tasks) == limit:
            return replace(result, tasks=tasks, looked_at=looked_at, looked_to=looked_to)
    pytest.fail("a page of a few tasks ends before it is full")


def listed(backend: Backend, limit: int, **conditions: Any) -> list[Task]:
    """Returns the tasks of all pages, each of which has at most ``limit``."""
    which = TaskFilter(**conditions)
    tasks: list[Task] = []
    cursor = None
    while True:
        result = page(backend, which, limit=limit, cursor=cursor)
        assert len(result.tasks) <= limit
        assert result.looked_at >= len(result.tasks)
        assert result.cursor is None or len(result.tasks) == limit
        tasks += result.tasks
        cursor = result.cursor
        if cursor is None:
            return tasks


def counted(backend: Backend, **conditions: Any) -> int:
    """Returns how many tasks match, which must be exact."""
    for _ in _tries():
        # The higher the bound, the longer a count may take.
        result: Count = backend.call(backend.queue.count_tasks, TaskFilter(**conditions), up_to=MOST_COUNTED)
        if result.is_exact:
            return result.count
    pytest.fail("a few tasks are not counted exactly")


class ListSuite:
    """Tests ``list_tasks`` and ``count_tasks``."""

    def test_a_list_and_a_count_have_the_tasks_that_match(self, backend: Backend) -> None:
        tasks = some(backend)
        note = backend.note.__fang_options__.kind
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({}, set(tasks)),
            ({"all_tasks": True}, set(tasks)),
            ({"kinds": note}, set(tasks) - {"other"}),
            ({"kinds": [note], "task_types": ["mail", "held"]}, {"mail", "held", "retried"}),
            ({"states": TaskState.NEW}, {"new", "mail", "other", "last"}),
            ({"states": TaskState.NEW, "task_types": ["common", "mail"]}, {"new", "mail", "other", "last"}),
            ({"states": TaskState.NEW, "kinds": note}, {"new", "mail", "last"}),
            ({"states": TaskState.RETRIED}, {"retried"}),
            ({"states": TaskState.IN_PROGRESS}, {"held"}),
            ({"pool_ids": [tasks["held"].pool_id]}, {"held"}),
            ({"pool_ids": [tasks["held"].pool_id], "states": TaskState.NEW}, set()),
            ({"states": TERMINAL_STATES}, {"ended"}),
            ({"states": TaskState.FAILED, "kinds": note}, set()),
            ({"states": TERMINAL_STATES, "task_types": ["common", "mail"]}, {"ended"}),
            ({"states": [TaskState.NEW, TaskState.FINISHED]}, {"new", "mail", "other", "last", "ended"}),
            ({"ids": [tasks["held"].id, tasks["mail"].id], "states": TaskState.NEW}, {"mail"}),
            ({"headers": {"user": "7"}}, {"mail"}),
            ({"payload": {"n": 4}}, {"mail"}),
            ({"error": "connection reset"}, {"retried"}),
            ({"states": TaskState.NEW, "due_after": tasks["other"].scheduled_at + HOUR / 2}, {"last"}),
            (
                {"states": "new", "task_types": ["mail", "common"], "due_before": tasks["other"].scheduled_at},
                {"new", "mail"},
            ),
            ({"states": "finished", "updated_after": tasks["ended"].updated_at}, {"ended"}),
            ({"states": "finished", "updated_before": tasks["ended"].updated_at}, set()),
            ({"inserted_before": tasks["mail"].created_at}, {"new", "held", "retried"}),
            ({"inserted_after": tasks["mail"].created_at}, {"mail", "other", "last", "ended"}),
            ({"inserted_after": tasks["ended"].created_at + HOUR}, set()),
            ({"kinds": []}, set()),
            ({"ids": []}, set()),
        ]
        names = {task.id: name for name, task in tasks.items()}
        for which, expected in cases:
            found = [names[task.id] for task in listed(backend, 2, **which)]
            assert sorted(found) == sorted(expected), which
            assert counted(backend, **which) == len(expected), which

    def test_a_list_shows_tasks_as_they_are_but_for_the_history_of_errors(self, backend: Backend) -> None:
        held = backend.held(backend.note(n=1), headers={"user": "7"})
        message = "a long one: " + "x" * 400
        failed = backend.call(backend.queue.fail_task, held, message)
        waits = backend.insert(backend.note(n=2), delay=HOUR)
        assert len(failed.errors) == 1
        assert listed(backend, 10) == [
            backend.row(waits),
            backend.row(failed)._replace(errors=(), error_message=message[:200]),
        ]

    def test_tasks_that_wait_are_listed_as_they_are_claimed(self, backend: Backend) -> None:
        rows = [
            backend.insert(
                backend.note(), task_type=task_type, priority=priority, delay=HOUR - n * timedelta(minutes=1)
            )
            for n, (task_type, priority) in enumerate([("b", 0), ("a", 1), ("b", -1), ("a", 0), ("b", 0)])
        ]
        expected = [rows[3].id, rows[1].id, rows[2].id, rows[4].id, rows[0].id]
        for which in ({"states": "new"}, {"states": "new", "task_types": ["b", "a"]}):
            assert [task.id for task in listed(backend, 2, **which)] == expected
        due = {"due_after": rows[3].scheduled_at, "due_before": rows[0].scheduled_at}
        found = listed(backend, 1, states="new", task_types=["b", "a"], **due)
        assert [task.id for task in found] == expected[:-1][:1] + expected[1:3]

    def test_tasks_that_have_ended_are_listed_with_the_last_ones_first(self, backend: Backend) -> None:
        rows = [backend.insert(backend.note(n=n), task_type=f"type{n % 3}", delay=HOUR) for n in range(8)]
        ended = [backend.move(row, TERMINAL_STATES[n % 2]) for n, row in enumerate(rows)]
        ended.sort(key=lambda task: (task.updated_at, task.id), reverse=True)
        types = ["type0", "type1", "type2"]
        for which in ({}, {"task_types": types}):
            found = listed(backend, 3, states=TERMINAL_STATES, **which)
            assert [task.id for task in found] == [task.id for task in ended]
        found = listed(backend, 1, states=TERMINAL_STATES, task_types="type1", updated_after=ended[4].updated_at)
        assert [task.id for task in found] == [task.id for task in ended[:5] if task.task_type == "type1"]

    def test_tasks_of_any_state_are_listed_with_those_first_that_were_inserted_last(self, backend: Backend) -> None:
        rows = backend.insert_many([backend.note(n=n) for n in range(7)], delay=HOUR)
        backend.move(rows[3], TaskState.CANCELLED)
        ids = sorted((row.id for row in rows), key=lambda each: each.bytes, reverse=True)
        assert [task.id for task in listed(backend, 3)] == ids
        assert [task.id for task in listed(backend, 3, ids=ids)] == ids

    def test_pages_have_each_task_once_while_tasks_move(self, backend: Backend) -> None:
        rows = [backend.insert(backend.note(n=n), delay=HOUR) for n in range(6)]
        which = TaskFilter(states=TaskState.NEW)
        first = page(backend, which, limit=3)
        assert [task.id for task in first.tasks] == [row.id for row in rows[:3]]
        backend.move(rows[1], TaskState.CANCELLED)  # one that was seen, and one that was not
        backend.move(rows[4], TaskState.CANCELLED)
        late = backend.insert(backend.note(n=7), delay=2 * HOUR)
        second = page(backend, which, limit=3, cursor=first.cursor)
        assert [task.id for task in second.tasks] == [rows[3].id, rows[5].id, late.id]
        assert second.cursor is None

    def test_a_page_says_how_far_it_has_looked(self, backend: Backend) -> None:
        row = backend.insert(backend.note(), delay=HOUR)
        assert page(backend, TaskFilter(states=TaskState.NEW)).looked_to == row.scheduled_at
        assert page(backend, TaskFilter()).looked_to == row.created_at
        ended = backend.move(row, TaskState.FAILED)
        assert page(backend, TaskFilter(states=TaskState.FAILED)).looked_to == ended.updated_at
        assert page(backend, TaskFilter(states=TaskState.IN_PROGRESS)).looked_to is None

    def test_a_cursor_belongs_to_its_filter(self, backend: Backend) -> None:
        backend.insert_many([backend.note(n=n) for n in range(3)], delay=HOUR)
        cursor = page(backend, TaskFilter(states=TaskState.NEW), limit=1).cursor
        assert cursor is not None
        assert page(backend, TaskFilter(states=[TaskState.NEW]), limit=1, cursor=cursor).tasks
        for which, bad in ((TaskFilter(), cursor), (TaskFilter(states=TaskState.NEW), cursor[:-2]), (TaskFilter(), "")):
            with pytest.raises(UsageError, match=r"^cursor "):
                page(backend, which, cursor=bad)
