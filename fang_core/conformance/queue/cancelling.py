"""Tests cancelling tasks: those that wait at once, those in progress by a request that is left in their rows."""

import threading
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from fang_core.backends.waking import SCHEDULES
from fang_core.config import RetentionMode
from fang_core.conformance.backend import WITHIN, Backend
from fang_core.conformance.queue.by_hand import in_state
from fang_core.conformance.queue.removals import Stop, stop
from fang_core.conformance.store.leases import seen
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES, Outcome
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter

HOUR: Final = timedelta(hours=1)


def cancel(backend: Backend, task: Any, reason: str = "", **options: Any) -> Task | None:
    """Calls ``queue.cancel_task`` for a task, or a claimed task."""
    row: Task | None = backend.call(backend.queue.cancel_task, task.id, reason, **options)
    return row


def cancel_many(backend: Backend, **options: Any) -> int:
    """Calls ``queue.cancel_tasks``; options that it does not have are those of the filter."""
    of_call = {name: options.pop(name) for name in ("by", "on_progress", "connection") if name in options}
    count: int = backend.call(backend.queue.cancel_tasks, TaskFilter(**options), "all of them", **of_call)
    return count


def asked(row: Task) -> tuple[str, str] | None:
    """Returns why a task is to be cancelled, and who said so."""
    return None if row.cancel_request is None else (row.cancel_request["reason"], row.cancel_request["by"])


def is_claimed_with(backend: Backend, reason: str | None) -> bool:
    """Returns whether the due task comes with a request for this reason when it is claimed; None means without one."""
    (claimed,) = backend.client().claim()
    return (claimed.cancel_request and claimed.cancel_request["reason"]) == reason


class CancelSuite:
    """Tests ``cancel_task`` and ``cancel_tasks``."""

    # One task ---------------------------------------------------------------------------------------------------------

    def test_a_task_that_waits_is_cancelled_at_once(self, backend: Backend) -> None:
        for state in DUE_STATES:
            task = in_state(backend, state)
            after = cancel(backend, task, "not wanted", by="ada")
            assert after is not None
            assert after == backend.row(task)
            assert after.updated_at >= task.updated_at
            assert asked(after) == ("not wanted", "ada")
            assert after.cancel_request["at"]  # type: ignore[index]
            same: dict[str, Any] = {"updated_at": after.updated_at, "cancel_request": after.cancel_request}
            assert after == task._replace(state=TaskState.CANCELLED, error_message="not wanted", **same)
        due = backend.insert(backend.note(n=7))
        assert cancel(backend, due) == backend.row(due)
        assert backend.row(due).error_message == ""
        assert backend.row(due).cancel_request["by"]  # type: ignore[index]  # the process that has cancelled it
        assert backend.drain() == 0
        assert backend.journal == []

    def test_of_a_task_in_progress_the_row_says_that_it_is_to_be_cancelled(self, backend: Backend) -> None:
        client = backend.client()
        backend.insert_many([backend.note(n=n) for n in range(2)])
        told, other = client.claim()
        before = backend.row(told)
        after = cancel(backend, told, "not wanted", by="ada")
        assert after is not None
        assert after == backend.row(told)
        assert after == before._replace(updated_at=after.updated_at, cancel_request=after.cancel_request)
        assert asked(after) == ("not wanted", "ada")
        held = [(task.id, task.attempt) for task in (told, other)]
        assert client.beat(held=held).cancels == [(told.id, "not wanted", "ada")]
        assert client.beat(held=held).cancels == [(told.id, "not wanted", "ada")]  # the reply may have been lost
        assert asked(cancel(backend, told, "again", by="eve")) == ("not wanted", "ada")  # type: ignore[arg-type]
        assert client.end(told, TaskState.CANCELLED, error_message="as you wish")
        cancelled = backend.row(told)
        assert (cancelled.state, cancelled.error_message) == (TaskState.CANCELLED, "as you wish")
        assert asked(cancelled) == ("not wanted", "ada")
        assert client.beat(held=held[1:]).cancels == []

    def test_what_has_ended_stays_as_it_is_and_what_is_gone_is_none(self, backend: Backend) -> None:
        for state in TERMINAL_STATES:
            task = in_state(backend, state)
            assert cancel(backend, task, "too late") == task == backend.row(task)
        gone = backend.insert(backend.note())
        backend.call(backend.queue.remove_task, gone.id)
        assert cancel(backend, gone) is None
        assert backend.call(backend.queue.cancel_task, uuid4()) is None

    def test_texts_that_no_database_holds_are_kept_as_well_as_can_be(self, backend: Backend) -> None:
        task = backend.insert(backend.note())
        reason, by = asked(cancel(backend, task, "\0\ud800" + "é" * 2_000, by="\0" + "x" * 3_000))  # type: ignore[arg-type, misc]
        assert (len(reason.encode()), len(by.encode())) <= (2_000, 2_000)
        assert "é" * 900 in reason
        assert backend.row(task).error_message == reason

    def test_a_cancelled_unique_task_is_no_twin(self, backend: Backend) -> None:
        first = backend.insert(backend.unique_note())
        cancel(backend, first)
        assert not backend.insert(backend.unique_note()).conflict

    # What becomes of a request ----------------------------------------------------------------------------------------

    def test_a_request_that_no_run_has_answered_stays_with_the_task(self, backend: Backend) -> None:
        for back in ("given back", "snoozed", "failed", "reconciled"):
            client = backend.client()
            task = self._asked(backend, client)
            match back:
                case "given back":
                    assert client.end(task, TaskState.NEW)
                case "snoozed":
                    assert client.complete(Outcome(task.id, 1, TaskState.NEW, timedelta(0), forgets_crashes=True))
                case "failed":
                    assert client.end(task, TaskState.RETRIED, charge=1, error_message="no")
                case _:
                    assert client.reconcile() == 1
            self._comes_back(backend, task)

    def test_a_rescue_keeps_the_request(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        client, watcher = backend.client(), backend.client()
        task = self._asked(backend, client)
        client.beat()
        watcher.rescue(seen(watcher, client))
        self._comes_back(backend, task)

    def _comes_back(self, backend: Backend, task: ClaimedTask) -> None:
        row = backend.row(task)
        assert row.state in DUE_STATES
        assert asked(row) == ("not wanted", "ada")
        assert is_claimed_with(backend, "not wanted")

    def test_a_task_that_comes_back_with_a_request_is_cancelled_without_a_run(self, backend: Backend) -> None:
        for retention, is_kept in ((RetentionMode.REMOVE_FINISHED, True), (RetentionMode.REMOVE_ALL, False)):
            client = backend.client()
            task = self._asked(backend, client)
            client.end(task, TaskState.NEW)
            backend.insert(backend.note(n=7))
            assert backend.drain(retention_mode=retention) == 1
            assert {ran.n for ran in backend.journal} == {7}
            row = backend.call(backend.queue.find_task_by_id, task.id)
            assert (row is not None) == is_kept
            if row is not None:
                assert (row.state, row.error_message, row.errors) == (TaskState.CANCELLED, "not wanted", ())
                assert (row.retries, row.pool_id, asked(row)) == (0, None, ("not wanted", "ada"))

    def test_nobody_fetches_such_a_task_by_hand(self, backend: Backend) -> None:
        client = backend.client()
        task = self._asked(backend, client)
        client.end(task, TaskState.NEW)
        following = backend.insert(backend.note(n=7))
        fetched = backend.fetch()
        assert fetched is not None
        assert fetched.id == following.id
        assert backend.fetch() is None
        row = backend.row(task)
        assert (row.state, row.error_message, asked(row)) == (
            *(TaskState.CANCELLED, "not wanted"),
            ("not wanted", "ada"),
        )

    def test_a_request_that_a_run_has_answered_is_done(self, backend: Backend) -> None:
        client = backend.client()
        task = self._asked(backend, client)
        assert client.complete(Outcome(task.id, 1, TaskState.NEW, timedelta(0), answers_cancel=True))
        assert backend.row(task).cancel_request is None
        assert is_claimed_with(backend, None)

    def test_a_waiting_task_that_was_asked_before_is_cancelled_for_the_first_reason(self, backend: Backend) -> None:
        client = backend.client()
        task = self._asked(backend, client)
        client.end(task, TaskState.NEW)
        after = cancel(backend, task, "again", by="eve")
        assert after is not None
        assert (after.state, after.error_message, asked(after)) == (
            *(TaskState.CANCELLED, "not wanted"),
            ("not wanted", "ada"),
        )

    def test_a_new_life_begins_without_a_request(self, backend: Backend) -> None:
        task = backend.insert(backend.note(n=7))
        cancelled = cancel(backend, task, "not wanted")
        assert cancelled is not None
        assert backend.move(cancelled, TaskState.NEW).cancel_request is None
        assert backend.drain() == 1
        assert backend.journal == [(7, 1)]

    def _asked(self, backend: Backend, client: Any) -> ClaimedTask:
        """Returns a task that the client holds and is to cancel."""
        backend.insert(backend.note())
        (task,) = client.claim()
        cancel(backend, task, "not wanted", by="ada")
        claimed: ClaimedTask = task
        return claimed

    def test_a_pool_that_listens_hears_of_a_request(self, backend: Backend) -> None:
        backend.needs("wakes")
        client, other = backend.client(), backend.client()
        backend.insert_many([backend.note(n=n) for n in range(2)])
        one, many = client.claim()
        heard: list[UUID] = []
        is_told = threading.Event()

        def on_told(pool_id: UUID) -> None:
            if pool_id != SCHEDULES:  # a listener that has just connected looks at schedules
                heard.append(pool_id)
                is_told.set()

        other.listen(lambda _: None, on_told)
        for _ in range(int(WITHIN / 0.2)):  # a backend may need a moment until it listens
            cancel(backend, one)
            if backend.wait_for(is_told, 0.2):
                break
        assert set(heard) == {client.id}
        is_told.clear()
        assert cancel_many(backend, ids=[many.id]) == 1
        assert backend.wait_for(is_told, WITHIN)
        assert set(heard) == {client.id}

    # Many tasks -------------------------------------------------------------------------------------------------------

    def test_the_filter_says_which_are_cancelled(self, backend: Backend) -> None:
        note, foreign = (note.__fang_options__.kind for note in (backend.note, backend.foreign_note))
        every = {"new", "held", "retried", "mail", "other", "last"}
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({"kinds": foreign}, {"other"}),
            ({"kinds": [note, foreign]}, every),
            ({"task_types": "mail"}, {"mail", "other"}),
            ({"task_types": {"mail", "held"}}, {"held", "retried", "mail", "other"}),
            ({"task_types": ("mai", "mail", "mails")}, {"mail", "other"}),
            ({"states": TaskState.NEW}, {"new", "mail", "other", "last"}),
            ({"states": [TaskState.RETRIED, TaskState.IN_PROGRESS]}, {"held", "retried"}),
            ({"states": TERMINAL_STATES}, set()),
            ({"headers": {"user": "7"}}, {"mail"}),
            ({"headers": {"user": "7", "from": "web"}}, {"mail"}),
            ({"headers": {"user": "8", "from": "web"}}, set()),
            ({"task_types": "mail", "kinds": note, "states": "new", "headers": {"user": "7"}}, {"mail"}),
            ({"payload": {"n": 4}}, {"mail"}),
            ({"payload": {"n": 4.0, "type": note}}, {"mail"}),
            ({"payload": {"n": "4"}}, set()),
            ({"payload": {"n": 5, "type": note}}, set()),
            ({"error": "connection res"}, {"retried"}),
            ({"error": "Connection"}, set()),
            ({"error": "100%"}, set()),
            ({"kinds": []}, set()),
            ({"task_types": ()}, set()),
            ({"states": ()}, set()),
            ({"ids": ()}, set()),
            ({"all_tasks": True}, every),
        ]
        for which, expected in cases:
            assert self._cancelled(backend, some(backend), which) == expected, which

    def test_the_filter_can_name_tasks_and_when_they_were_inserted(self, backend: Backend) -> None:
        for which, expected in (
            (lambda tasks: {"ids": [tasks["held"].id, tasks["ended"].id, tasks["last"].id, uuid4()]}, {"held", "last"}),
            (lambda tasks: {"ids": {tasks["held"].id, tasks["last"].id}, "task_types": "common"}, {"last"}),
            (lambda tasks: {"inserted_before": tasks["new"].created_at}, set()),
            (lambda tasks: {"inserted_before": tasks["mail"].created_at}, {"new", "held", "retried"}),
            (lambda tasks: {"inserted_after": tasks["mail"].created_at}, {"mail", "other", "last"}),
            (lambda tasks: {"inserted_after": tasks["mail"].created_at, "kinds": "nobody's"}, set()),
            (lambda tasks: {"inserted_after": tasks["ended"].created_at + HOUR}, set()),
            (lambda tasks: {"updated_after": tasks["retried"].updated_at, "task_types": "held"}, {"retried"}),
            (lambda tasks: {"updated_before": tasks["retried"].updated_at, "task_types": "held"}, {"held"}),
            (lambda tasks: {"due_before": tasks["other"].scheduled_at, "task_types": "mail"}, {"mail"}),
            (lambda tasks: {"due_after": tasks["other"].scheduled_at + HOUR / 2}, {"retried", "last"}),
            (lambda tasks: {"pool_ids": [tasks["held"].pool_id]}, {"held"}),
            (lambda tasks: {"pool_ids": [tasks["held"].id]}, set()),
        ):
            tasks = some(backend)
            assert self._cancelled(backend, tasks, which(tasks)) == expected

    def _cancelled(self, backend: Backend, tasks: dict[str, Task], which: dict[str, Any]) -> set[str]:
        """Cancels these tasks; returns the names of those that changed, and removes all."""
        count = cancel_many(backend, **which)
        rows = {name: backend.row(task) for name, task in tasks.items()}
        changed = {name for name, row in rows.items() if row != tasks[name]}
        assert count == len(changed)
        for name in changed:
            assert asked(rows[name])[0] == "all of them"  # type: ignore[index]
            assert rows[name].state is (TaskState.IN_PROGRESS if name == "held" else TaskState.CANCELLED)
        assert cancel_many(backend, **which) == 0
        assert {name: backend.row(task) for name, task in tasks.items()} == rows
        backend.call(backend.queue.remove_all_tasks)
        return changed

    def test_progress_is_told_up_to_all_that_were_cancelled(self, backend: Backend) -> None:
        rows = backend.insert_many([backend.note(n=n) for n in range(20)])
        for which in ({"task_types": "common"}, {"ids": [row.id for row in rows]}):
            told: list[int] = []
            assert cancel_many(backend, **which, on_progress=told.append) == 20
            assert told == sorted(set(told))
            assert told[-1:] == [20]
            assert cancel_many(backend, **which, on_progress=told.append) == 0
            assert told[-1:] == [20]
            rows = [backend.move(backend.row(row), TaskState.NEW) for row in rows]

    def test_what_progress_raises_stops_a_cancelling_and_says_how_many_are_cancelled(self, backend: Backend) -> None:
        backend.insert_many([backend.note() for _ in range(3)])
        with pytest.raises(Stop) as stopped:
            cancel_many(backend, all_tasks=True, on_progress=stop)
        left = cancel_many(backend, all_tasks=True)
        assert stopped.value.args == (3 - left,)
        assert f" {3 - left} tasks were cancelled" in stopped.value.__notes__[0]

    # Transactions, and pools ------------------------------------------------------------------------------------------

    def test_requests_are_part_of_their_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        for ends in (backend.rolled_back, backend.transaction):
            held = backend.held(backend.note(n=1))
            waits, one_of_many = backend.insert_many([backend.note(n=n) for n in range(2, 4)], delay=HOUR)
            tasks = [waits, held, one_of_many]
            with ends() as connection:
                after = [cancel(backend, task, connection=connection) for task in tasks[:2]]
                assert cancel_many(backend, kinds=backend.note.__fang_options__.kind, connection=connection) == 1
                assert cancel_many(backend, ids=[task.id for task in tasks], connection=connection) == 0
                assert [backend.row(task) for task in tasks] == tasks
            rows = [backend.row(task) for task in tasks]
            assert rows[:2] == (tasks[:2] if ends == backend.rolled_back else after)
            assert (rows[2] == one_of_many) == (ends == backend.rolled_back)
            backend.call(backend.queue.remove_all_tasks)


def some(backend: Backend) -> dict[str, Task]:
    """Inserts tasks that filters tell apart; returns them by name."""
    tasks = {
        "new": backend.insert(backend.note(n=1)),
        "held": backend.held(backend.note(n=2), task_type="held"),
        "retried": backend.held(backend.note(n=3), task_type="held"),
        "mail": backend.insert(backend.note(n=4), task_type="mail", headers={"user": "7", "from": "web"}),
        "other": backend.insert(backend.foreign_note(n=5), task_type="mail", priority=1, headers={"user": "8"}),
        "last": backend.insert(backend.note(n=6), delay=HOUR, priority=-1),
        "ended": backend.insert(backend.note(n=7), delay=HOUR),
    }
    tasks["retried"] = backend.call(backend.queue.schedule_retry, tasks["retried"], HOUR, "a connection reset")
    tasks["ended"] = backend.move(tasks["ended"], TaskState.FINISHED)
    return tasks
