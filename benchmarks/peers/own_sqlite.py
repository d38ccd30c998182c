"""Measures Fang on a file of SQLite, in both modes: drains, inserts by several processes, how soon a task starts."""

import asyncio
import threading
import time
from importlib.metadata import version
from typing import Any

from fang_async import AsyncQueueable, AsyncRunnable, AsyncWorkerPool
from fang_sqlite import AsyncSqliteQueue, SqliteQueue
from fang_threaded import Queueable, Runnable, WorkerPool

STARTS: list[tuple[int, float]] = []
"""The number of each task that has started, and when, by the machine's monotonic clock."""


class Noop(Runnable):
    n: int

    def run(self, queue: Queueable) -> None: ...


class AsyncNoop(AsyncRunnable):
    n: int

    async def run(self, queue: AsyncQueueable) -> None: ...


class Timed(Runnable):
    n: int

    def run(self, queue: Queueable) -> None:
        STARTS.append((self.n, time.monotonic()))


class AsyncTimed(AsyncRunnable):
    n: int

    async def run(self, queue: AsyncQueueable) -> None:
        STARTS.append((self.n, time.monotonic()))


class Peer:
    def __init__(self, path: str, *, mode: str = "threaded", synchronous: Any = "full", workers: int = 10) -> None:
        self.version = version("fang-tasks")
        self._is_async = mode == "async"
        self._queue = SqliteQueue(path, synchronous=synchronous)
        self._async_queue = AsyncSqliteQueue(path, synchronous=synchronous)
        self._workers = workers
        self._ends = threading.Event()

    async def install(self) -> None:
        self._queue.open()

    async def insert_noops(self, tasks: int) -> float:
        """Inserts many at once; returns the tasks a second."""
        noop = AsyncNoop if self._is_async else Noop
        began = time.perf_counter()
        self._queue.insert_tasks([noop(n=n) for n in range(tasks)])
        return tasks / (time.perf_counter() - began)

    async def drain_all(self) -> dict[str, float]:
        """Runs tasks until none is left; returns how many, in how many seconds, and the seconds of processor time."""
        began, cpu = time.perf_counter(), time.process_time()
        if self._is_async:
            async with self._async_queue:
                ran = await AsyncWorkerPool(self._async_queue, number_of_workers=self._workers).drain()
        else:
            ran = WorkerPool(self._queue, number_of_workers=self._workers).drain()
        return {"ran": ran, "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}

    async def insert_single(self, tasks: int) -> list[float]:
        """Inserts one task after the other; returns the seconds that each insert took."""
        took = []
        for n in range(tasks):
            began = time.perf_counter()
            self._queue.insert_task(Noop(n=n))
            took.append(time.perf_counter() - began)
        return took

    async def start(self) -> None:
        """Starts a pool that notes when its tasks start."""
        self._ends.clear()
        self._thread = threading.Thread(target=self._run_async if self._is_async else self._run)
        self._thread.start()

    async def stop(self) -> list[tuple[int, float]]:
        """Stops it, and returns what it has noted."""
        self._ends.set()
        self._thread.join()
        return STARTS

    def _run(self) -> None:
        with self._queue, WorkerPool(self._queue, number_of_workers=self._workers):
            self._ends.wait()

    def _run_async(self) -> None:
        async def run() -> None:
            async with self._async_queue, AsyncWorkerPool(self._async_queue, number_of_workers=self._workers):
                await asyncio.to_thread(self._ends.wait)

        asyncio.run(run())

    async def produce(self, tasks: int, gap: float) -> list[tuple[int, float]]:
        """Inserts timed tasks with pauses; returns the number of each, and when its commit returned."""
        timed = AsyncTimed if self._is_async else Timed
        pause = threading.Event()
        committed = []
        for n in range(tasks):
            pause.wait(gap)
            self._queue.insert_task(timed(n=n))
            committed.append((n, time.monotonic()))
        return committed
