"""Moves by hand against a concurrent change of the same row, or of its twin, held until the move waits for it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from fang_core import Runnable, TaskConfig
from fang_core.record import Task, TaskState
from fang_threaded import Queue
from tests.postgres.blocking import while_changed


class Once(Runnable):
    task_config = TaskConfig(kind="by_hand.Once", uniq=True)
    n: int = 0

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue(url, max_pool_size=16) as queue:
        yield queue


@pytest.fixture
def watcher(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


CHANGES = {
    "moved": "UPDATE fang.fang_tasks SET state = 'failed', updated_at = clock_timestamp() WHERE id = %(id)s",
    "claimed": "UPDATE fang.fang_tasks SET state = 'in_progress', attempt = attempt + 1 WHERE id = %(id)s",
    "moved and back": "UPDATE fang.fang_tasks SET updated_at = clock_timestamp() WHERE id = %(id)s",
    "removed": "DELETE FROM fang.fang_tasks WHERE id = %(id)s",
}


def moved(queue: Queue, task: Task, state: TaskState) -> Task | str:
    """The new row, or the name of the error."""
    try:
        return queue.update_task_state(task, state)
    except Exception as error:  # noqa: BLE001 - it is compared
        return type(error).__name__


@pytest.mark.parametrize("change", CHANGES)
def test_a_move_by_hand_that_waits_for_a_change_finds_the_row_stale(url: str, queue: Queue, change: str) -> None:
    task = queue.insert_tasks([Once(n=n) for n in range(300)])[150]
    result = while_changed(url, CHANGES[change], {"id": task.id}, lambda: moved(queue, task, TaskState.CANCELLED))
    assert result == "StaleTask"
    row = queue.find_task_by_id(task.id)
    assert row is None if change == "removed" else row is not None and row.state is not TaskState.CANCELLED


@pytest.mark.parametrize("change", CHANGES)
def test_a_move_by_hand_that_waits_for_what_is_rolled_back_is_made(url: str, queue: Queue, change: str) -> None:
    task = queue.insert_task(Once())
    result = while_changed(
        url, CHANGES[change], {"id": task.id}, lambda: moved(queue, task, TaskState.CANCELLED), end="ROLLBACK"
    )
    assert result == queue.find_task_by_id(task.id)
    assert result.state is TaskState.CANCELLED


def test_a_move_by_hand_keeps_what_was_edited_beside_it(url: str, queue: Queue) -> None:
    task = queue.insert_task(Once())
    edit = "UPDATE fang.fang_tasks SET priority = -2 WHERE id = %(id)s"
    result = while_changed(url, edit, {"id": task.id}, lambda: moved(queue, task, TaskState.CANCELLED))
    assert (result.state, result.priority) == (TaskState.CANCELLED, -2)


def test_a_revival_forgets_crashes_and_no_other_move_does(queue: Queue, watcher: psycopg.Connection[Any]) -> None:
    task = queue.insert_task(Once())
    watcher.execute("UPDATE fang.fang_tasks SET crashes = 2, retries = 1")
    ended = queue.update_task_state(task, TaskState.FINISHED)
    assert (ended.crashes, ended.retries) == (2, 1)
    revived = queue.update_task_state(ended, TaskState.NEW)
    assert (revived.crashes, revived.retries) == (0, 0)


@pytest.mark.parametrize(("end", "result"), [("COMMIT", "TwinExists"), ("ROLLBACK", TaskState.NEW)])
def test_of_two_revivals_of_twins_at_once_one_wins(url: str, queue: Queue, end: str, result: str) -> None:
    one, two = (queue.update_task_state(queue.insert_task(Once()), TaskState.FAILED) for _ in range(2))
    revive = "UPDATE fang.fang_tasks SET state = 'new' WHERE id = %(id)s"
    outcome = while_changed(url, revive, {"id": one.id}, lambda: moved(queue, two, TaskState.NEW), end=end)
    assert result == (outcome if isinstance(outcome, str) else outcome.state)
    assert queue.find_task_by_id(two.id) == (two if end == "COMMIT" else outcome)


def test_twins_that_many_revive_at_once(queue: Queue, watcher: psycopg.Connection[Any]) -> None:
    ended = [queue.update_task_state(queue.insert_task(Once()), TaskState.FINISHED) for _ in range(16)]
    with ThreadPoolExecutor(16) as executor:
        results = list(executor.map(lambda task: moved(queue, task, TaskState.NEW), ended))
    assert results.count("TwinExists") == 15
    live = watcher.execute("SELECT id FROM fang.fang_tasks WHERE state = 'new'").fetchall()
    assert live == [(task.id,) for task in results if isinstance(task, Task)]
