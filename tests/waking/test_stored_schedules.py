"""Schedules in the database, whose ticks pools make: they learn of each change at once, on Postgres and in memory."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest

from fang_core import RetentionMode
from fang_core.backends import ticking
from fang_core.backends.memory.state import MemoryState
from fang_core.record import TaskState
from tests.modes import GATES, Harness, ran

SECOND: Final = timedelta(seconds=1)
MakeQueue = Callable[[], Any]


@pytest.fixture(params=["postgres", "memory"])
def make_queue(request: pytest.FixtureRequest, harness: Harness) -> Iterator[MakeQueue]:
    if request.param == "memory":
        state = MemoryState()
        yield lambda: harness.memory_queue(state)
    else:
        url = request.getfixturevalue("url")
        yield lambda: harness.queue(url)
    GATES["gate"].set()
    harness.end()  # before the database goes


@pytest.fixture(autouse=True)
def reads_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticking, "READ_AGAIN_AFTER", 3_600.0)


def put(harness: Harness, queue: Any, n: int = 1, **options: Any) -> Any:
    return harness.call(queue.schedules.put, "report", harness.note(n=n), **{"every": SECOND, **options})


def pool(harness: Harness, queue: Any, **options: Any) -> Any:
    return harness.pool(queue, retention_mode=RetentionMode.KEEP_ALL, **options)


def until_ran(n: int) -> None:
    while ran() != [n]:
        pass


def rows(harness: Harness, queue: Any) -> list[Any]:
    tasks: list[Any] = harness.call(queue.tasks_of_kinds, [harness.note.__fang_options__.kind])
    return sorted(tasks, key=lambda task: task.scheduled_at)


def test_what_is_put_while_pools_sleep_ticks_once_for_all_of_them(harness: Harness, make_queue: MakeQueue) -> None:
    queues = [make_queue(), make_queue()]
    for queue in queues:
        pool(harness, queue)
    info = put(harness, queues[0], 7)
    for _ in range(3):
        assert ran() == [7]
    ticks = [(task.scheduled_at - info.anchor) / SECOND for task in rows(harness, queues[0])]
    assert all(tick >= 1 and tick.is_integer() for tick in ticks)  # a machine that stood still leaves some out
    assert len(set(ticks)) == len(ticks)


def test_a_pool_that_hears_nothing_reads_schedules_again(
    harness: Harness, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticking, "READ_AGAIN_AFTER", 0.2)
    queue = make_queue()
    pool(harness, queue, listen=False, poll=timedelta(milliseconds=50))
    put(harness, queue)
    assert ran() == [1]


def test_a_change_counts_at_once(harness: Harness, make_queue: MakeQueue) -> None:
    queue = make_queue()
    schedules = queue.schedules

    def made_since(known: set[Any]) -> set[int]:
        """The numbers in new tasks, once those of a schedule beside have run twice."""
        for _ in range(2):
            until_ran(9)
        return {task.metadata["n"] for task in rows(harness, queue) if task.id not in known}

    def ids() -> set[Any]:
        return {task.id for task in rows(harness, queue)}

    pool(harness, queue)
    harness.call(schedules.put, "beside", harness.note(n=9), every=SECOND)
    put(harness, queue, 1)
    until_ran(1)
    put(harness, queue, 2)
    known = ids()
    until_ran(2)
    assert made_since(known) == {2, 9}
    harness.call(schedules.pause, "report")
    assert made_since(ids()) == {9}
    harness.call(schedules.resume, "report")
    until_ran(2)
    assert harness.call(schedules.remove, "report")
    assert made_since(ids()) == {9}


def test_the_next_run_waits_for_the_end_of_the_last(harness: Harness, make_queue: MakeQueue) -> None:
    queue = make_queue()
    GATES["gate"] = threading.Event()
    pool(harness, queue, number_of_workers=3)
    harness.call(queue.schedules.put, "report", harness.note(n=1, waits=True), every=SECOND, overlap="queue_one")
    assert ran() == [1]
    harness.call(queue.schedules.put, "beside", harness.note(n=2), every=SECOND)
    for _ in range(3):
        assert ran() == [2]
    assert [task.state for task in rows(harness, queue) if task.metadata["n"] == 1] == [TaskState.IN_PROGRESS]
    harness.call(queue.schedules.remove, "beside")
    GATES["gate"].set()
    until_ran(1)
