"""Tests that tasks that a pool holds without knowing it, since the reply to a claim was lost, go back."""

from fang_core.conformance.backend import Backend
from fang_core.conformance.store.claims import ids
from fang_core.lifecycle import Outcome
from fang_core.record import TaskState


class ReconcileSuite:
    """Tests ``Store.reconcile``."""

    def test_what_a_pool_holds_without_knowing_it_goes_back_as_it_was(self, backend: Backend) -> None:
        backend.insert_many([backend.note(n=n) for n in range(3)])
        client, other = backend.client(), backend.client()
        (tried,) = client.claim(1)
        assert client.end(tried, TaskState.RETRIED, charge=1, error_message="no")
        known, *unknown = client.claim(3)
        backend.insert(backend.note(n=3))
        (others,) = other.claim()
        kept = [backend.row(task) for task in (known, others)]
        before = [backend.row(task) for task in unknown]
        assert client.reconcile(known) == 2
        assert [backend.row(task) for task in (known, others)] == kept
        for row in before:
            state = TaskState.RETRIED if row.retries else TaskState.NEW
            after = backend.row(row)
            assert after == row._replace(state=state, pool_id=None, claimed_at=None, updated_at=after.updated_at)
        assert client.complete(*(Outcome(task.id, task.attempt, None) for task in unknown)) == set()
        assert client.reconcile(known) == 0
        assert set(ids(other.claim())) == set(ids(unknown))
        assert client.reconcile() == 1
        assert backend.row(known).pool_id is None

    def test_a_task_that_has_crashed_goes_back_as_retried(self, backend: Backend) -> None:
        crashed = backend.crashed(1)
        client = backend.client()
        assert ids(client.claim()) == [crashed.id]
        assert client.reconcile() == 1
        row = backend.row(crashed)
        assert (row.state, row.crashes, row.retries, list(row.errors)) == (TaskState.RETRIED, 1, 0, [])
        assert row.scheduled_at == crashed.scheduled_at
