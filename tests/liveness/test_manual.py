"""A queue that holds tasks fetched by hand: it beats like a pool while it is open, and gives back when it closes."""

import threading
from datetime import timedelta
from typing import Any, Final

import pytest

from fang_core import TaskState
from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.pool.heartbeat import Heartbeat
from tests.modes import Database, Harness, eventually
from tests.patience import PATIENT

LEASE: Final = timedelta(seconds=3)


def manual(database: Database) -> list[Any]:
    return database.rows("SELECT id, beats FROM fang.fang_pools WHERE mode = 'manual'")


def tasks(database: Database) -> list[Any]:
    return database.rows("SELECT state::text, attempt, crashes, pool_id FROM fang.fang_tasks")


def test_what_was_fetched_stays_held_past_a_lease_and_is_given_back_when_the_queue_closes(
    harness: Harness, url: str, database: Database
) -> None:
    harness.pool(harness.queue(url), task_type="elsewhere", lease=LEASE)  # who would rescue it
    queue = harness.queue(url)
    harness.call(queue.insert_task, harness.note(n=1))
    held = harness.call(queue.fetch_and_touch_task)
    eventually(lambda: manual(database)[0][1] >= 2)  # its heart beats
    ((pool_id, beats),) = manual(database)
    eventually(lambda: manual(database)[0][1] > beats + LEASE.total_seconds())
    assert manual(database)[0][0] == pool_id
    assert tasks(database) == [("in_progress", 1, 0, held.pool_id)]

    harness.call(queue.close)
    assert tasks(database) == [("new", 1, 0, None)]
    assert manual(database) == []

    again = harness.call(queue.fetch_and_touch_task)  # which opens it again
    assert again.attempt == 2
    assert again.pool_id != pool_id
    assert harness.call(queue.update_task_state, again, TaskState.FINISHED).state is TaskState.FINISHED


def test_a_queue_is_judged_by_the_defaults(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    harness.call(queue.fetch_and_touch_task)
    said = "SELECT lease, max_crashes FROM fang.fang_pools WHERE mode = 'manual'"
    assert database.rows(said) == [(DEFAULT_LEASE, DEFAULT_MAX_CRASHES)]


def test_a_queue_that_was_declared_dead_fetches_on_under_another_id(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)
    harness.call(queue.insert_tasks, [harness.note(n=1), harness.note(n=2)])
    first = harness.call(queue.fetch_and_touch_task)
    database.execute("DELETE FROM fang.fang_pools")
    second = harness.call(queue.fetch_and_touch_task)
    assert (second.attempt, second.id == first.id, second.pool_id == first.pool_id) == (1, False, False)
    eventually(lambda: manual(database)[0][1] > 0)
    assert [pool_id for pool_id, _ in manual(database)] == [second.pool_id]


def test_a_first_fetch_that_failed_leaves_no_id_without_a_heart(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([RuntimeError("can't start new thread")])

    class Failing(Heartbeat):
        async def start(self) -> None:
            for failure in failures:
                raise failure
            await super().start()

    monkeypatch.setattr("fang_core.pool.manual.Heartbeat", Failing)
    queue = harness.queue(url)
    harness.call(queue.insert_task, harness.note(n=1))
    with pytest.raises(RuntimeError):
        harness.call(queue.fetch_and_touch_task)

    held = harness.call(queue.fetch_and_touch_task)
    eventually(lambda: dict(manual(database))[held.pool_id] >= 2)


def test_a_queue_that_is_closed_during_its_first_fetch_fetches_on_under_an_id_that_beats(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins, closed = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        begins.set()
        assert closed.wait(PATIENT)

    queue = harness.queue(url)
    with monkeypatch.context() as patch:
        harness.wrap(patch, Heartbeat, "start", before=wait)
        first = harness.begin(queue.fetch_and_touch_task)
        assert begins.wait(PATIENT)
        harness.call(queue.close)
        closed.set()
        assert first.result(PATIENT) is None
    harness.call(queue.insert_task, harness.note(n=1))
    held = harness.call(queue.fetch_and_touch_task)
    eventually(lambda: dict(manual(database))[held.pool_id] >= 2)
