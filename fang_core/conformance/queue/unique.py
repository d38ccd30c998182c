"""Tests unique tasks, of which one at a time may wait or run, and inserts by id."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from fang_core.config import RetentionMode
from fang_core.conformance.backend import Backend
from fang_core.errors import IdInUse, TwinExists
from fang_core.record import TaskState

HOUR = timedelta(hours=1)


class UniqueSuite:
    """Tests ``uniq=``, ``id=``, ``duplicated_tasks=`` and ``remove_task_by_metadata``."""

    def test_of_a_unique_class_one_at_a_time_is_waiting(self, backend: Backend) -> None:
        first = backend.insert(backend.unique_note(n=1))
        assert not first.conflict
        second = backend.insert(backend.unique_note(n=1), priority=-2, delay=HOUR, task_type="other")
        assert second == first._replace(conflict=True)
        assert backend.row(first) == first  # nothing of the second task was written
        assert not backend.insert(backend.unique_note(n=2)).conflict
        assert not backend.insert(backend.note(n=1)).conflict  # another kind
        assert backend.drain() == 3

    def test_one_insert_may_say_otherwise_than_its_class(self, backend: Backend) -> None:
        assert not backend.insert(backend.note(), uniq=True).conflict
        assert backend.insert(backend.note(), uniq=True).conflict
        assert not backend.insert(backend.note()).conflict
        assert not backend.insert(backend.unique_note()).conflict
        assert not backend.insert(backend.unique_note(), uniq=False).conflict
        assert backend.drain() == 4

    def test_a_queue_may_make_every_task_unique(self, backend: Backend) -> None:
        backend.reopen(duplicated_tasks=False)
        first = backend.insert(backend.note())
        assert backend.insert(backend.note()) == first._replace(conflict=True)
        assert not backend.insert(backend.note(), uniq=False).conflict
        rows = backend.insert_many([backend.note(), backend.note(n=1), backend.note(n=1)])
        assert [row.conflict for row in rows] == [True, False, True]
        assert backend.call(backend.queue.remove_task_by_metadata, backend.note()) == 1
        assert backend.find(first) is None

    def test_a_twin_counts_until_its_life_has_ended(self, backend: Backend) -> None:
        """Covers a twin in progress and one between two runs; after its end the next insert succeeds."""
        first = backend.held(backend.unique_note())
        assert backend.insert(backend.unique_note()) == first._replace(conflict=True)
        first = backend.call(backend.queue.schedule_retry, first, HOUR, "later")
        assert backend.insert(backend.unique_note()) == first._replace(conflict=True)
        for state in (TaskState.FINISHED, TaskState.FAILED, TaskState.CANCELLED):
            backend.move(first, state)
            again = backend.insert(backend.unique_note(), delay=HOUR)
            assert not again.conflict
            assert again.id != first.id
            first = again

    def test_a_run_that_has_ended_makes_way(self, backend: Backend) -> None:
        first = backend.insert(backend.unique_note())
        assert backend.drain(retention_mode=RetentionMode.KEEP_ALL) == 1
        second = backend.insert(backend.unique_note())
        assert not second.conflict
        assert backend.drain(retention_mode=RetentionMode.KEEP_ALL) == 1
        assert {backend.row(task).state for task in (first, second)} == {TaskState.FINISHED}

    def test_a_unique_task_that_fails_is_retried(self, backend: Backend) -> None:
        task = backend.insert(backend.unique_note(ending="fail"))
        assert backend.drain() == 3
        assert backend.row(task).state is TaskState.FAILED

    def test_a_bulk_tells_of_each_task_in_the_order_given(self, backend: Backend) -> None:
        there = backend.insert(backend.unique_note(n=3))
        tasks = [backend.unique_note(n=n) for n in (5, 3, 5, 1, 3, 1)] + [backend.note(n=1), backend.note(n=1)]
        rows = backend.insert_many(tasks)
        assert [row.metadata["n"] for row in rows] == [5, 3, 5, 1, 3, 1, 1, 1]
        assert [row.conflict for row in rows] == [False, True, True, False, True, True, False, False]
        assert [row.id for row in rows[1:5:3]] == [there.id] * 2
        assert (rows[2].id, rows[5].id) == (rows[0].id, rows[3].id)
        assert [backend.row(row)._replace(conflict=row.conflict) for row in rows] == rows
        assert len({row.id for row in rows}) == 5
        assert backend.drain() == 5

    def test_a_bulk_of_unique_tasks_runs_in_the_order_given(self, backend: Backend) -> None:
        backend.insert_many([backend.unique_note(n=n) for n in range(200)])
        assert backend.drain_in_order() == 200
        assert [n for n, _ in backend.journal] == list(range(200))

    def test_a_twin_keeps_an_ended_one_from_being_revived(self, backend: Backend) -> None:
        ended = backend.move(backend.insert(backend.unique_note()), TaskState.CANCELLED)
        twin = backend.insert(backend.unique_note())
        with pytest.raises(TwinExists, match=f"task {ended.id} cannot be revived: an equal unique task is waiting"):
            backend.move(ended, TaskState.NEW)
        assert backend.row(ended) == ended
        backend.move(twin, TaskState.FINISHED)
        assert backend.move(ended, TaskState.NEW).state is TaskState.NEW

    def test_removal_by_content_takes_the_one_that_waits_or_runs(self, backend: Backend) -> None:
        def remove() -> int:
            count: int = backend.call(backend.queue.remove_task_by_metadata, backend.unique_note())
            return count

        assert remove() == 0
        ended = backend.move(backend.insert(backend.unique_note()), TaskState.FINISHED)
        assert remove() == 0
        for task in (backend.held(backend.unique_note()), backend.insert(backend.unique_note(n=1))):
            assert not backend.insert(backend.note(n=task.metadata["n"])).conflict
        assert remove() == 1
        assert not backend.insert(backend.unique_note()).conflict  # its place is free
        assert remove() == 1
        assert backend.row(ended) == ended
        assert backend.insert(backend.unique_note(n=1)).conflict

    def test_removal_by_content_takes_what_one_insert_made_unique(self, backend: Backend) -> None:
        """Checks also that it removes no task that was not inserted as unique."""
        plain = backend.insert(backend.note())
        assert backend.call(backend.queue.remove_task_by_metadata, backend.note()) == 0
        unique = backend.insert(backend.note(), uniq=True)
        assert backend.call(backend.queue.remove_task_by_metadata, backend.note(n=1)) == 0
        assert backend.call(backend.queue.remove_task_by_metadata, backend.note()) == 1
        assert (backend.row(plain), backend.find(unique)) == (plain, None)
        assert not backend.insert(backend.note(), uniq=True).conflict

    # By id ------------------------------------------------------------------------------------------------------------

    def test_an_insert_by_id_can_be_repeated(self, backend: Backend) -> None:
        task_id = uuid4()
        task = backend.insert(backend.note(n=1), id=task_id)
        assert (task.id, task.conflict) == (task_id, False)
        assert backend.insert(backend.note(n=1), id=task_id, priority=2) == task._replace(conflict=True)
        ended = backend.move(task, TaskState.FINISHED)
        assert backend.insert(backend.note(n=1), id=task_id) == ended._replace(conflict=True)
        for other in (backend.note(n=2), backend.unique_note(n=1), backend.foreign_note(n=1)):
            with pytest.raises(IdInUse, match=f"another task has the id {task_id}"):
                backend.insert(other, id=task_id)
        assert backend.row(task) == ended

    def test_an_id_goes_before_a_twin(self, backend: Backend) -> None:
        ended = backend.move(backend.insert(backend.unique_note(), id=uuid4()), TaskState.FINISHED)
        twin = backend.insert(backend.unique_note())
        assert backend.insert(backend.unique_note(), id=ended.id) == ended._replace(conflict=True)
        assert backend.insert(backend.unique_note(), id=twin.id) == twin._replace(conflict=True)
        assert backend.insert(backend.unique_note(), id=uuid4()) == twin._replace(conflict=True)
        other = backend.insert(backend.note())
        with pytest.raises(IdInUse):  # although a twin exists too
            backend.insert(backend.unique_note(), id=other.id)

    # In the caller's transaction --------------------------------------------------------------------------------------

    def test_what_is_rolled_back_was_never_there(self, backend: Backend) -> None:
        backend.needs("transactions")
        task_id = uuid4()
        with backend.rolled_back() as connection:
            inserted = backend.insert(backend.unique_note(), id=task_id, connection=connection)
            assert not inserted.conflict
            assert backend.insert(backend.unique_note(), connection=connection) == inserted._replace(conflict=True)
            rows = backend.insert_many([backend.unique_note(n=n) for n in (0, 1, 1)], connection=connection)
            assert [row.conflict for row in rows] == [True, False, True]
        assert not backend.insert(backend.unique_note(), id=task_id).conflict
        assert [row.conflict for row in backend.insert_many([backend.unique_note(n=n) for n in (0, 1)])] == [
            True,
            False,
        ]

    def test_collisions_leave_the_transaction_usable(self, backend: Backend) -> None:
        backend.needs("transactions")
        ended = backend.move(backend.insert(backend.unique_note()), TaskState.CANCELLED)
        twin = backend.insert(backend.unique_note())
        with backend.transaction() as connection:
            with pytest.raises(TwinExists):
                backend.move(ended, TaskState.NEW, connection=connection)
            with pytest.raises(IdInUse):
                backend.insert(backend.note(), id=ended.id, connection=connection)
            assert backend.insert(backend.unique_note(), connection=connection) == twin._replace(conflict=True)
            kept = backend.insert(backend.note(), id=UUID(int=7), connection=connection)
            assert (
                backend.call(backend.queue.remove_task_by_metadata, backend.unique_note(), connection=connection) == 1
            )
            revived = backend.move(ended, TaskState.NEW, connection=connection)
        assert [backend.find(task) for task in (kept, twin, ended)] == [kept, None, revived]
