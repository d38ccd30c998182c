"""A task that was claimed in time, and expires before a worker takes it, does not run."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from fang_core import Events, RetentionMode, TaskState
from fang_core.backends.memory.state import MemoryState
from fang_core.claims.expiry import ClaimTime
from tests.modes import HOUR, Harness, eventually, ran
from tests.patience import PATIENT


class Told(Events):
    def __init__(self) -> None:
        self.started: list[Any] = []
        self.expired: list[Any] = []
        self.told = threading.Event()

    def run_started(self, task: Any) -> None:
        self.started.append(task.id)

    def task_expired(self, task: Any) -> None:
        self.expired.append(task.id)
        self.told.set()


def test_what_expires_in_line_does_not_run(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if all of the time until then passed while the task waited for a worker.
    monkeypatch.setattr(ClaimTime, "on_monotonic_clock", lambda claimed, at: time.monotonic())
    state, told = MemoryState(), Told()
    queue = harness.memory_queue(state)
    late = harness.call(queue.insert_task, harness.note(n=1), expires=timedelta(hours=1))
    harness.pool(queue, events=[told], retention_mode=RetentionMode.KEEP_ALL)
    assert told.told.wait(PATIENT)
    harness.call(queue.insert_task, harness.note(n=2))
    assert ran() == [2]  # the worker goes on
    eventually(lambda: late.id in state.tasks and state.tasks[late.id].state is TaskState.CANCELLED)
    assert (state.tasks[late.id].error_message, told.expired) == ("expired", [late.id])
    assert late.id not in told.started


def test_a_drain_does_not_count_it_as_run(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClaimTime, "on_monotonic_clock", lambda claimed, at: time.monotonic())
    queue = harness.memory_queue(MemoryState())
    pool = harness.pool(queue, number_of_workers=4)
    harness.call(pool.stop)
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(50)], expires=HOUR)
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(50)])
    assert harness.call(pool.drain) == 50
    stats = pool.stats()
    assert (stats.claimed, stats.started, stats.ended, stats.given_back) == (100, 50, 50, 50)


def test_a_pool_of_many_workers_leaves_none_behind(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClaimTime, "on_monotonic_clock", lambda claimed, at: time.monotonic())
    state = MemoryState()
    queue = harness.memory_queue(state)
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(50)], expires=HOUR)
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(50)])
    harness.pool(queue, number_of_workers=4)
    assert ran(50) == list(range(50))
    eventually(lambda: {task.state for task in state.tasks.values()} == {TaskState.CANCELLED})
    assert len(state.tasks) == 50
