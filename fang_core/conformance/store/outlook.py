"""Tests what a pool asks periodically: which tasks wait, which pools serve them, and which rows can be deleted."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final

from fang_core.conformance.backend import Backend
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.record import TaskState

HOUR: Final = timedelta(hours=1)


class OutlookSuite:
    """Tests ``Store.prune``, ``next_due``, ``unknown_kinds``, ``unserved_types``, ``waiting_types``, ``has_taker``."""

    def test_only_ended_rows_of_the_task_types_that_are_named_are_pruned(self, backend: Backend) -> None:
        ended = {
            (task_type, state): backend.move(backend.insert(backend.note(), task_type=task_type, delay=HOUR), state)
            for task_type, state in product(("common", "mail", "billing"), TERMINAL_STATES)
        }
        alive = [backend.insert(backend.note(), delay=HOUR), backend.held(backend.note())]
        client = backend.stranger()

        def left() -> set[tuple[str, TaskState]]:
            return {which for which, task in ended.items() if backend.find(task)}

        assert client.prune("common", "mail", finished=HOUR, failed=HOUR) == 0
        assert client.prune("common", "mail", finished=None, failed=None) == 0
        assert left() == ended.keys()
        assert client.prune("common", finished=None) == 1
        assert left() == ended.keys() - {("common", TaskState.FAILED)}
        assert client.prune("common", failed=None) == 2  # a cancelled task counts as finished
        assert client.prune("common", "mail") == 3
        assert left() == {("billing", state) for state in TERMINAL_STATES}
        for n in range(5):
            backend.move(backend.insert(backend.note(n=n), delay=HOUR), TaskState.FINISHED)
        assert [client.prune("common", limit=2) for _ in range(4)] == [2, 2, 1, 0]
        assert [backend.find(task) for task in alive] == alive

    def test_the_next_task_that_is_not_yet_due_is_foreseen(self, backend: Backend) -> None:
        """Checks that only new and retried tasks of the pool's task types and kinds count."""
        client = backend.client(task_types=("common", "mail"))
        backend.insert(backend.note())
        backend.insert(backend.note(), delay=HOUR, task_type="nobody's")
        backend.insert(backend.foreign_note(), delay=HOUR)
        backend.move(backend.insert(backend.note(), delay=HOUR), TaskState.CANCELLED)
        assert client.next_due() is None
        for hours, options in ((5, {"priority": -2}), (4, {}), (3, {"task_type": "mail", "priority": 2})):
            backend.insert(backend.note(), delay=hours * HOUR, **options)
            assert hours * 3_600 - 60 < (client.next_due() or 0) <= hours * 3_600
        (task,) = client.claim()
        assert client.end(task, TaskState.RETRIED, delay=2 * HOUR, charge=1)
        assert 7_140 < (client.next_due() or 0) <= 7_200
        assert client.claim() == []

    def test_kinds_are_unknown_of_which_a_task_is_due_and_that_no_pool_of_the_type_knows(
        self, backend: Backend
    ) -> None:
        known, unknown = backend.note.__fang_options__.kind, backend.foreign_note.__fang_options__.kind
        client = backend.client()
        elsewhere = backend.client(task_types=("mail",), kinds=(unknown,))
        backend.insert(backend.note())
        backend.insert(backend.foreign_note(), task_type="mail")
        backend.insert(backend.foreign_note(), delay=HOUR)
        assert client.unknown_kinds() == elsewhere.unknown_kinds() == set()
        foreign = backend.insert(backend.foreign_note())
        assert client.unknown_kinds() == {unknown}
        client.update_kinds(known, unknown)
        assert client.unknown_kinds() == set()
        client.update_kinds(unknown)
        assert client.unknown_kinds() == {known}
        client.unregister()
        client.update_kinds(known, unknown)
        assert client.unknown_kinds() == {known, unknown}
        backend.move(foreign, TaskState.CANCELLED)
        assert client.unknown_kinds() == {known}

    def test_task_types_are_unserved_that_no_pool_serves_for_long(self, backend: Backend) -> None:
        now = datetime.now(UTC)
        past = now - 2 * HOUR
        for task_type in ("served", "b", "a", "a"):
            backend.insert(backend.note(), task_type=task_type, scheduled_at=past, priority=2)
        backend.insert(backend.note(), task_type="not for long", scheduled_at=now - HOUR / 2)
        backend.insert(backend.note(), task_type="later", scheduled_at=now + HOUR)
        backend.move(backend.insert(backend.note(), task_type="ended", scheduled_at=past), TaskState.CANCELLED)
        client = backend.client(task_types=("common", "served"), kinds=())
        assert client.unserved_types(HOUR) == ["a", "b"]
        client.unregister()
        assert client.unserved_types(HOUR) == ["a", "b", "served"]

    def test_types_with_waiting_tasks_are_named_and_whether_one_is_due(self, backend: Backend) -> None:
        client = backend.stranger()
        assert client.waiting_types() == {}
        backend.insert(backend.note(), task_type="due")
        backend.insert(backend.note(), task_type="due", delay=HOUR, priority=1)
        backend.insert(backend.note(), task_type="later", delay=HOUR)
        backend.insert(backend.note(), task_type="later", delay=2 * HOUR)
        backend.move(backend.insert(backend.note(), task_type="ended"), TaskState.CANCELLED)
        assert client.waiting_types(4) == {"due": True, "later": False}
        assert client.waiting_types(3) is None  # there are three lanes, which is too many

    def test_a_pool_that_waits_takes_tasks_of_its_types_and_kinds(self, backend: Backend) -> None:
        busy = backend.client(task_types=("common", "mail"), kinds=("A", "B"))
        idle = backend.client(task_types=("mail", "other"), kinds=("B", "C"))
        idle.set_waiting(True)
        assert busy.has_taker({("common", "A"), ("mail", "B")})
        assert not busy.has_taker({("common", "B"), ("mail", "A")})
        assert not busy.has_taker(set())
        busy.unregister()
        assert not idle.has_taker({("mail", "B")})  # only the asking pool itself waits
        idle.update_kinds("A")
        assert busy.has_taker({("mail", "A")})
        assert not busy.has_taker({("mail", "B")})
        idle.unregister()
        assert not busy.has_taker({("mail", "A")})

    def test_a_pool_that_no_longer_waits_takes_nothing(self, backend: Backend) -> None:
        backend.needs("wakes")
        busy, idle = backend.client(), backend.client(kinds=("A",))
        idle.beat()  # it shows that the pool listens
        assert not busy.has_taker({("common", "A")})
        idle.set_waiting(True)
        assert busy.has_taker({("common", "A")})
        idle.set_waiting(False)
        assert not busy.has_taker({("common", "A")})
