"""Tests what outcomes write, and that only the holder of a task writes them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

import pytest

from fang_core.conformance.backend import Backend
from fang_core.conformance.clients import Client
from fang_core.conformance.store.claims import ids
from fang_core.errors import RowsLocked
from fang_core.lifecycle import Outcome
from fang_core.record import ClaimedTask, TaskState

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)

ALL_STATES: Final = (None, *(state for state in TaskState if state is not TaskState.IN_PROGRESS))
"""The states that an outcome may lead to; None removes the row."""


def entry(number: int) -> str:
    """Returns an entry of the error history."""
    return json.dumps({"number": number, "error": f"no {number}", "traceback": None})


class CompletionSuite:
    """Tests ``Store.complete``."""

    def test_an_outcome_frees_the_row_and_writes_what_it_says_and_nothing_else(self, backend: Backend) -> None:
        client = backend.client()
        for state, waits in product(ALL_STATES, (True, False)):
            inserted = backend.insert(backend.note())
            (task,) = client.claim()
            before = backend.row(inserted)
            assert client.complete(Outcome(task.id, 1, state), waits=waits) == {task.id}
            after = backend.find(inserted)
            if state is None:
                assert after is None
                continue
            assert after is not None
            assert before.updated_at <= after.updated_at
            assert after == before._replace(state=state, pool_id=None, claimed_at=None, updated_at=after.updated_at)
            backend.call(backend.queue.remove_all_tasks)

    def test_a_failure_is_written_down_and_says_when_it_is_tried_again(self, backend: Backend) -> None:
        inserted = backend.insert(backend.note(), scheduled_at=datetime.now(UTC) - HOUR)
        client = backend.client()
        (task,) = client.claim()
        failed: dict[str, Any] = {"charge": 1, "error_message": "no 1", "error_entry": entry(1)}
        assert client.end(task, TaskState.RETRIED, delay=HOUR, **failed)
        row = backend.row(inserted)
        assert (row.state, row.retries, row.crashes, row.error_message) == (TaskState.RETRIED, 1, 0, "no 1")
        assert timedelta(0) <= row.scheduled_at - row.updated_at - HOUR + MINUTE < 2 * MINUTE  # from now
        assert [(each["number"], each["error"], each["traceback"]) for each in row.errors] == [(1, "no 1", None)]
        assert row.errors[0]["time"]
        assert client.claim() == []

    def test_what_an_outcome_does_not_name_stays(self, backend: Backend) -> None:
        inserted = backend.insert(backend.note())
        client = backend.client()
        for number in range(1, 13):
            (task,) = client.claim()
            message = f"no {number}"
            assert client.end(task, TaskState.RETRIED, charge=1, error_message=message, error_entry=entry(number))
        assert [each["number"] for each in backend.row(inserted).errors] == list(range(3, 13))  # the last ten
        (task,) = client.claim()
        assert client.end(task, TaskState.RETRIED)
        row = backend.row(inserted)
        assert (row.retries, row.error_message, len(row.errors)) == (12, "no 12", 10)
        assert row.scheduled_at == inserted.scheduled_at

    def test_crashes_are_forgotten_when_the_outcome_says_so_and_only_then(self, backend: Backend) -> None:
        crashed = backend.crashed(1)
        client = backend.client()
        for fields in ({}, {"charge": 1, "error_message": "no", "error_entry": entry(1)}):
            (task,) = client.claim()
            assert client.end(task, TaskState.RETRIED, **fields)
            assert backend.row(crashed).crashes == 1
        (task,) = client.claim()
        assert client.end(task, TaskState.RETRIED, delay=timedelta(0), forgets_crashes=True)
        assert backend.row(crashed).crashes == 0
        assert client.claim()[0].crashes == 0

    def test_a_crash_is_charged_when_the_outcome_says_so_and_only_then(self, backend: Backend) -> None:
        inserted = backend.insert(backend.note())
        client = backend.client()
        for charges, crashes in ((True, 1), (False, 1), (True, 2)):
            (task,) = client.claim()
            assert client.end(task, TaskState.RETRIED, delay=timedelta(0), charges_crash=charges)
            assert backend.row(inserted).crashes == crashes
        assert client.claim()[0].crashes == 2

    def test_only_the_holder_of_the_attempt_writes(self, backend: Backend) -> None:
        """Tries another pool, an earlier attempt of the same pool, and a second outcome of the same attempt."""
        backend.insert(backend.note())
        holder, other = backend.client(), backend.client()
        (task,) = holder.claim()
        self._late_outcomes_write_nothing(backend, other, task, attempts=[1])
        assert holder.end(task, TaskState.NEW)  # it gives the task back
        self._late_outcomes_write_nothing(backend, holder, task, attempts=[1])
        assert [(again.id, again.attempt) for again in holder.claim()] == [(task.id, 2)]
        self._late_outcomes_write_nothing(backend, holder, task, attempts=[1, 3])
        assert holder.complete(Outcome(task.id, 2, TaskState.NEW)) == {task.id}
        assert len(other.claim()) == 1
        self._late_outcomes_write_nothing(backend, holder, task, attempts=[1, 2, 3])

    def _late_outcomes_write_nothing(
        self, backend: Backend, client: Client, task: ClaimedTask, *, attempts: Sequence[int]
    ) -> None:
        row = backend.row(task)
        for state, attempt in product(ALL_STATES, attempts):
            late = Outcome(task.id, attempt, state, HOUR, 1, "late", entry(attempt))
            assert client.complete(late) == set()
        assert backend.row(task) == row

    def test_a_task_in_a_callers_transaction_holds_up_no_other_outcome(self, backend: Backend) -> None:
        backend.needs("transactions", "concurrent_writers")
        client = backend.client()
        backend.insert_many([backend.note(n=n) for n in range(2)])
        locked, free = client.claim()
        outcomes = [Outcome(task.id, task.attempt, TaskState.FINISHED) for task in (locked, free)]
        with backend.rolled_back() as connection:
            backend.move(backend.row(locked), TaskState.CANCELLED, connection=connection)
            with pytest.raises(RowsLocked) as raised:
                client.complete(*outcomes, waits=False)
            assert [set(raised.value.written), set(raised.value.locked)] == [{free.id}, {locked.id}]
            assert backend.row(free).state is TaskState.FINISHED
        assert client.complete(*outcomes, waits=False) == {locked.id}

    def test_of_a_batch_those_are_written_that_are_held_and_these_are_told(self, backend: Backend) -> None:
        backend.insert_many([backend.note(n=n) for n in range(10)])
        holder, other = backend.client(), backend.client()
        mine, others = holder.claim(6), other.claim()
        removed = backend.row(mine[0])
        backend.call(backend.queue.remove_task, removed.id)
        outcomes = [
            Outcome(task.id, task.attempt, ALL_STATES[n % len(ALL_STATES)]) for n, task in enumerate((*others, *mine))
        ]
        assert holder.complete() == set()
        assert holder.complete(*outcomes) == set(ids(mine[1:]))
        assert {backend.row(task).pool_id for task in others} == {other.id}
        assert holder.complete(*outcomes) == set()
