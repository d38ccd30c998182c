"""A queue that holds tasks fetched by hand: it beats like a pool while it is open, and gives back when it closes."""

from datetime import timedelta
from importlib import import_module
from typing import Any, Final

import pytest

from fang_core import TaskState
from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from tests.modes import Database, Side, eventually

LEASE: Final = timedelta(seconds=3)


def manual(database: Database) -> list[Any]:
    return database.rows("SELECT id, beats FROM fang.fang_pools WHERE mode = 'manual'")


def tasks(database: Database) -> list[Any]:
    return database.rows("SELECT state::text, attempt, crashes, pool_id FROM fang.fang_tasks")


def test_what_was_fetched_stays_held_past_a_lease_and_is_given_back_when_the_queue_closes(
    side: Side, url: str, database: Database
) -> None:
    side.pool(side.queue(url), task_type="elsewhere", lease=LEASE)  # who would rescue it
    queue = side.queue(url)
    side.call(queue.insert_task, side.note(n=1))
    held = side.call(queue.fetch_and_touch_task)
    eventually(lambda: manual(database)[0][1] >= 2)  # its heart beats
    ((pool_id, beats),) = manual(database)
    eventually(lambda: manual(database)[0][1] > beats + LEASE.total_seconds(), within=10)
    assert manual(database)[0][0] == pool_id
    assert tasks(database) == [("in_progress", 1, 0, held.pool_id)]

    side.call(queue.close)
    assert tasks(database) == [("new", 1, 0, None)]
    assert manual(database) == []

    again = side.call(queue.fetch_and_touch_task)  # which opens it again
    assert again.attempt == 2
    assert again.pool_id != pool_id
    assert side.call(queue.update_task_state, again, TaskState.FINISHED).state is TaskState.FINISHED


def test_a_queue_is_judged_by_the_defaults(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    side.call(queue.fetch_and_touch_task)
    said = "SELECT lease, max_crashes FROM fang.fang_pools WHERE mode = 'manual'"
    assert database.rows(said) == [(DEFAULT_LEASE, DEFAULT_MAX_CRASHES)]


def test_a_queue_that_was_declared_dead_fetches_on_under_another_id(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    side.call(queue.insert_tasks, [side.note(n=1), side.note(n=2)])
    first = side.call(queue.fetch_and_touch_task)
    database.execute("DELETE FROM fang.fang_pools")
    second = side.call(queue.fetch_and_touch_task)
    assert (second.attempt, second.id == first.id, second.pool_id == first.pool_id) == (1, False, False)
    eventually(lambda: manual(database)[0][1] > 0)
    assert [pool_id for pool_id, _ in manual(database)] == [second.pool_id]


def test_a_first_fetch_that_failed_leaves_no_id_without_a_heart(
    side: Side, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    manual_module = import_module(f"fang_{side.mode}.manual")
    failures = iter([RuntimeError("can't start new thread")])

    class Failing(manual_module.Heartbeat):  # type: ignore[misc, name-defined]
        def start(self) -> Any:
            for failure in failures:
                raise failure
            return super().start()

    monkeypatch.setattr(manual_module, "Heartbeat", Failing)
    queue = side.queue(url)
    side.call(queue.insert_task, side.note(n=1))
    with pytest.raises(RuntimeError):
        side.call(queue.fetch_and_touch_task)

    held = side.call(queue.fetch_and_touch_task)
    eventually(lambda: dict(manual(database))[held.pool_id] >= 2)
