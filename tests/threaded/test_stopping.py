"""A claim that comes back after its pool gave up waiting for it."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from fang_core import MemoryQueue, TaskState
from fang_core.backends.claims import Claim, ClaimRequest
from fang_core.backends.memory.state import MemoryState
from fang_core.crashes import SUSPECT_AFTER
from fang_threaded import Runnable, WorkerPool
from fang_threaded.workers import ThreadWorkers
from tests.modes import eventually
from tests.patience import PATIENT


class Straggler(Runnable):
    def run(self, queue: Any) -> None:
        raise AssertionError("nobody runs it")


class Passing(Runnable):
    def run(self, queue: Any) -> None: ...


@pytest.mark.parametrize("crashes", [0, SUSPECT_AFTER])
def test_what_is_claimed_too_late_is_given_back(crashes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    claiming, gave_up, handed_out = threading.Event(), threading.Event(), threading.Event()

    class Slow(MemoryState):
        def claim(self, request: ClaimRequest) -> Claim:
            claiming.set()
            assert gave_up.wait(PATIENT)
            return super().claim(request)

    state = Slow()
    queue = MemoryQueue(state=state)
    task = queue.insert_task(Straggler())
    state.tasks[task.id] = state.tasks[task.id]._replace(crashes=crashes, group_limit=1)
    pool = WorkerPool(queue, grace_period=timedelta(0))
    pool.start()
    assert claiming.wait(PATIENT)
    lifetime = pool._lifetime
    stop, hand_out, flush = lifetime.workers.stop, lifetime.dispatch.hand_out, lifetime.completer.flush

    async def stops(deadline: float) -> int:
        gave_up.set()
        return await stop(deadline)

    def hands_out(*claimed: Any, **may_wait: bool) -> None:
        hand_out(*claimed, **may_wait)
        handed_out.set()

    async def flushes(within: float) -> None:
        assert handed_out.wait(PATIENT)
        await flush(within)

    monkeypatch.setattr(lifetime.workers, "stop", stops)
    monkeypatch.setattr(lifetime.dispatch, "hand_out", hands_out)
    monkeypatch.setattr(lifetime.completer, "flush", flushes)
    assert pool.stop() == 0
    left = state.tasks[task.id]
    assert (left.pool_id, left.crashes) == (None, crashes)
    assert left.state in (TaskState.NEW, TaskState.RETRIED)


class Refusing:
    """Has threads of this name not start, from some moment on: the process has as many as it may."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.prefix = "fang-nothing"
        start = threading.Thread.start

        def starts(thread: threading.Thread) -> None:
            if thread.name.startswith(self.prefix):
                raise RuntimeError("can't start new thread")
            start(thread)

        patch.setattr(threading.Thread, "start", starts)


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fang-")]


@pytest.mark.parametrize("name", ["fang-worker-2", "fang-completer", "fang-ticker", "fang-claimer"])
def test_a_pool_starts_with_all_of_its_threads_or_with_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(monkeypatch)
    queue = MemoryQueue(state=MemoryState())
    pool = WorkerPool(queue, number_of_workers=3)
    refusing.prefix = name
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.start()
    eventually(lambda: not ours())

    refusing.prefix = "fang-nothing"
    queue.insert_task(Passing())
    assert pool.drain() == 1


def test_a_pool_goes_on_with_fewer_workers_where_none_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(monkeypatch)
    queue = MemoryQueue(state=MemoryState())
    with WorkerPool(queue, number_of_workers=2) as pool:
        refusing.prefix = "fang-worker"
        assert pool._lifetime is not None
        workers = pool._lifetime.workers
        assert isinstance(workers, ThreadWorkers)
        first, second = workers._by_number().values()
        workers._waiting.put("no run")  # type: ignore[arg-type]
        eventually(lambda: sum(worker.thread.is_alive() for worker in (first, second)) == 1)
        queue.insert_task(Passing())
        assert pool.drain() == 1


def test_a_thread_without_a_run_that_ends_late_is_not_taken_for_a_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a busy machine, or of thousands, not all end within the grace period, and they hold no task."""
    wake = ThreadWorkers._wake_idle
    late: list[tuple[ThreadWorkers, int]] = []
    monkeypatch.setattr(ThreadWorkers, "_wake_idle", lambda *given: late.append(given))
    pool = WorkerPool(MemoryQueue(), number_of_workers=3, grace_period=timedelta(0))
    pool.start()
    try:
        assert pool.stop() == 0
        assert pool.is_clean
        assert [line for line in caplog.messages if "not ended" in line] == []
    finally:
        wake(*late[0])
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-worker-")])
