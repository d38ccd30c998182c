"""``run()`` returns when somebody stops the pool: from elsewhere, from a run of its own, a hook, or its lifespan."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, Final

import pytest

from fang_async import AsyncWorkerPool
from fang_core import (
    AsyncMemoryQueue,
    AsyncRunnable,
    Events,
    RetentionMode,
    Runnable,
    TaskConfig,
    TaskState,
    UsageError,
)
from fang_core.backends.memory.state import MemoryState
from fang_threaded import WorkerPool
from tests.modes import GATES, RAN, Harness, eventually, ran
from tests.patience import PATIENT

POOLS: Final[list[Any]] = []
"""The one that tasks stop."""


class ThreadedStopper(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedStopper")

    def run(self, queue: Any) -> None:
        POOLS[0].stop()
        RAN.put(0)


class AsyncStopper(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncStopper")

    async def run(self, queue: Any) -> None:
        await POOLS[0].stop()
        RAN.put(0)


class ThreadedDeaf(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedDeaf")

    def run(self, queue: Any) -> None:
        RAN.put(1)
        GATES["gate"].wait()


class AsyncDeaf(AsyncRunnable):
    """Goes on when it is cancelled."""

    task_config = TaskConfig(kind="tests.AsyncDeaf")

    async def run(self, queue: Any) -> None:
        RAN.put(1)
        while not GATES["gate"].is_set():
            try:
                await asyncio.to_thread(GATES["gate"].wait)
            except asyncio.CancelledError:
                continue


class Started(Events):
    def __init__(self) -> None:
        self.started = threading.Event()
        self.ended = 0

    def pool_started(self, pool_id: Any) -> None:
        self.started.set()

    def run_ended(self, task: Any, result: Any, seconds: float) -> None:
        self.ended += 1


class Scene:
    """A pool in memory that ``run()`` was called on, beside the test."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.state = MemoryState()
        self.queue = harness.memory_queue(self.state)
        self.events = Started()
        self.pool: Any = None
        self.task: Any = None  # asyncio forgets tasks that nobody refers to

    def made(self, *events: Events, grace: float = 20, **options: Any) -> Any:
        make: Any = WorkerPool if self.harness.mode == "threaded" else AsyncWorkerPool
        options |= {"grace_period": timedelta(seconds=grace), "retention_mode": RetentionMode.KEEP_ALL}
        self.pool = make(self.queue, number_of_workers=2, events=[self.events, *events], **options)
        return self.pool

    def running(self, *events: Events, grace: float = 20, **options: Any) -> "Future[int]":
        running = self.harness.begin(self.made(*events, grace=grace, **options).run)
        assert self.events.started.wait(PATIENT)
        return running

    def insert(self, threaded: Any, asynchronous: Any) -> None:
        self.harness.call(self.queue.insert_task, (threaded if self.harness.mode == "threaded" else asynchronous)())

    @property
    def states(self) -> list[TaskState]:
        return [task.state for task in self.state.tasks.values()]


@pytest.fixture
def scene(harness: Harness) -> Iterator[Scene]:
    scene = Scene(harness)
    yield scene
    GATES["gate"].set()
    harness.call(scene.pool.stop)
    POOLS.clear()


def test_it_returns_when_another_stops_the_pool(scene: Scene) -> None:
    running = scene.running()
    scene.harness.call(scene.queue.insert_task, scene.harness.note(n=7))
    assert ran() == [7]
    assert scene.harness.call(scene.pool.stop) == 0
    assert running.result(PATIENT) == 0
    assert scene.state.pools == {}
    assert scene.harness.begin(scene.pool.drain).result(PATIENT) == 0  # it can be started again


def test_it_returns_where_the_pool_is_stopped_before_it_has_started(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = scene.made()
    scene.harness.wrap(monkeypatch, pool, "_start", before=lambda: scene.harness.call(pool.stop))
    assert scene.harness.begin(pool.run).result(PATIENT) == 0
    assert scene.state.pools == {}


def test_a_subclass_may_override_start_and_stop(scene: Scene) -> None:
    called: list[str] = []

    class Threaded(WorkerPool):
        def start(self) -> None:
            called.append("start")
            super().start()

        def stop(self) -> int:
            called.append("stop")
            return super().stop()

    class Asynchronous(AsyncWorkerPool):
        async def start(self) -> None:
            called.append("start")
            await super().start()

        async def stop(self) -> int:
            called.append("stop")
            return await super().stop()

    make: Any = Threaded if scene.harness.mode == "threaded" else Asynchronous
    pool = scene.pool = make(scene.queue, events=[scene.events])
    assert scene.harness.call(pool.drain) == 0
    assert called == ["start", "stop"]
    called.clear()
    scene.events.started.clear()
    running = scene.harness.begin(pool.run)
    assert scene.events.started.wait(PATIENT)
    scene.harness.call(pool.stop)
    assert running.result(PATIENT) == 0
    assert called == ["start", "stop", "stop"]


def test_it_tells_of_runs_that_another_left_and_the_process_goes_on(scene: Scene) -> None:
    running = scene.running(grace=0.2)
    scene.insert(ThreadedDeaf, AsyncDeaf)
    assert ran() == [1]
    assert scene.harness.call(scene.pool.stop) == 1
    assert running.result(PATIENT) == 75
    assert scene.states == [TaskState.IN_PROGRESS]
    assert not scene.pool.is_clean
    GATES["gate"].set()
    eventually(lambda: scene.pool.is_clean)
    assert scene.states == [TaskState.FINISHED]


def test_a_run_may_stop_its_own_pool_and_is_waited_for(scene: Scene) -> None:
    running = scene.running()
    POOLS.append(scene.pool)
    scene.insert(ThreadedStopper, AsyncStopper)
    assert running.result(PATIENT) == 0
    assert ran() == [0]
    assert scene.states == [TaskState.FINISHED]
    assert scene.state.pools == {}


class Stopping(Events):
    """Stops the pool in one of its hooks, each time that this is called."""

    def __init__(self, mode: str, hook: str) -> None:
        def stop(*_: Any) -> None:
            if mode == "threaded":
                POOLS[0].stop()
            else:
                self.stop = asyncio.get_running_loop().create_task(POOLS[0].stop())

        setattr(self, hook, stop)


@pytest.mark.parametrize(
    "hook", ["pool_started", "tasks_claimed", "run_started", "run_ended", "outcomes_written", "pool_stopped"]
)
def test_a_hook_may_stop_the_pool(scene: Scene, hook: str, caplog: pytest.LogCaptureFixture) -> None:
    POOLS.append(scene.made(Stopping(scene.harness.mode, hook)))
    scene.harness.call(scene.queue.insert_task, scene.harness.note(n=7))
    running = scene.harness.begin(scene.pool.run)
    if hook == "pool_stopped":
        assert scene.events.started.wait(PATIENT)
        assert ran() == [7]
        scene.harness.call(scene.pool.stop)
    assert running.result(PATIENT) == 0
    assert scene.state.pools == {}
    assert scene.states[0] is not TaskState.IN_PROGRESS
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_hook_may_stop_a_pool_whose_threads_inherit_contexts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of free-threaded Python do."""
    begin = threading.Thread.__init__
    stopping: list[str] = []

    def inheriting(self: threading.Thread, *, target: Any, args: Any = (), name: str, **options: Any) -> None:
        if name == "fang-stop":
            stopping.append(name)
            assert len(stopping) == 1, "each thread that stops the pool has another one stop it"
        begin(self, target=copy_context().run, args=(target, *args), name=name, **options)

    POOLS.append(scene.made(Stopping(scene.harness.mode, "pool_started")))
    monkeypatch.setattr(threading.Thread, "__init__", inheriting)
    assert scene.harness.begin(scene.pool.run).result(PATIENT) == 0
    assert scene.state.pools == {}


class Resources:
    """A lifespan that calls what it is given at its start and at its end, and keeps what these return or raise."""

    def __init__(self, mode: str, *, first: Callable[[Any], Any] | None = None, last: Any = None) -> None:
        self.mode, self.first, self.last = mode, first, last
        self.said: list[Any] = []

    def __call__(self, pool: Any) -> Any:
        return self._threaded(pool) if self.mode == "threaded" else self._async(pool)

    @contextmanager
    def _threaded(self, pool: Any) -> Iterator[None]:
        if self.first is not None:
            self.first(pool)
        yield
        if self.last is not None:
            try:
                self.said.append(self.last(pool))
            except UsageError as error:
                self.said.append(str(error))

    @asynccontextmanager
    async def _async(self, pool: Any) -> AsyncIterator[None]:
        if self.first is not None:
            await self.first(pool)
        yield
        if self.last is not None:
            try:
                self.said.append(await self.last(pool))
            except UsageError as error:
                self.said.append(str(error))


def stop(pool: Any) -> Any:
    return pool.stop()


def start(pool: Any) -> Any:
    return pool.start()


def test_a_lifespan_that_stops_its_pool_at_its_end_is_not_waited_for_by_itself(scene: Scene) -> None:
    resources = Resources(scene.harness.mode, last=stop)
    running = scene.running(lifespan=resources)
    assert scene.harness.call(scene.pool.stop) == 0
    assert running.result(PATIENT) == 0
    assert resources.said == [0]
    assert scene.state.pools == {}


def test_a_lifespan_cannot_start_its_pool(scene: Scene) -> None:
    resources = Resources(scene.harness.mode, last=start)
    running = scene.running(lifespan=resources)
    scene.harness.call(scene.pool.stop)
    assert running.result(PATIENT) == 0
    assert resources.said == ["a lifespan cannot start its own pool"]


def test_a_lifespan_cannot_stop_its_pool_before_that_has_started(scene: Scene) -> None:
    pool = scene.made(lifespan=Resources(scene.harness.mode, first=stop))
    with pytest.raises(UsageError, match="cannot stop its own pool before that has started: raise an exception"):
        scene.harness.call(pool.start)
    assert scene.state.pools == {}


def test_a_lifespan_cannot_drain_its_pool(scene: Scene) -> None:
    """It would wait for runs that begin when it has been entered."""
    pool = scene.made(lifespan=Resources(scene.harness.mode, first=lambda pool: pool.drain()))
    with pytest.raises(UsageError, match="a lifespan cannot drain its own pool"):
        scene.harness.call(pool.drain)
    assert scene.state.pools == {}


class ThreadedRefused(Runnable):
    """Calls what its pool has for others."""

    def run(self, queue: Any) -> None:
        for verb in ("start", "drain", "run"):
            try:
                getattr(POOLS[0], verb)()
            except UsageError as error:
                REFUSED.put(str(error))


class AsyncRefused(AsyncRunnable):
    async def run(self, queue: Any) -> None:
        for verb in ("start", "drain", "run"):
            try:
                await getattr(POOLS[0], verb)()
            except UsageError as error:
                REFUSED.put(str(error))


REFUSED: SimpleQueue[str] = SimpleQueue()


def test_a_run_can_neither_start_nor_drain_its_pool(scene: Scene) -> None:
    """A drain would wait for this run, and a start for the stop that waits for it."""
    running = scene.running()
    POOLS.append(scene.pool)
    scene.insert(ThreadedRefused, AsyncRefused)
    said = [REFUSED.get(timeout=PATIENT) for _ in range(3)]
    assert said == [f"a run cannot {verb} its own pool" for verb in ("start", "drain", "start")]
    scene.harness.call(scene.pool.stop)
    assert running.result(PATIENT) == 0
    assert scene.states == [TaskState.FINISHED]


def test_what_a_lifespan_has_started_may_stop_the_pool(scene: Scene) -> None:
    may_stop = threading.Event()
    stopped: SimpleQueue[int] = SimpleQueue()

    def begin(pool: Any) -> None:
        def wait_and_stop() -> None:
            may_stop.wait(PATIENT)
            stopped.put(pool.stop())

        threading.Thread(target=copy_context().run, args=(wait_and_stop,), daemon=True).start()

    async def begin_async(pool: Any) -> None:
        async def wait_and_stop() -> None:
            await asyncio.to_thread(may_stop.wait, PATIENT)
            stopped.put(await pool.stop())

        scene.task = asyncio.create_task(wait_and_stop())

    running = scene.running(
        lifespan=Resources(scene.harness.mode, first=begin if scene.harness.mode == "threaded" else begin_async)
    )
    may_stop.set()
    assert running.result(PATIENT) == 0
    assert stopped.get(timeout=PATIENT) == 0
    assert scene.state.pools == {}


def test_a_lifespan_that_does_not_end_is_named(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    def model_server(pool: Any) -> Any:
        if scene.harness.mode == "threaded":
            return hanging()
        return hanging_async()

    @contextmanager
    def hanging() -> Iterator[None]:
        yield
        GATES["gate"].wait()

    @asynccontextmanager
    async def hanging_async() -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(GATES["gate"].wait)

    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    running = scene.running(grace=0, lifespan=model_server)
    stopping = scene.harness.begin(scene.pool.stop)
    eventually(warnings)
    assert not stopping.done()
    GATES["gate"].set()
    assert stopping.result(PATIENT) == 0
    assert running.result(PATIENT) == 0
    [line] = warnings()
    assert "model_server has not ended, and the grace period is over" in line


def test_a_lifespan_that_blocks_the_event_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()

    @contextmanager
    def blocking() -> Iterator[None]:
        yield
        gate.wait()

    async def main() -> None:
        async with AsyncWorkerPool(AsyncMemoryQueue(), grace_period=timedelta(0), lifespan=blocking):
            pass

    running = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    running.start()
    eventually(lambda: "blocking has not ended" in caplog.text)
    gate.set()
    running.join(PATIENT)
    assert not running.is_alive()


def test_a_lifespan_that_ends_in_time_is_no_news(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    running = scene.running(lifespan=Resources(scene.harness.mode))
    assert scene.harness.call(scene.pool.stop) == 0
    assert running.result(PATIENT) == 0
    assert "has not ended" not in caplog.text
