"""Runs tasks with limits and rates beside tasks without any, in either mode, and tells when they began and ended.

In the threaded mode nothing else runs on the event loop, so it may be blocked.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool
from fang_core import Limit, Rate, TaskConfig
from fang_core.claims.prefetch import Demand
from fang_threaded import Queue, Runnable, WorkerPool

RUNS: Final[list[tuple[str, float, float]]] = []
"""The kind of each run, and when it began and ended, by the machine's monotonic clock."""

CONFIGS: Final = {
    "plain": TaskConfig(kind="plain", task_type="plain"),
    "keyed": TaskConfig(kind="keyed", task_type="keyed", limits=[Limit(2, by="key")]),
    "rated": TaskConfig(kind="rated", task_type="rated", limits=[Rate(500)]),
    "slot": TaskConfig(kind="slot", task_type="slot", limits=[Limit(1)]),
    "handed": TaskConfig(kind="handed", task_type="slot", limits=[Limit(1)]),
    "busy": TaskConfig(kind="busy", task_type="busy"),
}


def _threaded(config: TaskConfig) -> Any:
    class Timed(Runnable):
        task_config = config
        key: int = 0
        ms: float = 0.0

        def run(self, queue: Any) -> None:
            began = time.monotonic()
            if self.ms:
                time.sleep(self.ms / 1000)
            RUNS.append((self.__fang_options__.kind, began, time.monotonic()))

    return Timed


def _async(config: TaskConfig) -> Any:
    class Timed(AsyncRunnable):
        task_config = config
        key: int = 0
        ms: float = 0.0

        async def run(self, queue: Any) -> None:
            began = time.monotonic()
            if self.ms:
                await asyncio.sleep(self.ms / 1000)
            RUNS.append((self.__fang_options__.kind, began, time.monotonic()))

    return Timed


class Peer:
    """A process; ``kinds`` are those of the tasks that it knows. Unless ``ahead``, it claims for idle workers only from
    types without limits, too.

    Each command comes on an event loop of its own, so that the async mode works on another one, which goes on.
    """

    def __init__(self, url: str, *, mode: str, kinds: Sequence[str], workers: int, ahead: bool = True) -> None:
        if not ahead:
            Demand.ahead = lambda *_: 0  # type: ignore[method-assign]
        self._url = url
        self._is_async = mode == "async"
        made = _async if self._is_async else _threaded
        self._classes = {kind: made(CONFIGS[kind]) for kind in kinds}
        self._workers = workers
        self._pool: Any = None
        self._queue: Any = None
        self._loop = asyncio.new_event_loop()
        if self._is_async:
            threading.Thread(target=self._loop.run_forever, daemon=True).start()

    async def install(self) -> None:
        from fang_postgres import migrate  # here, so that no working process has Alembic

        migrate.upgrade(self._url)

    async def fill(self, kind: str, tasks: int, keys: int = 1, ms: float = 0.0) -> None:
        """Inserts tasks whose keys take turns."""
        rows = [self._classes[kind](key=n % keys, ms=ms) for n in range(tasks)]

        async def insert() -> None:
            async with AsyncQueue(self._url) as queue:
                await queue.insert_tasks(rows)

        if self._is_async:
            await self._on_loop(insert())
        else:
            with Queue(self._url) as queue:
                queue.insert_tasks(rows)

    async def start_pool(self, task_types: Sequence[str]) -> None:
        """Starts a pool of these types."""
        RUNS.clear()
        options: dict[str, Any] = {"task_type": task_types, "number_of_workers": self._workers}

        async def start() -> None:
            self._queue = AsyncQueue(self._url)
            await self._queue.open()
            self._pool = AsyncWorkerPool(self._queue, **options)
            await self._pool.start()

        if self._is_async:
            await self._on_loop(start())
        else:
            self._queue = Queue(self._url)
            self._queue.open()
            self._pool = WorkerPool(self._queue, **options)
            self._pool.start()

    async def drain_pool(self) -> Sequence[tuple[str, float, float]]:
        """Returns the runs of the pool until no due task is left; it goes on."""
        if self._is_async:
            await self._on_loop(self._pool.drain())
        else:
            self._pool.drain()
        return RUNS

    async def wait(self, seconds: float) -> None:
        """Lets the pool work for so long."""
        await asyncio.sleep(seconds)

    async def stop_pool(self) -> Sequence[tuple[str, float, float]]:
        """Stops the pool, and returns its runs."""
        for end in (self._pool.stop, self._queue.close):
            if self._is_async:
                await self._on_loop(end())
            else:
                end()
        return RUNS

    async def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
