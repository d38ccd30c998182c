"""On which thread, and in which event loop, each hook of ``Events`` is called."""

import asyncio
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any
from uuid import UUID, uuid4

import pytest

from fang_core.errors import NotConnected, NotInRun
from fang_core.events import Events
from fang_core.liveness import DECLARED_DEAD, Beat, Pulse
from fang_core.memory import AsyncMemoryStore, MemoryStore
from fang_core.memory_state import MemoryState
from fang_core.record import TaskState
from fang_core.run import current_run
from fang_core.store import Rescued
from tests.modes import GATES, Side, eventually, ran

HOOKS = [name for name in vars(Events) if not name.startswith("_")]
DEAD = Pulse(uuid4(), DECLARED_DEAD, True, False, 60.0)
THREADS = {
    "pool_started": "test-call",
    "pool_stopped": "test-call",
    "tasks_claimed": "fang-claimer",
    "run_started": "fang-worker-0",
    "run_ended": "fang-worker-0",
    "outcomes_written": "fang-completer",
    "task_lost": "fang-completer",
    "task_rescued": "fang-heartbeat",
    "pool_declared_dead": "fang-claimer",
    "worker_replaced": "fang-worker-0",
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
        while self.called.get(timeout=20) != hook:
            pass


class Heart:
    """Beats as it is told; it has a dead pool to rescue from once."""

    def __init__(self) -> None:
        self.answers: SimpleQueue[Beat | Exception] = SimpleQueue()

    def beat(self, pool_id: UUID, stopping: bool, /) -> Beat:
        answer = Beat(True, 1e6, []) if self.answers.empty() else self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        return [Rescued(uuid4(), "Kind", 1, 1, TaskState.RETRIED, False, True)]

    def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        return []

    def close(self) -> None: ...


class AsyncHeart:
    def __init__(self, heart: Heart) -> None:
        self._heart = heart

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            return getattr(self._heart, name)(*args)

        return call


@pytest.fixture
def heart(side: Side, monkeypatch: pytest.MonkeyPatch) -> Heart:
    """That of the memory backend, which has none."""
    heart = Heart()
    store, made = (MemoryStore, heart) if side.mode == "threaded" else (AsyncMemoryStore, AsyncHeart(heart))
    monkeypatch.setattr(store, "heart", lambda *_: made)
    monkeypatch.setattr(f"fang_{side.mode}.heartbeat.EVERY", 0.02)
    return heart


def test_each_hook(side: Side, heart: Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    queue = side.memory_queue(MemoryState())
    pool = side.pool(queue, events=[recorder])
    side.call(queue.insert_task, side.note())
    recorder.wait_for("outcomes_written")

    store: Any = MemoryStore if side.mode == "threaded" else AsyncMemoryStore
    with monkeypatch.context() as patch:

        def loses(*args: Any, **kwargs: Any) -> set[UUID]:
            return set()

        async def loses_async(*args: Any, **kwargs: Any) -> set[UUID]:
            return set()

        patch.setattr(store, "complete", loses if side.mode == "threaded" else loses_async)
        side.call(queue.insert_task, side.note())
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
        patch.setattr(f"fang_{side.mode}.worker.decode", fails)
        patch.setattr(f"fang_{side.mode}.worker.result_of", fails)
        side.call(queue.insert_task, side.note())
        recorder.wait_for("worker_replaced")
    side.stop(pool)

    if side.mode == "threaded":
        assert recorder.where == {hook: (thread, None) for hook, thread in THREADS.items()}
    else:
        assert recorder.where == dict.fromkeys(HOOKS, ("test-loop", side._loop))


@pytest.mark.parametrize("side", ["async"], indirect=True)
def test_what_the_heart_sees_while_a_run_blocks_the_loop_is_logged_at_once_and_told_afterwards(
    side: Side, heart: Heart, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    queue = side.memory_queue(MemoryState())
    side.pool(queue, events=[recorder])
    monkeypatch.setattr("asyncio.to_thread", blocks)
    side.call(queue.insert_task, side.note(waits=True))
    ran()
    heart.answers.put(NotConnected("the database does not answer"))
    eventually(lambda: "tries again: the database does not answer" in caplog.text)
    assert "backend_failed" not in recorder.where
    GATES["gate"].set()
    recorder.wait_for("backend_failed")
    assert recorder.where["backend_failed"] == ("test-loop", side._loop)


async def blocks(function: Any) -> None:
    function()
