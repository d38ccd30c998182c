"""Tests ``Unique``: which tasks are equal, how long one keeps equal ones out, and what an insert does then."""

import dataclasses
import time
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import pytest

from fang_core.config import RetentionMode
from fang_core.conformance.backend import WITHIN, Backend
from fang_core.errors import TwinExists, UsageError
from fang_core.record import Task, TaskState
from fang_core.tasks.uniqueness import Unique

HOUR: Final = timedelta(hours=1)
SHORT: Final = timedelta(milliseconds=50)
WAITING: Final = Unique(while_="waiting")
FOR_AN_HOUR: Final = Unique(within=HOUR)
ONCE: Final = Unique(while_="always")
RAISING: Final = Unique(on_conflict="raise")
REPLACING: Final = Unique(by="text", on_conflict="replace")
POSTPONING: Final = Unique(by="text", on_conflict="postpone")


def number_of_tasks(backend: Backend) -> int:
    counts: dict[str, int] = backend.call(backend.queue.count_by_kind)
    return sum(counts.values())


def is_near(one: datetime, other: datetime) -> bool:
    return abs(one - other) < timedelta(minutes=10)


class UniquenessSuite:
    """Tests ``uniq=Unique(...)``."""

    # What is equal ----------------------------------------------------------------------------------------------------

    def test_only_the_named_fields_are_compared(self, backend: Backend) -> None:
        by_n = Unique(by="n")
        first = backend.insert(backend.note(n=1, text="a"), uniq=by_n)
        assert not first.conflict
        assert backend.insert(backend.note(n=1, text="b"), uniq=by_n) == first._replace(conflict=True)
        assert not backend.insert(backend.note(n=2, text="a"), uniq=by_n).conflict
        rows = backend.insert_many(
            [backend.note(n=n, text=text) for n, text in ((3, "a"), (1, "c"), (3, "b"))], uniq=by_n
        )
        assert [row.conflict for row in rows] == [False, True, True]
        assert not backend.insert(backend.foreign_note(n=1), uniq=by_n).conflict  # another kind
        assert not backend.insert(backend.note(n=1), uniq=Unique(by=["n", "text"])).conflict
        assert backend.insert(backend.note(n=1, ending="fail"), uniq=Unique(by=["text", "n"])).conflict

    def test_one_of_a_class_if_no_field_is_compared(self, backend: Backend) -> None:
        first = backend.insert(backend.note(n=1), uniq=Unique(by=[]))
        assert backend.insert(backend.note(n=2), uniq=Unique(by=[])) == first._replace(conflict=True)
        with pytest.raises(UsageError, match="has no field 'x'"):
            backend.insert(backend.note(), uniq=Unique(by="x"))

    # How long it counts -----------------------------------------------------------------------------------------------

    def test_a_waiting_one_counts_until_it_is_claimed(self, backend: Backend) -> None:
        first = backend.insert(backend.note(), uniq=WAITING)
        assert backend.insert(backend.note(), uniq=WAITING) == first._replace(conflict=True)
        assert backend.insert_many([backend.note()], uniq=WAITING) == [first._replace(conflict=True)]
        held = backend.fetch()
        assert held is not None
        assert held.id == first.id
        second = backend.insert(backend.note(), uniq=WAITING)
        assert not second.conflict
        assert backend.insert(backend.note(), uniq=WAITING) == second._replace(conflict=True)
        backend.move(second, TaskState.CANCELLED)
        assert not backend.insert(backend.note(), uniq=WAITING).conflict

    def test_a_waiting_one_that_was_claimed_waits_again_beside_others(self, backend: Backend) -> None:
        """Covers a retry by hand, a snooze, a failure and a task that its pool gives back."""
        tasks = []
        for ending in ("snooze", "later"):
            tasks += [backend.insert(backend.note(ending=ending), uniq=WAITING)]
            assert backend.drain() == 1
            tasks += [backend.insert(backend.note(ending=ending), uniq=WAITING)]
            assert backend.drain() == 1
        client = backend.client()
        for _ in range(2):
            tasks += [backend.insert(backend.note(n=7), uniq=WAITING, priority=-2)]
            client.claim(limit=1)
            assert client.reconcile() == 1
        held = backend.insert(backend.note(n=8), uniq=WAITING, task_type="by hand")
        read = backend.fetch("by hand")
        assert read is not None
        tasks += [held, backend.insert(backend.note(n=8), uniq=WAITING)]
        backend.call(backend.queue.schedule_retry, read, HOUR, "later")
        assert len({task.id for task in tasks}) == len(tasks)
        assert not any(task.conflict for task in tasks)
        assert all(backend.find(task) is not None for task in tasks)

    def test_a_waiting_twin_keeps_an_ended_one_from_being_revived(self, backend: Backend) -> None:
        ended = backend.move(backend.insert(backend.note(), uniq=WAITING), TaskState.CANCELLED)
        twin = backend.insert(backend.note(), uniq=WAITING)
        with pytest.raises(TwinExists, match=f"task {ended.id} cannot be revived"):
            backend.move(ended, TaskState.NEW)
        assert backend.fetch() is not None  # the twin
        assert backend.move(ended, TaskState.NEW).state is TaskState.NEW
        assert backend.row(twin).state is TaskState.IN_PROGRESS

    def test_a_period_outlasts_the_task_and_its_row(self, backend: Backend) -> None:
        first = backend.insert(backend.note(n=1), uniq=FOR_AN_HOUR)
        assert backend.insert(backend.note(n=1), uniq=FOR_AN_HOUR) == first._replace(conflict=True)
        kept = backend.insert(backend.note(n=2), uniq=FOR_AN_HOUR)
        assert backend.drain(retention_mode=RetentionMode.KEEP_ALL) == 2
        assert backend.insert(backend.note(n=2), uniq=FOR_AN_HOUR) == backend.row(kept)._replace(conflict=True)
        third = backend.insert(backend.note(n=3), uniq=FOR_AN_HOUR)
        assert backend.drain(retention_mode=RetentionMode.REMOVE_ALL) == 1
        assert backend.find(third) is None
        for again in (
            backend.insert(backend.note(n=3), uniq=FOR_AN_HOUR),
            *backend.insert_many([backend.note(n=3)], uniq=FOR_AN_HOUR),
        ):
            assert (again.id, again.state, again.conflict) == (third.id, TaskState.FINISHED, True)
            assert (again.kind, again.metadata) == (third.kind, third.metadata)
            assert is_near(again.created_at, third.created_at)
        assert backend.drain() == 0

    def test_a_period_ends(self, backend: Backend) -> None:
        """Checks also that it is the whole of ``always``, whose task may still wait."""
        for_a_moment = Unique(while_="always", within=SHORT)
        tasks = [backend.insert(backend.note(), uniq=for_a_moment)]
        for _ in range(2):
            tasks += [inserted_in_time(backend, for_a_moment)]
        assert len({task.id for task in tasks}) == 3
        assert {backend.row(task).state for task in tasks} == {TaskState.NEW}

    def test_an_unfinished_one_counts_beyond_its_period(self, backend: Backend) -> None:
        both = Unique(within=SHORT)
        first = backend.insert(backend.note(), uniq=both)
        wait_until_over(backend)
        assert backend.insert(backend.note(), uniq=both) == first._replace(conflict=True)
        assert backend.insert_many([backend.note()], uniq=both)[0].id == first.id
        assert backend.drain() == 1
        assert not backend.insert(backend.note(), uniq=both).conflict  # the conflict began no period

    def test_once_is_for_ever(self, backend: Backend) -> None:
        first = backend.insert(backend.note(), uniq=ONCE)
        assert backend.drain(retention_mode=RetentionMode.REMOVE_ALL) == 1
        rows = backend.insert_many([backend.note(n=n) for n in (0, 1, 0, 1)], uniq=ONCE)
        assert [row.conflict for row in rows] == [True, False, True, True]
        assert [row.id for row in rows] == [first.id, rows[1].id, first.id, rows[1].id]
        assert backend.drain() == 1

    def test_a_task_that_is_removed_by_hand_makes_way(self, backend: Backend) -> None:
        for uniq in (FOR_AN_HOUR, ONCE, WAITING):
            for ended in (False, True):
                task = backend.insert(backend.note(), uniq=uniq)
                assert not task.conflict
                if ended:
                    assert backend.drain(retention_mode=RetentionMode.REMOVE_ALL) == 1
                assert backend.call(backend.queue.remove_task, task.id) == (not ended)
                assert not backend.insert(backend.note(), uniq=uniq).conflict
                assert backend.call(backend.queue.remove_task_by_metadata, backend.note()) == 1
                assert not backend.insert(backend.note(), uniq=uniq).conflict
                assert backend.call(backend.queue.remove_all_tasks) == 1

    # What happens then ------------------------------------------------------------------------------------------------

    def test_an_insert_that_is_to_raise_raises_and_writes_nothing(self, backend: Backend) -> None:
        first = backend.insert(backend.note(), uniq=RAISING)
        with pytest.raises(TwinExists, match=f"an equal task has the id {first.id}"):
            backend.insert(backend.note(), uniq=RAISING)
        with pytest.raises(TwinExists, match=f"an equal task has the id {first.id}"):
            backend.insert_many([backend.note(n=n) for n in (3, 2, 1, 0)], uniq=RAISING)
        with pytest.raises(TwinExists, match="two of the tasks are equal"):
            backend.insert_many([backend.note(n=n) for n in (3, 2, 3)], uniq=RAISING)
        assert number_of_tasks(backend) == 1
        assert backend.insert(backend.note(), id=first.id, uniq=RAISING).id == first.id  # the same insert again
        for_an_hour = Unique(within=HOUR, on_conflict="raise")
        backend.insert_many([backend.note(n=n) for n in (1, 2)], uniq=for_an_hour)
        assert backend.drain() == 3
        with pytest.raises(TwinExists):
            backend.insert_many([backend.note(n=n) for n in (3, 2, 4)], uniq=for_an_hour)
        assert not backend.insert(backend.note(n=3), uniq=for_an_hour).conflict  # its period was not begun

    def test_a_waiting_task_is_replaced(self, backend: Backend) -> None:
        first = backend.insert(backend.note(n=1, text="a"), uniq=REPLACING, delay=HOUR)
        now = datetime.now(UTC)
        replaced = backend.insert(
            backend.note(n=2, text="a"),
            uniq=REPLACING,
            delay=2 * HOUR,
            expires=HOUR,
            priority=-1,
            max_retries=7,
            task_type="mail",
            headers={"from": "b"},
            timeout=HOUR,
        )
        assert (replaced.id, replaced.created_at, replaced.conflict) == (first.id, first.created_at, True)
        assert backend.row(first) == replaced._replace(conflict=False)
        assert replaced.metadata == {**first.metadata, "n": 2}
        assert (replaced.priority, replaced.max_retries, replaced.task_type) == (-1, 7, "mail")
        assert (replaced.headers, replaced.timeout) == ({"from": "b"}, HOUR)
        assert is_near(replaced.scheduled_at, now + 2 * HOUR)
        assert replaced.expires_at == replaced.scheduled_at + HOUR
        assert (replaced.state, replaced.attempt, replaced.uniq_hash) == (TaskState.NEW, 0, first.uniq_hash)
        again = backend.insert(backend.note(n=3, text="a"), uniq=REPLACING)
        assert (again.task_type, again.priority, again.headers, again.timeout) == ("common", 0, None, None)
        assert again.expires_at is None
        assert backend.drain() == 1
        assert [n for n, _ in backend.journal] == [3]

    def test_a_waiting_task_is_postponed(self, backend: Backend) -> None:
        first = backend.insert(backend.note(n=1, text="a"), uniq=POSTPONING, delay=HOUR, expires=HOUR)
        postponed = backend.insert(
            backend.note(n=2, text="a"), uniq=POSTPONING, delay=2 * HOUR, expires=HOUR, priority=2
        )
        assert timedelta(0) < postponed.scheduled_at - first.scheduled_at - HOUR < timedelta(minutes=10)
        assert postponed.expires_at == postponed.scheduled_at + HOUR
        at_first = first._replace(scheduled_at=postponed.scheduled_at, expires_at=postponed.expires_at, conflict=True)
        assert postponed == at_first._replace(updated_at=postponed.updated_at)
        assert backend.row(first) == postponed._replace(conflict=False)
        assert backend.drain() == 0
        sooner = backend.insert(backend.note(n=3, text="a"), uniq=POSTPONING)
        assert sooner.id == first.id
        assert backend.drain() == 1
        assert [n for n, _ in backend.journal] == [1]

    def test_a_task_that_is_due_keeps_its_place(self, backend: Backend) -> None:
        """Otherwise it would never run if equal ones are inserted all the time."""
        for text, uniq in (("a", REPLACING), ("b", POSTPONING)):
            first = backend.insert(backend.note(text=text), uniq=uniq)
            assert backend.insert(backend.note(text=text), uniq=uniq).scheduled_at == first.scheduled_at

    def test_a_task_that_is_due_expires_no_sooner_than_a_new_one(self, backend: Backend) -> None:
        """Otherwise nothing would run for an insert that meets a task which has expired, and waits to be cancelled."""
        for text, uniq, number in (("a", REPLACING, 2), ("b", POSTPONING, 1)):
            ago = datetime.now(UTC) - 2 * HOUR
            first = backend.insert(backend.note(n=1, text=text), uniq=uniq, scheduled_at=ago, expires=HOUR)
            again = backend.insert(backend.note(n=2, text=text), uniq=uniq, expires=HOUR)
            assert (again.id, again.scheduled_at) == (first.id, first.scheduled_at)
            assert again.expires_at is not None
            assert is_near(again.expires_at, ago + 3 * HOUR)
            assert backend.drain() == 1
            assert [note.n for note in backend.journal[-1:]] == [number]

    def test_a_task_that_has_run_waits_for_its_next_run_at_least(self, backend: Backend) -> None:
        for text, uniq, number in (("a", REPLACING, 2), ("b", POSTPONING, 1)):
            backend.insert(backend.note(n=1, ending="later", text=text), uniq=uniq)
            assert backend.drain() == 1
            again = backend.insert(backend.note(n=2, text=text), uniq=uniq)
            assert (again.state, again.retries, again.attempt) == (TaskState.RETRIED, 1, 1)
            assert is_near(again.scheduled_at, again.created_at + HOUR)
            assert again.metadata["n"] == number
            later = backend.insert(backend.note(n=2, text=text), uniq=uniq, delay=3 * HOUR)
            assert is_near(later.scheduled_at, again.created_at + 3 * HOUR)

    def test_a_task_that_runs_or_has_ended_is_left_alone(self, backend: Backend) -> None:
        for text, uniq in (("a", REPLACING), ("b", POSTPONING)):
            held = backend.held(backend.note(n=1, text=text), uniq=uniq)
            again = backend.insert(backend.note(n=2, text=text), uniq=uniq, delay=HOUR)
            assert again == held._replace(conflict=True)
            assert backend.row(held) == held
            for_ever = dataclasses.replace(uniq, while_="always")
            first = backend.held(backend.note(n=1, text=text), uniq=for_ever)
            ended = backend.move(first, TaskState.FAILED)
            again = backend.insert(backend.note(n=2, text=text), uniq=for_ever, delay=HOUR)
            assert again == ended._replace(conflict=True)
            assert backend.row(ended) == ended

    def test_a_bulk_does_the_same_for_each(self, backend: Backend) -> None:
        debounced = Unique(by="text", while_="waiting", on_conflict="replace")
        there = backend.insert(backend.note(n=1, text="b"), uniq=debounced, delay=HOUR)
        notes = [backend.note(n=n, text=text) for n, text in ((2, "c"), (3, "b"), (4, "a"), (5, "c"), (6, "b"))]
        rows = backend.insert_many(notes, uniq=debounced)
        assert [row.conflict for row in rows] == [False, True, False, True, True]
        assert rows[1].id == rows[4].id == there.id
        assert rows[0].id == rows[3].id
        assert [backend.row(row)._replace(conflict=row.conflict) for row in rows] == rows
        assert backend.drain() == 3
        assert sorted(n for n, _ in backend.journal) == [4, 5, 6]  # the last one of each

    def test_tasks_with_and_without_terms_are_inserted_together(self, backend: Backend) -> None:
        backend.insert(backend.unique_note(n=1))
        rows = backend.insert_many([backend.unique_note(n=1), backend.note(n=1), backend.note(n=1)])
        assert [row.conflict for row in rows] == [True, False, False]
        rows = backend.insert_many([backend.unique_note(n=n) for n in (1, 2)], uniq=FOR_AN_HOUR)
        assert [row.conflict for row in rows] == [True, False]  # the first by what its class says
        assert backend.insert(backend.unique_note(n=2)).conflict
        assert backend.drain() == 4
        assert backend.insert(backend.unique_note(n=2), uniq=FOR_AN_HOUR).conflict
        assert not backend.insert(backend.unique_note(n=2)).conflict

    def test_an_insert_by_id_can_be_repeated_on_any_terms(self, backend: Backend) -> None:
        for uniq in (WAITING, FOR_AN_HOUR, ONCE, RAISING, REPLACING, POSTPONING):
            note, task_id = backend.note(text=str(uniq)), uuid4()
            task = backend.insert(note, id=task_id, uniq=uniq)
            assert task.id == task_id
            assert backend.insert(note, id=task.id, uniq=uniq).id == task.id
            assert backend.row(task).metadata == task.metadata
        assert number_of_tasks(backend) == 6
        plain = backend.insert(backend.note(text="not unique"), priority=-1, delay=HOUR)
        for uniq in (REPLACING, POSTPONING):
            assert backend.insert(backend.note(text="not unique"), id=plain.id, uniq=uniq).conflict
            assert backend.row(plain) == plain

    def test_an_insert_by_id_repeated_on_other_terms_leaves_the_period_of_its_task(self, backend: Backend) -> None:
        task = backend.insert(backend.note(n=1), uniq=FOR_AN_HOUR)
        assert backend.insert(backend.note(n=1), id=task.id, uniq=Unique(by="n", within=HOUR)).id == task.id
        rows = backend.insert_many([backend.note(n=1), backend.note(n=2)], uniq=Unique(by="n", within=HOUR))
        assert [row.conflict for row in rows] == [False, False]  # what was not inserted has no period
        backend.call(backend.queue.update_task_state, task, TaskState.FINISHED)
        assert backend.insert(backend.note(n=1), uniq=FOR_AN_HOUR) == backend.row(task)._replace(conflict=True)

    # In the caller's transaction --------------------------------------------------------------------------------------

    def test_what_is_rolled_back_kept_nobody_out(self, backend: Backend) -> None:
        backend.needs("transactions")
        waiting = backend.insert(backend.note(text="a"), uniq=REPLACING, delay=HOUR)
        for n, uniq in enumerate((WAITING, FOR_AN_HOUR, ONCE)):
            with backend.rolled_back() as connection:
                first = backend.insert(backend.note(n=n), uniq=uniq, connection=connection)
                again = backend.insert(backend.note(n=n), uniq=uniq, connection=connection)
                assert again == first._replace(conflict=True)
                (row,) = backend.insert_many([backend.note(n=n)], uniq=uniq, connection=connection)
                assert row == again
                replaced = backend.insert(backend.note(n=5, text="a"), uniq=REPLACING, connection=connection)
                assert replaced.metadata["n"] == 5
            assert backend.row(waiting) == waiting
            assert not backend.insert(backend.note(n=n), uniq=uniq).conflict

    def test_an_insert_that_raises_leaves_the_transaction_usable(self, backend: Backend) -> None:
        backend.needs("transactions")
        for_an_hour = Unique(within=HOUR, on_conflict="raise")
        there = [backend.insert(backend.note(n=n), uniq=uniq) for n, uniq in ((0, RAISING), (1, for_an_hour))]
        with backend.transaction() as connection:
            for uniq, numbers in ((RAISING, (2, 0, 3)), (for_an_hour, (4, 1, 5))):
                with pytest.raises(TwinExists):
                    backend.insert_many([backend.note(n=n) for n in numbers], uniq=uniq, connection=connection)
                with pytest.raises(TwinExists):
                    backend.insert(backend.note(n=numbers[1]), uniq=uniq, connection=connection)
            kept = backend.insert(backend.note(n=6), uniq=for_an_hour, connection=connection)
        assert number_of_tasks(backend) == len([*there, kept])
        assert not any(backend.insert(backend.note(n=n), uniq=for_an_hour).conflict for n in (4, 5))


def inserted_in_time(backend: Backend, uniq: Unique) -> Task:
    """Inserts equal tasks until one is not kept out any more."""
    deadline = time.monotonic() + WITHIN
    while True:
        task = backend.insert(backend.note(), uniq=uniq)
        if not task.conflict:
            return task
        assert time.monotonic() < deadline, "the period did not end"


def wait_until_over(backend: Backend) -> None:
    """Waits until a period as short as ``SHORT`` that has begun before is over, by the backend's clock."""
    for_a_moment = Unique(while_="always", within=SHORT)
    backend.insert(backend.note(n=-1), uniq=for_a_moment, task_type="elsewhere")
    deadline = time.monotonic() + WITHIN
    while backend.insert(backend.note(n=-1), uniq=for_a_moment, task_type="elsewhere").conflict:
        assert time.monotonic() < deadline, "the period did not end"
