"""Inserts that are part of the caller's own transaction, where the backend has such."""

from fang_core.conformance.backend import Backend, needs


class TransactionSuite:
    """``connection=``."""

    def test_an_insert_commits_with_its_callers_transaction(self, backend: Backend) -> None:
        needs(backend.has_transactions, "transactions")
        with backend.transaction() as connection:
            task = backend.insert(backend.note(), connection=connection)
            assert backend.find(task) is None
            assert backend.call(backend.queue.find_task_by_id, task.id, connection=connection) == task
        assert backend.find(task) == task

    def test_an_insert_rolls_back_with_its_callers_transaction(self, backend: Backend) -> None:
        needs(backend.has_transactions, "transactions")
        with backend.rolled_back() as connection:
            backend.call(backend.queue.insert_tasks, [backend.note(), backend.note()], connection=connection)
        assert backend.drain() == 0
