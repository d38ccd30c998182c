"""Tests what a queue does before any pool looks at it."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from fang_core.conformance.backend import Backend
from fang_core.errors import PayloadError, UsageError
from fang_core.record import TaskState


class QueueSuite:
    """Tests inserting and finding tasks."""

    def test_an_inserted_task_is_found_as_it_was_returned(self, backend: Backend) -> None:
        task = backend.insert(backend.note(n=7, text="é"), priority=-1, delay=timedelta(hours=1), task_type="mail")
        assert task.state is TaskState.NEW
        assert task.metadata == {"type": task.kind, "n": 7, "ending": "ok", "text": "é"}
        assert task.kind == backend.note.task_config["kind"]
        assert (task.task_type, task.priority, task.max_retries) == ("mail", -1, 2)
        assert (task.retries, task.crashes, task.attempt) == (0, 0, 0)
        assert timedelta(0) <= task.scheduled_at - task.created_at - timedelta(hours=1) < timedelta(minutes=1)
        assert backend.find(task) == task

    def test_what_was_never_inserted_is_not_found(self, backend: Backend) -> None:
        assert backend.call(backend.queue.find_task_by_id, uuid4()) is None

    def test_bulk_insert_keeps_order_and_classes_options(self, backend: Backend) -> None:
        tasks = backend.call(backend.queue.insert_tasks, [backend.note(n=n) for n in range(250)], priority=1)
        assert [task.metadata["n"] for task in tasks] == list(range(250))
        assert {(task.priority, task.max_retries) for task in tasks} == {(1, 2)}
        assert backend.drain_in_order() == 250
        assert [n for n, _ in backend.journal] == list(range(250))

    def test_a_bulk_of_nothing_is_nothing(self, backend: Backend) -> None:
        assert backend.insert_many([]) == []
        assert backend.insert_many((), uniq=True) == []
        assert backend.drain() == 0

    def test_what_cannot_be_stored_is_refused_before_anything_is_written(self, backend: Backend) -> None:
        with pytest.raises(PayloadError, match=r"\.text: .*NUL"):
            backend.call(backend.queue.insert_tasks, [backend.note(), backend.note(text="a\0b")])
        with pytest.raises(UsageError, match="zone"):
            backend.insert(backend.note(), scheduled_at=datetime(2030, 1, 1))  # noqa: DTZ001 - a zone must be missing
        with pytest.raises(UsageError, match="priority"):
            backend.insert(backend.note(), priority=3)
        assert backend.drain() == 0
