"""Each run stands alone, and stop() is graceful; over the memory backend."""

import threading
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from fang_core import Constant, Events, MemoryQueue, Runnable, TaskConfig, TaskState, UsageError, current_run
from fang_core.driving import drive
from fang_core.pool.claimer import Claimer
from fang_threaded import WorkerPool
from tests.modes import eventually
from tests.patience import PATIENT

LEAK: ContextVar[str] = ContextVar("leak", default="clean")
SEEN: list[Any] = []
GATE: dict[str, threading.Event] = {}
ONCE = TaskConfig(max_retries=0, backoff=Constant(delay=timedelta(0)))


class SyncLeaky(Runnable):
    def run(self, queue: Any) -> None:
        SEEN.append((LEAK.get(), current_run().task.kind))
        LEAK.set("dirty")


class SyncRaises(Runnable):
    task_config = ONCE
    what: str

    def run(self, queue: Any) -> None:
        raise {
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "generator": GeneratorExit(),
            "stop": StopIteration(),
            "group": BaseExceptionGroup("g", [SystemExit()]),
        }[self.what]


class SyncWaits(Runnable):
    task_config = ONCE

    def run(self, queue: Any) -> None:
        GATE["started"].set()
        GATE["open"].wait()


class Replaced(Events):
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.failing = True

    def worker_replaced(self, pool_id: Any, reason: str) -> None:
        self.reasons.append(reason)


def test_context_variables_do_not_leak_into_the_next_run() -> None:
    SEEN.clear()
    queue = MemoryQueue()
    queue.insert_tasks([SyncLeaky() for _ in range(3)])
    assert WorkerPool(queue).drain() == 3
    assert SEEN == [("clean", "SyncLeaky")] * 3


def test_every_exception_is_an_outcome() -> None:
    queue = MemoryQueue()
    queue.insert_tasks([SyncRaises(what=what) for what in ["exit", "interrupt", "generator", "stop", "group"]])
    assert WorkerPool(queue).drain() == 5
    assert {task.state for task in queue.tasks} == {TaskState.FAILED}


def test_a_worker_that_fails_beside_its_run_is_replaced_and_the_task_is_not_lost(monkeypatch: Any) -> None:
    events, queue = Replaced(), MemoryQueue()
    queue.insert_tasks([SyncLeaky() for _ in range(3)], max_retries=0)
    pool = WorkerPool(queue, events=[events])
    feed, failed = Claimer.on_taken, threading.Event()

    def fail_once(claimer: Claimer, waiting: int) -> None:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        feed(claimer, waiting)

    monkeypatch.setattr(Claimer, "on_taken", fail_once)
    assert pool.drain() == 3
    assert events.reasons == ["MemoryError"]
    assert queue.tasks == []


def test_a_successor_that_fails_before_the_start_of_its_thread_has_returned_is_replaced_too(monkeypatch: Any) -> None:
    events, queue = Replaced(), MemoryQueue()
    queue.insert_task(SyncLeaky())
    feed, start = Claimer.on_taken, threading.Thread.start
    fed, started = [], []

    def fail_twice(claimer: Claimer, waiting: int) -> None:
        fed.append(waiting)
        if len(fed) <= 2:
            raise MemoryError
        feed(claimer, waiting)

    def start_slowly(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "fang-worker-0":
            started.append(thread)
            if len(started) == 2:
                thread.join()

    monkeypatch.setattr(Claimer, "on_taken", fail_twice)
    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    assert WorkerPool(queue, events=[events]).drain() == 1
    eventually(lambda: events.reasons == 2 * ["MemoryError"])  # told when their successors run already


def test_stop_waits_gives_back_what_was_not_started_and_says_what_is_left() -> None:
    GATE.update(started=threading.Event(), open=threading.Event())
    queue = MemoryQueue()
    queue.insert_tasks([SyncWaits() for _ in range(5)])
    pool = WorkerPool(queue, grace_period=timedelta(milliseconds=50))
    pool.start()
    with pytest.raises(UsageError, match="running"):
        pool.start()
    assert GATE["started"].wait(PATIENT)
    assert pool.stop() == 1
    states = sorted(task.state for task in queue.tasks)
    assert states == [TaskState.IN_PROGRESS] + [TaskState.NEW] * 4
    assert len(queue.state.pools) == 1  # it goes on holding its row
    GATE["open"].set()
    drive(pool._lifetime.workers.join())


def test_a_pool_can_be_started_again() -> None:
    queue = MemoryQueue()
    pool = WorkerPool(queue)
    for _ in range(2):
        queue.insert_task(SyncLeaky())
        assert pool.drain() == 1


def test_a_drain_counts_a_run_whose_end_is_still_being_told() -> None:
    told = threading.Event()

    class Slow(Events):
        def run_ended(self, *_: Any) -> None:
            told.wait(PATIENT)

    queue = MemoryQueue()
    queue.insert_task(SyncLeaky())
    pool = WorkerPool(queue, number_of_workers=2, grace_period=timedelta(0), events=[Slow()])
    assert pool.drain() == 1
    told.set()
    drive(pool._lifetime.workers.join())
