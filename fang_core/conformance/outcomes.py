"""Tests what the result of a run leaves in the task's row."""

from datetime import timedelta

import pytest

from fang_core.config import RetentionMode
from fang_core.conformance.backend import Backend
from fang_core.conformance.tasks import Ending
from fang_core.record import TaskState


class OutcomeSuite:
    """Tests the rows of completed tasks."""

    @pytest.mark.parametrize(
        ("ending", "mode", "state"),
        [
            ("ok", RetentionMode.KEEP_ALL, TaskState.FINISHED),
            ("ok", RetentionMode.REMOVE_ALL, None),
            ("ok", RetentionMode.REMOVE_FINISHED, None),
            ("fail", RetentionMode.KEEP_ALL, TaskState.FAILED),
            ("fail", RetentionMode.REMOVE_ALL, None),
            ("fail", RetentionMode.REMOVE_FINISHED, TaskState.FAILED),
            ("cancel", RetentionMode.KEEP_ALL, TaskState.CANCELLED),
            ("cancel", RetentionMode.REMOVE_ALL, None),
        ],
    )
    def test_retention(self, backend: Backend, ending: Ending, mode: RetentionMode, state: TaskState | None) -> None:
        task = backend.insert(backend.note(ending=ending), max_retries=0)
        backend.drain(retention_mode=mode)
        row = backend.find(task)
        assert (row.state if row else None) is state

    def test_a_failing_task_runs_once_more_for_each_retry_and_keeps_its_errors(self, backend: Backend) -> None:
        task = backend.insert(backend.note(ending="fail"))
        assert backend.drain() == 3
        row = backend.row(task)
        assert row.state is TaskState.FAILED
        assert (row.retries, row.attempt) == (2, 3)
        assert row.error_message == "ValueError: no"
        assert [entry["number"] for entry in row.errors] == [1, 2, 3]
        assert all(entry["error"] == "ValueError: no" and entry["time"] and entry["traceback"] for entry in row.errors)
        assert (row.pool_id, row.claimed_at) == (None, None)

    def test_the_history_keeps_the_last_ten(self, backend: Backend) -> None:
        task = backend.insert(backend.note(ending="fail"), max_retries=13)
        assert backend.drain() == 14
        assert [entry["number"] for entry in backend.row(task).errors] == list(range(5, 15))

    def test_a_hostile_exception_is_an_outcome_and_costs_no_neighbour(self, backend: Backend) -> None:
        bad = backend.insert(backend.note(n=-1, ending="hostile"), max_retries=0)
        for n in range(20):
            backend.insert(backend.note(n=n))
        assert backend.drain(number_of_workers=2) == 21
        assert sorted(n for n, _ in backend.journal) == list(range(-1, 20))
        row = backend.row(bad)
        assert row.state is TaskState.FAILED
        assert row.error_message is not None
        assert row.error_message.startswith("SystemExit: ␀?xxx")
        assert len(row.error_message.encode()) <= 2_000

    def test_snooze_charges_nothing(self, backend: Backend) -> None:
        task = backend.insert(backend.note(ending="snooze"))
        assert backend.drain() == 1
        row = backend.row(task)
        assert (row.state, row.retries, row.attempt) == (TaskState.NEW, 0, 1)
        assert row.scheduled_at > task.scheduled_at + timedelta(minutes=59)

    def test_retry_after_is_charged_and_due_when_it_says(self, backend: Backend) -> None:
        task = backend.insert(backend.note(ending="later"))
        assert backend.drain() == 1
        row = backend.row(task)
        assert (row.state, row.retries) == (TaskState.RETRIED, 1)
        assert row.scheduled_at > task.scheduled_at + timedelta(minutes=59)
