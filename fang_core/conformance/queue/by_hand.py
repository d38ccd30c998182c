"""Tests how people and applications change existing rows: compare-and-set moves, and fetching by hand."""

from datetime import timedelta
from typing import Any

import pytest

from fang_core.conformance.backend import Backend
from fang_core.errors import StaleTask, UsageError
from fang_core.lifecycle import BY_HAND, TERMINAL_STATES, Outcome
from fang_core.record import Task, TaskState

HOUR = timedelta(hours=1)


def in_state(backend: Backend, state: TaskState) -> Task:
    """Returns a task in this state that is not due; no other task may be due."""
    match state:
        case TaskState.NEW:
            return backend.insert(backend.note(), delay=HOUR)
        case TaskState.IN_PROGRESS:
            return backend.held(backend.note())
        case TaskState.RETRIED:
            return backend.call(backend.queue.schedule_retry, backend.held(backend.note()), HOUR, "no")  # type: ignore[no-any-return]
        case _:
            return backend.move(backend.insert(backend.note(), delay=HOUR), state)


class ByHandSuite:
    """Tests ``update_task_state``, ``fail_task``, ``schedule_retry`` and ``fetch_and_touch_task``."""

    @pytest.mark.parametrize("state", TaskState, ids=str)
    def test_every_move_of_the_table_is_made_and_no_other(self, backend: Backend, state: TaskState) -> None:
        for target in TaskState:
            before = in_state(backend, state)
            assert before.state is state
            if target not in BY_HAND[state]:
                with pytest.raises(UsageError, match=f"a task that is {state} cannot be made {target}"):
                    backend.move(before, target)
                assert backend.row(before) == before
                continue
            after = backend.move(before, target)
            assert after == backend.row(before)
            assert after.updated_at >= before.updated_at
            # Nothing else changes, except that no pool holds it.
            free = before._replace(pool_id=None, claimed_at=None)
            assert after == free._replace(state=target, updated_at=after.updated_at)
            backend.call(backend.queue.remove_all_tasks)

    def test_a_moved_task_runs_or_does_not_as_its_new_state_says(self, backend: Backend) -> None:
        for n, state in enumerate(TERMINAL_STATES):
            backend.move(backend.insert(backend.note(n=n)), state)
        revived = backend.insert(backend.note(n=7))
        backend.move(backend.move(revived, TaskState.CANCELLED), TaskState.NEW)
        assert backend.drain() == 1
        assert backend.journal == [(7, 1)]

    def test_a_revived_task_begins_its_life_again(self, backend: Backend) -> None:
        task = backend.insert(backend.note(ending="fail"))
        assert backend.drain() == 3
        failed = backend.row(task)
        assert (failed.state, failed.retries) == (TaskState.FAILED, 2)
        revived = backend.move(failed, TaskState.NEW)
        assert (revived.retries, revived.crashes, revived.attempt) == (0, 0, 3)
        assert revived.scheduled_at >= failed.updated_at  # due now at the earliest
        assert revived.errors == failed.errors
        assert backend.drain() == 3
        assert backend.row(task).attempt == 6

    def test_a_revived_task_that_is_due_later_stays_so(self, backend: Backend) -> None:
        task = backend.insert(backend.note(), delay=HOUR)
        revived = backend.move(backend.move(task, TaskState.CANCELLED), TaskState.NEW)
        assert revived.scheduled_at == task.scheduled_at

    @pytest.mark.parametrize("by", ["move", "claim", "completion", "removal"])
    def test_a_row_that_is_not_as_it_was_read_is_left_alone(self, backend: Backend, by: str) -> None:
        task = backend.insert(backend.note(ending="snooze" if by == "completion" else "ok"))
        match by:
            case "move":  # moved away and back: a row in the same state is not the same row
                backend.move(backend.move(task, TaskState.CANCELLED), TaskState.NEW)
            case "claim":
                backend.fetch()
            case "completion":
                backend.drain()
            case _:
                backend.call(backend.queue.remove_task, task.id)
        now = backend.find(task)
        for change, arguments in (
            (backend.queue.update_task_state, (task, TaskState.CANCELLED)),
            (backend.queue.fail_task, (task, "no")),
            (backend.queue.schedule_retry, (task._replace(state=TaskState.IN_PROGRESS), HOUR, "no")),
        ):
            with pytest.raises(StaleTask, match=f"task {task.id} has changed since it was read"):
                backend.call(change, *arguments)
        assert backend.find(task) == now

    @pytest.mark.parametrize("state", sorted(BY_HAND[TaskState.IN_PROGRESS]))
    def test_a_run_whose_task_was_moved_is_lost(self, backend: Backend, state: TaskState) -> None:
        held = backend.held(backend.note())
        backend.move(held, state)
        self._writes_nothing(backend, held)

    def test_a_run_whose_task_was_moved_and_claimed_anew_is_lost(self, backend: Backend) -> None:
        held = backend.held(backend.note())
        backend.move(held, TaskState.NEW)
        again = backend.fetch()  # the same queue holds it again
        assert again is not None
        assert (again.id, again.attempt, again.pool_id) == (held.id, 2, held.pool_id)
        self._writes_nothing(backend, held)

    def test_a_run_whose_task_was_removed_is_lost(self, backend: Backend) -> None:
        held = backend.held(backend.note())
        assert backend.call(backend.queue.remove_task, held.id) == 1
        self._writes_nothing(backend, held)

    def _writes_nothing(self, backend: Backend, held: Task) -> None:
        """Checks that no outcome of the run that held the task is written."""
        now, store = backend.find(held), backend.stranger().store
        for state in (None, TaskState.FINISHED, TaskState.RETRIED, TaskState.FAILED):
            outcome = Outcome(held.id, held.attempt, state, charge=1, error_message="late")
            assert backend.call(store.complete, held.pool_id, [outcome]) == set()
        assert backend.find(held) == now

    def test_fail_task_ends_it_whatever_retries_are_left(self, backend: Backend) -> None:
        for number, task in enumerate([backend.insert(backend.note(), delay=HOUR), backend.held(backend.note())]):
            failed = backend.call(backend.queue.fail_task, task, "no\0good " + "é" * 2_000)
            assert failed == backend.row(task)
            assert (failed.state, failed.retries, failed.attempt) == (TaskState.FAILED, 0, number)
            assert failed.error_message.startswith("no␀good é")
            assert len(failed.error_message.encode()) <= 2_000
            (entry,) = failed.errors
            assert (entry["number"], entry["error"], entry["traceback"]) == (number, failed.error_message, None)
            assert entry["time"]

    def test_schedule_retry_charges_a_failure_and_says_when(self, backend: Backend) -> None:
        held = backend.held(backend.note())
        again = backend.call(backend.queue.schedule_retry, held, HOUR, "not yet")
        assert again == backend.row(held)
        assert (again.state, again.retries, again.attempt) == (TaskState.RETRIED, 1, 1)
        assert (again.pool_id, again.claimed_at, again.error_message) == (None, None, "not yet")
        assert timedelta(0) <= again.scheduled_at - held.updated_at - HOUR < timedelta(minutes=1)
        assert [(entry["number"], entry["error"]) for entry in again.errors] == [(1, "not yet")]
        assert backend.fetch() is None
        at_once = backend.held(backend.note(), task_type="at once")
        backend.call(backend.queue.schedule_retry, at_once, timedelta(0), "again")
        assert backend.fetch("at once").attempt == 2  # type: ignore[union-attr]

    def test_only_a_task_in_progress_is_scheduled_for_a_retry(self, backend: Backend) -> None:
        for state in TaskState:
            if state is not TaskState.IN_PROGRESS:
                task = in_state(backend, state)
                with pytest.raises(UsageError, match=f"a task that is {state} cannot be made retried"):
                    backend.call(backend.queue.schedule_retry, task, HOUR, "no")
                assert backend.row(task) == task

    def test_fetch_takes_the_first_due_task_of_any_kind(self, backend: Backend) -> None:
        """Checks the order, by priority and then by due time, and that the caller ends each task."""
        late = backend.insert(backend.note(n=1), priority=1)
        first = backend.insert(backend.note(n=2), priority=-1)
        foreign = backend.insert(backend.foreign_note(n=3))
        second = backend.insert(backend.note(n=4))
        oldest = backend.insert(backend.note(n=5), scheduled_at=second.scheduled_at - HOUR)
        backend.insert(backend.note(n=6), delay=HOUR)
        backend.insert(backend.note(n=7), task_type="other")
        for expected in (first, oldest, foreign, second, late):
            held = backend.fetch()
            assert held is not None
            assert held == backend.row(expected)
            assert (held.id, held.state, held.attempt) == (expected.id, TaskState.IN_PROGRESS, 1)
            assert held.pool_id is not None
            assert held.claimed_at is not None
            assert backend.move(held, TaskState.FINISHED).state is TaskState.FINISHED
        assert backend.fetch() is None
        assert backend.fetch("other").metadata["n"] == 7  # type: ignore[union-attr]

    def test_one_who_fetches_in_a_transaction_keeps_nobody_waiting(self, backend: Backend) -> None:
        backend.needs("transactions", "concurrent_writers")
        first, second = backend.insert(backend.note(n=1)), backend.insert(backend.note(n=2))
        with backend.rolled_back() as connection:
            held = backend.fetch("common", connection=connection)
            assert held is not None
            assert held.id == first.id
            other = backend.fetch()
            assert other is not None
            assert (other.id, other.pool_id) == (second.id, held.pool_id)
            assert backend.fetch() is None
        assert backend.row(first) == first
        assert backend.row(second) == other

    def test_what_is_held_by_hand_runs_nowhere_else(self, backend: Backend) -> None:
        held = backend.held(backend.note())
        assert backend.drain() == 0
        assert backend.row(held) == held

    def test_changes_by_hand_are_part_of_their_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        for ends in (backend.rolled_back, backend.transaction):
            tasks = [backend.insert(backend.note(n=n), delay=HOUR) for n in range(2)]
            due = backend.insert(backend.note())
            with ends() as connection:
                options: dict[str, Any] = {"connection": connection}
                changed = [
                    backend.move(tasks[0], TaskState.CANCELLED, **options),
                    backend.call(backend.queue.fail_task, tasks[1], "no", **options),
                    backend.call(
                        backend.queue.schedule_retry, backend.fetch("common", **options), HOUR, "later", **options
                    ),
                ]
                with pytest.raises(StaleTask):  # it leaves the transaction usable
                    backend.move(tasks[0], TaskState.CANCELLED, **options)
                assert [backend.row(task).state for task in (*tasks, due)] == [TaskState.NEW] * 3
            expected = [*tasks, due] if ends == backend.rolled_back else changed
            assert [backend.row(task) for task in (*tasks, due)] == expected
            backend.call(backend.queue.remove_all_tasks)
