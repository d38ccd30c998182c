"""Which tasks a pool takes, and in which order."""

from datetime import UTC, datetime, timedelta

from fang_core.conformance.backend import Backend
from fang_core.record import TaskState


class PoolSuite:
    """Claiming."""

    def test_a_task_runs_once_and_its_row_goes(self, backend: Backend) -> None:
        task = backend.insert(backend.note(n=7))
        assert backend.drain(number_of_workers=3) == 1
        assert backend.journal == [(7, 1)]
        assert backend.find(task) is None

    def test_order_is_by_priority_then_due_time(self, backend: Backend) -> None:
        for n, priority in enumerate([2, 0, -2, 1, -1, 0]):
            backend.insert(backend.note(n=n), priority=priority)
        backend.drain(number_of_workers=1)
        assert [n for n, _ in backend.journal] == [2, 4, 1, 5, 3, 0]

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
