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
from fang_async import claimer as asynchronous
from fang_core import AsyncMemoryQueue, AsyncRunnable, MemoryQueue, Runnable, SleepParams, TaskConfig
from fang_core.demand import Idle
from fang_core.lifecycle import SUSPECT_AFTER
from fang_core.memory_state import MemoryState
from fang_core.registry import Mode
from fang_threaded import Queue, WorkerPool
from fang_threaded import claimer as threaded

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


class Side:
    """One mode. What it makes it also ends, and nothing of it may be left then."""

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

    def memory_queue(self, state: MemoryState) -> Any:
        return (MemoryQueue if self.mode == "threaded" else AsyncMemoryQueue)(state=state)

    def pool(self, queue: Any, *, poll: timedelta = HOUR, **options: Any) -> Any:
        """A pool that runs, and polls at this pace."""
        sleep = SleepParams(min_sleep_period=poll, max_sleep_period=poll)
        pool = (WorkerPool if self.mode == "threaded" else AsyncWorkerPool)(queue, sleep_params=sleep, **options)
        self._pools.append(pool)
        self.call(pool.start)
        return pool

    # Calling ----------------------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.begin(function, *args, **kwargs).result(20)

    def begin(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        """Calls it beside the test."""
        if inspect.iscoroutinefunction(function):
            return asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self._loop)
        future: Future[Any] = Future()

        def call() -> None:
            try:
                future.set_result(function(*args, **kwargs))
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

        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                await asyncio.to_thread(before, *args)
            result = await original(*args, **kwargs)
            if after is not None:
                await asyncio.to_thread(after, result)
            return result

        patch.setattr(target, name, asynchronous if inspect.iscoroutinefunction(original) else sync)

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
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join(10)
        self._loop.close()
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])


@contextmanager
def side_of(mode: Mode) -> Iterator[Side]:
    while not RAN.empty():
        RAN.get()
    GATES["gate"] = threading.Event()
    side = Side(mode)
    yield side
    side.close()


class Nights:
    """What idle pools do: an event for each time that one goes to sleep for its poll, past all looking again."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._asleep: SimpleQueue[float] = SimpleQueue()
        sleep = Idle.sleep
        until_woken = threaded.Claimer._sleep
        until_woken_async = asynchronous.Claimer._sleep
        falling: dict[int, float] = {}

        def watched(idle: Idle, snapshot: str, mono: float) -> float:
            seconds = sleep(idle, snapshot, mono)
            if seconds > 0.5:
                falling[id(idle)] = seconds
            return seconds

        # The event comes with the sleep, since the pool still asks when the next task is due before it.
        def tell(claimer: Any) -> None:
            if id(claimer._idle) in falling:
                self._asleep.put(falling.pop(id(claimer._idle)))

        def sleeps(claimer: Any, seconds: float) -> None:
            tell(claimer)
            until_woken(claimer, seconds)

        async def sleeps_async(claimer: Any, seconds: float) -> None:
            tell(claimer)
            await until_woken_async(claimer, seconds)

        patch.setattr(Idle, "sleep", watched)
        patch.setattr(threaded.Claimer, "_sleep", sleeps)
        patch.setattr(asynchronous.Claimer, "_sleep", sleeps_async)

    def fall(self, pools: int = 1) -> None:
        """Waits until so many pools sleep."""
        for _ in range(pools):
            self._asleep.get(timeout=10)


def ran(count: int = 1, within: float = 5.0) -> list[int]:
    """The next runs' numbers, sorted; fails where they do not come in time."""
    deadline = time.monotonic() + within
    numbers: list[int] = []
    while len(numbers) < count:
        try:
            numbers.append(RAN.get(timeout=max(0.0, deadline - time.monotonic())))
        except Empty:
            raise AssertionError(f"only {len(numbers)} of {count} tasks ran in time") from None
    return sorted(numbers)


def eventually(holds: Callable[[], Any], within: float = 5.0) -> None:
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


def insert_suspect(side: Side, queue: Any, database: Database, n: int, *, waits: bool = False) -> UUID:
    """One that is due and wakes who waits for it."""
    task = side.call(queue.insert_task, side.note(n=n, waits=waits), delay=HOUR)
    database.execute(
        "UPDATE fang.fang_tasks SET state = 'retried', crashes = %s, scheduled_at = now() WHERE id = %s",
        SUSPECT_AFTER,
        task.id,
    )
    task_id: UUID = task.id
    return task_id
