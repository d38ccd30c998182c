"""Tests that every kind of exception that can leave a run is an outcome, and harms no other task."""

from datetime import timedelta

from fang_core.conformance.backend import Backend
from fang_core.conformance.tasks import EXCEPTIONS
from fang_core.record import TaskState


class ExceptionSuite:
    """Tests runs that raise exceptions which a careless worker would take for its own end."""

    def test_every_exception_is_an_outcome_and_costs_no_neighbour(self, backend: Backend) -> None:
        raising = {
            name: backend.insert(backend.note(n=-1, ending="raise", text=name), max_retries=0) for name in EXCEPTIONS
        }
        backend.insert_many([backend.note(n=n) for n in range(20)])
        assert backend.drain(number_of_workers=2) == 20 + len(raising)
        assert sorted(n for n, _ in backend.journal if n >= 0) == list(range(20))
        for name, task in raising.items():
            row = backend.row(task)
            assert (row.state, len(row.errors), row.pool_id) == (TaskState.FAILED, 1, None), name
            assert row.error_message is not None
            assert ("cannot be described" if name == "Disguised" else name) in row.error_message[:60]
            assert len(row.error_message.encode()) <= 2_000, name
            assert row.errors[-1]["error"] == row.error_message, name

    def test_a_task_that_raised_is_retried_whatever_it_raised(self, backend: Backend) -> None:
        task = backend.insert(backend.note(ending="raise", text="SystemExit"), max_retries=1)
        assert backend.drain() == 2
        row = backend.row(task)
        assert (row.state, row.retries, row.attempt) == (TaskState.FAILED, 1, 2)
        assert row.scheduled_at - task.scheduled_at < timedelta(minutes=1)
