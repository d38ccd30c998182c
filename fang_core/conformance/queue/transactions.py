"""Tests inserts that are part of the caller's own transaction, if the backend has transactions."""

from fang_core.conformance.backend import Backend
from fang_core.conformance.queue.options import OPTIONS


class TransactionSuite:
    """Tests ``connection=`` of inserts."""

    def test_an_insert_commits_with_its_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        with backend.transaction() as connection:
            task = backend.insert(backend.note(), connection=connection, **OPTIONS)
            assert backend.find(task) is None
            assert backend.call(backend.queue.find_task_by_id, task.id, connection=connection) == task
        assert backend.find(task) == task
        assert (task.headers, task.timeout) == (OPTIONS["headers"], OPTIONS["timeout"])

    def test_many_are_inserted_as_they_are_without_a_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        with backend.transaction() as connection:
            rows = backend.insert_many([backend.note(n=n) for n in range(3)], connection=connection, **OPTIONS)
        assert [backend.find(row) for row in rows] == rows
        assert {row.expires_at for row in rows} == {rows[0].scheduled_at + OPTIONS["expires"]}

    def test_an_insert_rolls_back_with_its_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        with backend.rolled_back() as connection:
            backend.call(backend.queue.insert_tasks, [backend.note(), backend.note()], connection=connection)
        assert backend.drain() == 0
