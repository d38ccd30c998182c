"""A claim that comes back after its pool gave up waiting for it."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from fang_core import MemoryQueue, TaskState
from fang_core.lifecycle import SUSPECT_AFTER
from fang_core.memory_state import MemoryState
from fang_core.store import Claim, ClaimRequest
from fang_threaded import Runnable, WorkerPool


class Straggler(Runnable):
    def run(self, queue: Any) -> None:
        raise AssertionError("nobody runs it")


@pytest.mark.parametrize("crashes", [0, SUSPECT_AFTER])
def test_what_is_claimed_too_late_is_given_back(crashes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    claiming, gave_up, handed_out = threading.Event(), threading.Event(), threading.Event()

    class Slow(MemoryState):
        def claim(self, request: ClaimRequest) -> Claim:
            claiming.set()
            assert gave_up.wait(10)
            return super().claim(request)

    state = Slow()
    queue = MemoryQueue(state=state)
    task = queue.insert_task(Straggler())
    state.tasks[task.id] = state.tasks[task.id]._replace(crashes=crashes)
    pool = WorkerPool(queue, grace_period=timedelta(0))
    pool.start()
    assert claiming.wait(10)
    shift = pool._shift
    dismiss, hand_out, flush = shift.crew.dismiss, shift.supply.hand_out, shift.completer.flush

    def dismisses(deadline: float) -> int:
        gave_up.set()
        return dismiss(deadline)

    def hands_out(*claimed: Any) -> None:
        hand_out(*claimed)
        handed_out.set()

    def flushes(within: float) -> Any:
        assert handed_out.wait(10)
        return flush(within)

    monkeypatch.setattr(shift.crew, "dismiss", dismisses)
    monkeypatch.setattr(shift.supply, "hand_out", hands_out)
    monkeypatch.setattr(shift.completer, "flush", flushes)
    assert pool.stop() == 0
    left = state.tasks[task.id]
    assert (left.pool_id, left.crashes) == (None, crashes)
    assert left.state in (TaskState.NEW, TaskState.RETRIED)
