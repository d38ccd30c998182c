"""Both modes, driven from the thread of a test that is written once; and tasks that say that they ran."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_async.runtime import AsyncioRuntime
from fang_core import AsyncMemoryQueue, AsyncRunnable, MemoryQueue, Runnable, SleepParams, TaskConfig
from fang_core.backends.memory.state import MemoryState
from fang_core.claims.idle import Idle
from fang_core.crashes import SUSPECT_AFTER
from fang_core.driving import drive
from fang_core.pool.claimer import Claimer
from fang_core.pool.runtime import Runtime
from fang_core.pool.threads import ThreadRuntime
from fang_core.tasks.registry import Mode
from fang_threaded import Queue, WorkerPool
from tests.patience import PATIENT

HOUR: Final = timedelta(hours=1)
RAN: Final[SimpleQueue[int]] = SimpleQueue()
"""The number of each task that ran, in any pool of this process."""
GATES: Final[dict[str, threading.Event]] = {"gate": threading.Event()}


class ThreadedNote(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedNote")
    n: int = 0
    waits: bool = False

    def run(self, queue: Any) -> None:
        RAN.put(self.n)
        if self.waits:
            GATES["gate"].wait()


class AsyncNote(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncNote")
    n: int = 0
    waits: bool = False

    async def run(self, queue: Any) -> None:
        RAN.put(self.n)
        if self.waits:
            await asyncio.to_thread(GATES["gate"].wait)


class Harness:
    """Drives one mode from the thread of a test. It ends what it makes, and checks that nothing of that is left."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.note: Any = ThreadedNote if mode == "threaded" else AsyncNote
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(target=self._loop.run_forever, name="test-loop", daemon=True)
        self._loop_thread.start()
        self._queues: list[Any] = []
        self._pools: list[Any] = []

    # Making -----------------------------------------------------------------------------------------------------------

    def queue(self, url: str, **options: Any) -> Any:
        queue = (Queue if self.mode == "threaded" else AsyncQueue)(url, **options)
        self._queues.append(queue)
        return queue

    def runtime(self) -> Runtime:
        """What services run on; in the async mode it must be called on the loop."""
        return ThreadRuntime() if self.mode == "threaded" else AsyncioRuntime()

    def memory_queue(self, state: MemoryState) -> Any:
        return (MemoryQueue if self.mode == "threaded" else AsyncMemoryQueue)(state=state)

    def pool(self, queue: Any, *, poll: timedelta = HOUR, **options: Any) -> Any:
        """A pool that runs, and polls at this pace."""
        sleep = SleepParams(min_sleep_period=poll, max_sleep_period=poll)
        options = {"isolate_suspects": False, **options}  # runs in child processes could not tell the test
        pool = (WorkerPool if self.mode == "threaded" else AsyncWorkerPool)(queue, sleep_params=sleep, **options)
        self._pools.append(pool)
        self.call(pool.start)
        return pool

    # Calling ----------------------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.begin(function, *args, **kwargs).result(PATIENT)

    def begin(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        """Calls it beside the test."""
        if inspect.iscoroutinefunction(function) and self.mode == "async":
            return asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self._loop)
        future: Future[Any] = Future()

        def call() -> None:
            try:
                result = function(*args, **kwargs)
                future.set_result(drive(result) if inspect.iscoroutine(result) else result)
            except BaseException as error:  # noqa: BLE001 - the caller's to see
                future.set_exception(error)

        threading.Thread(target=call, name="test-call", daemon=True).start()
        return future

    def wrap(self, patch: pytest.MonkeyPatch, target: Any, name: str, before: Any = None, after: Any = None) -> None:
        """Has the method call ``before()`` and ``after(result)``, off the event loop: both may block."""
        original = getattr(target, name)

        def sync(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                before(*args)
            result = original(*args, **kwargs)
            if after is not None:
                after(result)
            return result

        async def blocking(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                before(*args)
            result = await original(*args, **kwargs)
            if after is not None:
                after(result)
            return result

        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                await asyncio.to_thread(before, *args)
            result = await original(*args, **kwargs)
            if after is not None:
                await asyncio.to_thread(after, result)
            return result

        wrapped = asynchronous if self.mode == "async" else blocking
        patch.setattr(target, name, wrapped if inspect.iscoroutinefunction(original) else sync)

    # Ending -----------------------------------------------------------------------------------------------------------

    def stop(self, pool: Any) -> int:
        self._pools.remove(pool)
        left: int = self.call(pool.stop)
        return left

    def end(self) -> None:
        """Stops the pools and closes the queues."""
        GATES["gate"].set()
        for pool in list(self._pools):
            self.stop(pool)
        while self._queues:
            self.call(self._queues.pop().close)

    def close(self) -> None:
        self.end()
        eventually(lambda: not asyncio.all_tasks(self._loop))
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result(PATIENT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join(PATIENT)
        self._loop.close()
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])


@contextmanager
def harness_of(mode: Mode) -> Iterator[Harness]:
    while not RAN.empty():
        RAN.get()
    GATES["gate"] = threading.Event()
    harness = Harness(mode)
    yield harness
    harness.close()


class IdlePools:
    """Tells when a pool is idle: it goes to sleep for its poll, and looks no more for what may have come meanwhile."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._asleep: SimpleQueue[float] = SimpleQueue()
        sleep = Idle.sleep
        until_woken = Claimer._sleep
        about_to_sleep: dict[int, float] = {}

        def watched(idle: Idle, running: frozenset[int], mono: float) -> float:
            seconds = sleep(idle, running, mono)
            if seconds > 0.5:
                about_to_sleep[id(idle)] = seconds
            return seconds

        # The event comes with the sleep, since the pool still asks when the next task is due before it.
        async def sleeps(claimer: Claimer, seconds: float) -> None:
            if id(claimer._policy._idle) in about_to_sleep:
                self._asleep.put(about_to_sleep.pop(id(claimer._policy._idle)))
            await until_woken(claimer, seconds)

        patch.setattr(Idle, "sleep", watched)
        patch.setattr(Claimer, "_sleep", sleeps)

    def wait(self, pools: int = 1) -> None:
        """Waits until as many pools have gone to sleep since the last call."""
        for _ in range(pools):
            self._asleep.get(timeout=PATIENT)


def ran(count: int = 1, within: float = PATIENT) -> list[int]:
    """The next runs' numbers, sorted; fails where they do not come in time."""
    deadline = time.monotonic() + within
    numbers: list[int] = []
    while len(numbers) < count:
        try:
            numbers.append(RAN.get(timeout=max(0.0, deadline - time.monotonic())))
        except Empty:
            raise AssertionError(f"only {len(numbers)} of {count} tasks ran in time") from None
    return sorted(numbers)


def eventually(holds: Callable[[], Any], within: float = PATIENT) -> None:
    """For what no event tells of: asks again every 10 ms."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


class Database:
    """What a test sees of the database, on a connection of its own."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        return self.connection.execute(statement.encode(), parameters).fetchall()

    def execute(self, statement: str, *parameters: Any) -> None:
        self.connection.execute(statement.encode(), parameters)

    @property
    def waiting(self) -> list[bool]:
        """Of each pool that has registered."""
        return [waiting for (waiting,) in self.rows("SELECT waiting FROM fang.fang_pools ORDER BY started_at")]

    @property
    def listeners(self) -> list[int]:
        """The processes of LISTEN connections."""
        here = "datname = current_database() AND query ILIKE 'LISTEN%%' AND pid <> pg_backend_pid()"
        return [pid for (pid,) in self.rows(f"SELECT pid FROM pg_stat_activity WHERE {here} ORDER BY pid")]

    def close(self) -> None:
        self.connection.close()


def insert_suspect(
    harness: Harness, queue: Any, database: Database, n: int, *, waits: bool = False, group_limit: int | None = 1
) -> UUID:
    """One that is due and wakes who waits for it; it must run alone unless it has another limit."""
    task = harness.call(queue.insert_task, harness.note(n=n, waits=waits), delay=HOUR)
    database.execute(
        "UPDATE fang.fang_tasks SET state = 'retried', crashes = %s, group_limit = %s, scheduled_at = now()"
        " WHERE id = %s",
        SUSPECT_AFTER,
        group_limit,
        task.id,
    )
    task_id: UUID = task.id
    return task_id


def abstains(pool: Any) -> bool:
    """Whether its last claim left suspects out."""
    return bool(pool._lifetime.claimer._policy._claims.quarantine.abstains)
