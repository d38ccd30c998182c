"""What a pool counts, and how it changes its size while it works, in both modes."""

import asyncio
import random
import threading
import time
from typing import Any, Final

import pytest

from fang_core import AsyncRunnable, PoolStats, Resize, Runnable, TaskConfig, UsageError
from fang_core.backends.memory.state import MemoryState
from fang_core.runs import execution
from tests.modes import RAN, Harness, eventually, harness_of, ran
from tests.patience import PATIENT

OPEN: Final[set[int]] = set()
"""The runs that may end."""
CHANGED: Final = threading.Condition()


def may_end(*numbers: int) -> None:
    with CHANGED:
        OPEN.update(numbers)
        CHANGED.notify_all()


def wait_for(number: int) -> None:
    RAN.put(number)
    with CHANGED:
        CHANGED.wait_for(lambda: number in OPEN, PATIENT)


class ThreadedHeld(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedHeld")
    n: int

    def run(self, queue: Any) -> None:
        wait_for(self.n)


class AsyncHeld(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncHeld")
    n: int

    async def run(self, queue: Any) -> None:
        await asyncio.to_thread(wait_for, self.n)


class Bench:
    """A pool over memory, and tasks that run until they may end."""

    def __init__(self, harness: Harness, workers: int) -> None:
        OPEN.clear()
        self.harness = harness
        self.queue = harness.memory_queue(MemoryState())
        self.pool = harness.pool(self.queue, number_of_workers=workers)
        self.held: Any = ThreadedHeld if harness.mode == "threaded" else AsyncHeld

    def insert(self, *numbers: int) -> None:
        self.harness.call(self.queue.insert_tasks, [self.held(n=n) for n in numbers])

    def resize(self, workers: int) -> None:
        self.harness.call(self.pool.resize, workers)

    @property
    def stats(self) -> PoolStats:
        stats: PoolStats = self.pool.stats()
        return stats

    @property
    def recorded(self) -> int:
        (pool,) = self.harness.call(self.queue.pools)
        return int(pool.workers)

    @property
    def at_work(self) -> int:
        """The workers that there are."""
        return len(self.pool._lifetime.workers._by_number())


@pytest.fixture(autouse=True)
def _all_end(harness: Harness) -> Any:
    yield
    may_end(*range(10_000))
    harness.end()


# Stats ----------------------------------------------------------------------------------------------------------------


def test_a_pool_that_was_not_started_counts_nothing(harness: Harness) -> None:
    bench = Bench(harness, 3)
    pool = type(bench.pool)(bench.queue, number_of_workers=7)
    assert pool.stats() == PoolStats(workers=7)


def test_what_runs_and_waits_is_counted_by_kind_and_what_has_ended_too(harness: Harness) -> None:
    bench = Bench(harness, 2)
    bench.insert(1, 2)
    assert ran(2) == [1, 2]
    kind = bench.held.__fang_options__.kind
    stats = bench.stats
    assert (stats.running, stats.waiting, stats.unwritten, stats.stuck, stats.workers) == (2, 0, 0, 0, 2)
    assert dict(stats.by_kind) == {kind: (2, 0)}
    assert (stats.claimed, stats.started, stats.ended, stats.given_back) == (2, 2, 0, 0)
    assert stats.claims >= 1
    may_end(1)
    eventually(lambda: (bench.stats.running, bench.stats.ended, bench.stats.unwritten) == (1, 1, 0))
    harness.call(bench.queue.insert_task, harness.note(n=5))
    assert ran() == [5]
    may_end(2)
    eventually(lambda: (bench.stats.running, bench.stats.started, bench.stats.ended) == (0, 3, 3))
    assert dict(bench.stats.by_kind) == {}
    harness.stop(bench.pool)
    assert (bench.stats.started, bench.stats.ended) == (3, 3)


def test_tasks_that_wait_for_a_worker_are_counted(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(harness, 1)
    bench.insert(1)
    assert ran() == [1]
    lifetime = bench.pool._lifetime
    monkeypatch.setattr(lifetime.dispatch, "wanted", lambda now: 2)
    monkeypatch.setattr(lifetime.dispatch, "overdue", lambda now: type("", (), {"tasks": ()}))
    bench.insert(2, 3)
    harness.call(bench.pool.resize, 1)  # makes the claimer look
    kind = bench.held.__fang_options__.kind
    eventually(lambda: dict(bench.stats.by_kind) == {kind: (1, 2)} and bench.stats.waiting == 2)
    may_end(1, 2, 3)
    eventually(lambda: bench.stats.ended == 3)


# Resize ---------------------------------------------------------------------------------------------------------------


def test_a_larger_pool_runs_more_at_once(harness: Harness) -> None:
    bench = Bench(harness, 1)
    bench.insert(1, 2, 3, 4)
    assert len(ran(1)) == 1
    bench.resize(3)
    assert len(ran(2)) == 2
    eventually(lambda: (bench.stats.running, bench.stats.workers, bench.at_work) == (3, 3, 3))
    eventually(lambda: bench.recorded == 3)
    assert bench.pool.options.number_of_workers == 3
    may_end(1, 2, 3, 4)
    assert len(ran(1)) == 1


def test_idle_workers_of_a_smaller_pool_end_at_once_and_runs_go_on(harness: Harness) -> None:
    bench = Bench(harness, 4)
    bench.insert(1, 2)
    ran(2)
    bench.resize(2)
    eventually(lambda: bench.at_work == 2)
    assert bench.stats.running == 2
    eventually(lambda: bench.recorded == 2)
    bench.resize(1)
    assert (bench.at_work, bench.stats.running) == (2, 2)  # no run is cut short
    may_end(1)
    eventually(lambda: (bench.at_work, bench.stats.running, bench.stats.ended) == (1, 1, 1))
    bench.insert(3, 4)
    may_end(2)
    (third,) = ran(1)
    eventually(lambda: bench.stats.ended == 2)
    assert bench.stats.running == 1
    may_end(third)
    ran(1)
    may_end(3, 4)
    eventually(lambda: (bench.stats.ended, bench.stats.started) == (4, 4))


def test_a_pool_that_grows_again_keeps_the_workers_that_were_to_end(harness: Harness) -> None:
    bench = Bench(harness, 3)
    bench.insert(1, 2, 3)
    ran(3)
    bench.resize(1)
    bench.resize(4)
    may_end(1, 2, 3)
    eventually(lambda: bench.stats.ended == 3)
    bench.insert(4, 5, 6, 7)
    assert ran(4) == [4, 5, 6, 7]
    assert bench.at_work == 4


def test_the_size_is_that_of_later_starts_too(harness: Harness) -> None:
    bench = Bench(harness, 1)
    harness.call(bench.pool.stop)
    bench.resize(2)
    eventually(lambda: bench.stats.workers == 2)
    harness.call(bench.pool.start)
    bench.insert(1, 2)
    assert ran(2) == [1, 2]


def test_another_process_resizes_it(harness: Harness) -> None:
    bench = Bench(harness, 1)
    bench.insert(1, 2)
    ran(1)
    harness.call(bench.queue.control, bench.pool.id, Resize(workers=2))
    ran(1)
    eventually(lambda: bench.recorded == 2)


@pytest.mark.parametrize("workers", [0, 10_001, "3", True, 1.5])
def test_a_size_that_no_pool_can_have_is_refused(harness: Harness, workers: Any) -> None:
    bench = Bench(harness, 2)
    with pytest.raises(UsageError, match="number_of_workers must be between 1 and 10000"):
        bench.resize(workers)
    assert bench.stats.workers == 2


def test_a_thread_that_cannot_be_started_is_told_and_the_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "fang-worker-3":
            raise RuntimeError("can't start new thread")
        start(thread)

    with harness_of("threaded") as harness:
        bench = Bench(harness, 1)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match=r"3 of 6 workers could be started \(can't start new thread\)"):
            bench.resize(6)
        assert (bench.at_work, bench.stats.workers, bench.pool.options.number_of_workers) == (3, 3, 3)
        bench.insert(1, 2, 3)
        ran(3)
        monkeypatch.undo()
        bench.resize(4)
        bench.insert(4)
        assert ran() == [4]
        may_end(1, 2, 3, 4)
        eventually(lambda: bench.stats.ended == 4)
        harness.end()


class ThreadedDeadly(Runnable):
    """Takes its worker along."""

    task_config = TaskConfig(kind="tests.ThreadedDeadly", max_retries=0)

    def run(self, queue: Any) -> None: ...


def test_a_worker_that_could_not_be_replaced_is_not_counted_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    start, decode = threading.Thread.start, execution.decode
    has_room = threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("fang-worker-") and not has_room.is_set():
            raise RuntimeError("can't start new thread")
        start(thread)

    def die(cls: Any, *payload: str) -> Any:
        if cls is not ThreadedDeadly and payload:
            return decode(cls, *payload)
        raise MemoryError

    with harness_of("threaded") as harness:
        bench = Bench(harness, 2)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        monkeypatch.setattr(execution, "decode", die)
        monkeypatch.setattr(execution, "result_of", die)
        bench.insert(1)
        ran(1)
        harness.call(bench.queue.insert_tasks, [ThreadedDeadly()])
        eventually(lambda: (bench.at_work, bench.stats.workers, bench.recorded) == (1, 1, 1))
        bench.insert(2)
        may_end(1)
        assert ran() == [2]
        harness.call(bench.queue.insert_tasks, [ThreadedDeadly()])
        may_end(2)
        eventually(lambda: (bench.at_work, bench.stats.workers, bench.recorded) == (0, 0, 0))
        bench.insert(3)
        has_room.set()
        assert ran() == [3]
        eventually(lambda: (bench.at_work, bench.stats.workers, bench.recorded) == (2, 2, 2))
        may_end(3)
        eventually(lambda: bench.stats.running == 0)
        harness.end()


def test_all_tasks_run_once_while_the_size_changes_all_the_time(harness: Harness) -> None:
    bench = Bench(harness, 5)
    may_end(*range(600))
    chance = random.Random(7)
    is_over = threading.Event()

    def change() -> None:
        while not is_over.is_set():
            bench.pool.resize(chance.randint(1, 12))
            time.sleep(chance.random() / 500)

    threads = [threading.Thread(target=change) for _ in range(3)]
    for thread in threads:
        thread.start()
    for first in range(0, 600, 20):
        bench.insert(*range(first, first + 20))
    assert ran(600) == list(range(600))
    is_over.set()
    for thread in threads:
        thread.join()
    bench.resize(3)
    eventually(lambda: (bench.at_work, bench.stats.workers) == (3, 3))
    eventually(lambda: (bench.stats.ended, bench.stats.running, bench.stats.unwritten) == (600, 0, 0))
    bench.insert(1_001, 1_002, 1_003)
    assert ran(3) == [1_001, 1_002, 1_003]
    may_end(1_001, 1_002, 1_003)


def test_starts_and_stops_bear_a_size_that_changes_meanwhile(harness: Harness) -> None:
    bench = Bench(harness, 2)
    is_over = threading.Event()
    chance = random.Random(11)

    def change() -> None:
        while not is_over.wait(0.0005):  # an event loop that is called faster than it reads that does nothing else
            bench.pool.resize(chance.randint(1, 6))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for n in range(10):
            harness.call(bench.pool.stop)
            harness.call(bench.pool.start)
            may_end(n)
            bench.insert(n)
            assert ran() == [n]
    finally:
        is_over.set()
        thread.join()
    bench.resize(4)
    eventually(lambda: bench.at_work == 4)


def test_a_pool_that_was_taken_for_dead_registers_with_its_present_size(harness: Harness) -> None:
    bench = Bench(harness, 2)
    bench.resize(5)
    bench.queue.state.registry.unregister(bench.pool.id)
    harness.call(bench.queue.insert_task, harness.note(n=1))
    assert ran() == [1]
    assert bench.recorded == 5
