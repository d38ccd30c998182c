"""On which thread, and in which event loop, each hook of ``Events`` is called."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any
from uuid import UUID, uuid4

import pytest

from fang_core.backends.memory.state import MemoryState
from fang_core.backends.memory.store import MemoryStore
from fang_core.backends.pools import Rescued
from fang_core.errors import NotConnected, NotInRun
from fang_core.events import Events
from fang_core.liveness import DECLARED_DEAD, Beat, BeatRequest, Pulse
from fang_core.record import TaskState
from fang_core.runs.run import current_run
from fang_core.tasks.insertion import NewTask
from tests.modes import GATES, Harness, eventually, ran
from tests.patience import PATIENT

HOOKS = [name for name in vars(Events) if not name.startswith("_")]
SHOWN_ELSEWHERE = {"run_stuck", "loop_blocked"}
DEAD = Pulse(uuid4(), DECLARED_DEAD, True, False, 60.0)
THREADS = {
    "pool_started": "test-call",
    "pool_stopped": "test-call",
    "tasks_claimed": "fang-claimer",
    "run_started": "fang-worker-0",
    "run_ended": "fang-worker-0",
    "task_expired": "fang-claimer",
    "task_cancelled": "fang-claimer",
    "outcomes_written": "fang-completer",
    "task_lost": "fang-completer",
    "task_rescued": "fang-heartbeat",
    "pool_declared_dead": "fang-claimer",
    "worker_replaced": "fang-worker-0",
    "run_hung": "fang-heartbeat",
    "backend_failed": "fang-heartbeat",
}


class Recorder(Events):
    """Keeps where each hook was called: the thread's name, and the running loop."""

    def __init__(self) -> None:
        self.called: SimpleQueue[str] = SimpleQueue()
        self.where: dict[str, tuple[str, Any]] = {}

    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__(name) if name not in HOOKS else lambda *_: self.note(name)

    def note(self, hook: str) -> None:
        with pytest.raises(NotInRun):
            current_run()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        self.where[hook] = (threading.current_thread().name, loop)
        self.called.put(hook)

    def wait_for(self, hook: str) -> None:
        while self.called.get(timeout=PATIENT) != hook:
            pass


class Heart:
    """Beats as it is told; it has a dead pool to rescue from once."""

    def __init__(self) -> None:
        self.answers: SimpleQueue[Beat | Exception] = SimpleQueue()

    async def beat(self, request: BeatRequest, /) -> Beat:
        answer = Beat(True, 1e6, []) if self.answers.empty() else self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        return [Rescued(uuid4(), "Kind", 1, 1, TaskState.RETRIED, False, True)]

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        return []

    async def close(self) -> None: ...


@pytest.fixture
def heart(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Heart:
    """That of the memory backend, which has none."""
    heart = Heart()
    monkeypatch.setattr(MemoryStore, "heart", lambda *_: heart)
    monkeypatch.setattr("fang_core.pool.heartbeat.EVERY", 0.02)
    return heart


def test_each_hook(harness: Harness, heart: Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    queue = harness.memory_queue(MemoryState())
    pool = harness.pool(queue, events=[recorder], warn_after=timedelta(seconds=0.5))
    harness.call(queue.insert_task, harness.note(waits=True))
    recorder.wait_for("run_hung")
    GATES["gate"].set()
    recorder.wait_for("outcomes_written")
    harness.call(queue.insert_task, harness.note(), expires=datetime(2026, 1, 1, tzinfo=UTC))
    recorder.wait_for("task_expired")
    inserted = NewTask.inserted
    with monkeypatch.context() as patch:  # as if a pool had given it back
        patch.setattr(NewTask, "inserted", lambda *args: inserted(*args)._replace(cancel_request={"reason": "no"}))
        harness.call(queue.insert_task, harness.note())
    recorder.wait_for("task_cancelled")

    with monkeypatch.context() as patch:

        async def loses(*args: Any, **kwargs: Any) -> set[UUID]:
            return set()

        patch.setattr(MemoryStore, "complete", loses)
        harness.call(queue.insert_task, harness.note())
        recorder.wait_for("task_lost")

    heart.answers.put(Beat(True, 1e6, [DEAD]))
    recorder.wait_for("task_rescued")
    heart.answers.put(NotConnected("the database does not answer"))
    recorder.wait_for("backend_failed")
    heart.answers.put(Beat(False, 1e6, []))
    recorder.wait_for("pool_declared_dead")

    def fails(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("fang_core.runs.execution.decode", fails)
        patch.setattr("fang_core.runs.execution.result_of", fails)
        harness.call(queue.insert_task, harness.note())
        recorder.wait_for("worker_replaced")
    harness.stop(pool)
    for hook in SHOWN_ELSEWHERE:
        recorder.where.pop(hook, None)

    if harness.mode == "threaded":
        assert recorder.where == {hook: (thread, None) for hook, thread in THREADS.items()}
    else:
        assert recorder.where == dict.fromkeys(set(HOOKS) - SHOWN_ELSEWHERE, ("test-loop", harness._loop))


@pytest.mark.parametrize("harness", ["async"], indirect=True)
def test_what_the_heart_sees_while_a_run_blocks_the_loop_is_logged_at_once_and_told_afterwards(
    harness: Harness, heart: Heart, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    queue = harness.memory_queue(MemoryState())
    harness.pool(queue, events=[recorder])
    monkeypatch.setattr("asyncio.to_thread", blocks)
    harness.call(queue.insert_task, harness.note(waits=True))
    ran()
    heart.answers.put(NotConnected("the database does not answer"))
    eventually(lambda: "tries again: the database does not answer" in caplog.text)
    assert "backend_failed" not in recorder.where
    GATES["gate"].set()
    recorder.wait_for("backend_failed")
    assert recorder.where["backend_failed"] == ("test-loop", harness._loop)


async def blocks(function: Any) -> None:
    function()
