"""Tests which tasks a pool takes, and in which order."""

from datetime import UTC, datetime, timedelta

import pytest

from fang_core.conformance.backend import Backend
from fang_core.conformance.queue.managing import the_one_listed
from fang_core.flow.limits import Limit
from fang_core.record import TaskState


class PoolSuite:
    """Tests the tasks that pools run."""

    def test_a_task_runs_once_and_its_row_goes(self, backend: Backend) -> None:
        task = backend.insert(backend.note(n=7))
        assert backend.drain(number_of_workers=3) == 1
        assert backend.journal == [(7, 1)]
        assert backend.find(task) is None

    def test_order_is_by_priority_then_due_time(self, backend: Backend) -> None:
        for n, priority in enumerate([2, 0, -2, 1, -1, 0]):
            backend.insert(backend.note(n=n), priority=priority)
        backend.drain_in_order()
        assert [n for n, _ in backend.journal] == [2, 4, 1, 5, 3, 0]

    def test_a_pool_that_is_told_to_runs_retries_first(self, backend: Backend) -> None:
        for n, options in enumerate(({}, {"retries_first": True})):
            held = backend.held(backend.note(n=n))
            retried = backend.call(backend.queue.schedule_retry, held, timedelta(0), "again")
            backend.insert(backend.note(n=7), scheduled_at=retried.scheduled_at - timedelta(hours=1))
            backend.drain_in_order(**options)
        assert [n for n, _ in backend.journal] == [7, 0, 1, 7]

    def test_only_due_tasks_of_the_pools_types_run(self, backend: Backend) -> None:
        backend.insert(backend.note(n=1), delay=timedelta(hours=1))
        backend.insert(backend.note(n=2), scheduled_at=datetime.now(UTC) + timedelta(hours=1))
        backend.insert(backend.note(n=3), task_type="other")
        backend.insert(backend.note(n=4), task_type="mail")
        backend.insert(backend.note(n=5))
        assert backend.drain(task_type=["common", "mail"]) == 2
        assert sorted(n for n, _ in backend.journal) == [4, 5]

    def test_a_pool_leaves_the_other_modes_kinds_alone(self, backend: Backend) -> None:
        task = backend.insert(backend.foreign_note(n=1))
        assert backend.drain() == 0
        assert backend.row(task).state is TaskState.NEW

    def test_a_renamed_class_runs_what_was_inserted_under_its_former_kind(self, backend: Backend) -> None:
        options = backend.note.__fang_options__
        with pytest.MonkeyPatch.context() as release:
            release.setattr(options, "kind", options.former_kinds[0])
            task = backend.insert(backend.note(n=7, ending="fail"))
        assert backend.row(task).kind == options.former_kinds[0] != options.kind
        assert backend.drain() == 3  # its retries as well
        assert [n for n, _ in backend.journal] == [7, 7, 7]
        assert backend.row(task).state is TaskState.FAILED

    def test_a_pool_declares_what_its_classes_say_when_it_starts(self, backend: Backend) -> None:
        assert backend.drain(task_type=backend.limited_note.__fang_options__.task_type) == 0
        info = the_one_listed(backend)
        kind = backend.limited_note.__fang_options__.kind
        assert info.declared == {kind: (Limit(3), Limit(2, by="n"))}
        assert info.task_type == backend.limited_note.__fang_options__.task_type
