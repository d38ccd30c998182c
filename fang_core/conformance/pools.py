"""Which tasks a pool takes, and in which order."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from fang_core.conformance.backend import Backend
from fang_core.record import TaskState
from fang_core.store import PoolRecord


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

    def test_a_renamed_class_runs_what_was_inserted_under_its_former_kind(self, backend: Backend) -> None:
        options = backend.note.__fang_options__
        with pytest.MonkeyPatch.context() as release:
            release.setattr(options, "kind", options.former_kinds[0])
            task = backend.insert(backend.note(n=7, ending="fail"))
        assert backend.row(task).kind == options.former_kinds[0] != options.kind
        assert backend.drain() == 3  # its retries as well
        assert [n for n, _ in backend.journal] == [7, 7, 7]
        assert backend.row(task).state is TaskState.FAILED

    def test_task_types_wait_in_vain_that_no_pool_serves(self, backend: Backend) -> None:
        hour, now = timedelta(hours=1), datetime.now(UTC)
        past = now - 2 * hour
        for task_type in ("served", "b", "a", "a"):
            backend.insert(backend.note(), task_type=task_type, scheduled_at=past, priority=2)
        backend.insert(backend.note(), task_type="not for long", scheduled_at=now - hour / 2)
        backend.insert(backend.note(), task_type="later", scheduled_at=now + hour)
        backend.move(backend.insert(backend.note(), task_type="ended", scheduled_at=past), TaskState.CANCELLED)
        pool = PoolRecord(uuid4(), backend.mode, "host", 1, ("common", "served"), (), 1)
        store = backend.call(backend.queue.store)
        backend.call(store.register, pool)
        assert backend.call(store.unserved_types, hour) == ["a", "b"]
        backend.call(store.unregister, pool.id)
        assert backend.call(store.unserved_types, hour) == ["a", "b", "served"]
        backend.call(store.close)

    def test_a_pool_that_waits_takes_tasks_of_its_types_and_kinds(self, backend: Backend) -> None:
        busy = PoolRecord(uuid4(), backend.mode, "host", 1, ("common", "mail"), ("A", "B"), 1)
        idle = busy._replace(id=uuid4(), task_types=("mail", "other"), kinds=("B", "C"))
        store = backend.call(backend.queue.store)
        for pool in (busy, idle):
            backend.call(store.register, pool)
        backend.call(store.announce, idle.id, True)
        assert backend.call(store.has_taker, busy.id, {("common", "A"), ("mail", "B")})
        assert not backend.call(store.has_taker, busy.id, {("common", "B"), ("mail", "A")})
        assert not backend.call(store.has_taker, busy.id, set())
        backend.call(store.unregister, busy.id)
        assert not backend.call(store.has_taker, idle.id, {("mail", "B")})  # it is itself that waits
        backend.call(store.unregister, idle.id)
        assert not backend.call(store.has_taker, busy.id, {("mail", "B")})
        backend.call(store.close)

    def test_types_with_waiting_tasks_are_named_and_whether_one_is_due(self, backend: Backend) -> None:
        backend.insert(backend.note(), task_type="due")
        backend.insert(backend.note(), task_type="due", delay=timedelta(hours=1), priority=1)
        backend.insert(backend.note(), task_type="later", delay=timedelta(hours=1))
        backend.insert(backend.note(), task_type="later", delay=timedelta(hours=2))
        backend.move(backend.insert(backend.note(), task_type="ended"), TaskState.CANCELLED)
        store = backend.call(backend.queue.store)
        assert backend.call(store.waiting_types, 4) == {"due": True, "later": False}
        assert backend.call(store.waiting_types, 3) is None  # that is how many levels there are
        backend.call(store.close)
