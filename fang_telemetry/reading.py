"""Reads the state of the task types from a queue of either mode, in the background: callers never wait for long."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, Final, NamedTuple

from fang_core.errors import UsageError
from fang_core.logs import SafeLogger
from fang_core.monitoring.stats import Stats

logger = SafeLogger("fang_telemetry")

_RANGE: Final = timedelta(minutes=1)
"""Of history, which is read as well, as little as can be."""


class Found(NamedTuple):
    """Holds what is known of the database.

    Attributes:
        stats: its last answer; None if it has not answered, or is late.
        seconds: how long that answer took.
    """

    stats: Stats | None = None
    seconds: float | None = None


class Reader:
    """Has one read under way at most. Any thread may call it.

    Args:
        loop: of an ``AsyncQueue``; the running one unless given.
        keep_for: for how many seconds an answer counts as fresh.
        wait: for how many seconds ``read`` waits for a new one.

    Raises ``UsageError`` if an async queue has no loop.
    """

    def __init__(self, queue: Any, loop: asyncio.AbstractEventLoop | None, *, keep_for: float, wait: float) -> None:
        self._queue = queue
        self._is_async = iscoroutinefunction(queue.stats)
        self._loop = (loop or _running()) if self._is_async else None
        if self._is_async and self._loop is None:
            raise UsageError("a QueueCollector of an AsyncQueue is made on its event loop, or told it: loop=")
        self._keep_for = keep_for
        self._wait = wait
        self._changing = threading.Lock()
        self._under_way: Future[Found] | None = None
        self._asking: asyncio.Task[Found] | None = None
        self._found = Found()
        self._read_at = float("-inf")

    def begin(self) -> Future[Found] | None:
        """Begins a read unless one is under way, and returns it; None if the last one is fresh."""
        with self._changing:
            if self._under_way is not None:
                return self._under_way
            if time.monotonic() - self._read_at < self._keep_for:
                return None
            asked: Future[Found] = Future()
            self._under_way = asked
        try:
            self._start(lambda found: self._end(asked, found))
        except RuntimeError:  # the process can have no more threads, or the loop is closed
            self._end(asked, Found())
        return asked

    def read(self, asked: Future[Found] | None) -> Found:
        """Returns what ``begin`` asked for, if that comes in time and this may wait, or what is known."""
        if asked is None:
            return self._found
        if _running() is not None and not asked.done():
            return self._found  # of the scrape before: an event loop must not wait
        try:
            return asked.result(self._wait)
        except TimeoutError:
            return Found()

    async def wait(self, asked: Future[Found] | None) -> None:
        """Waits on an event loop for what ``begin`` asked for, for ``wait`` seconds at most."""
        if asked is not None:
            await asyncio.wait([asyncio.wrap_future(asked)], timeout=self._wait)

    def _start(self, tell: Callable[[Found], None]) -> None:
        began = time.monotonic()
        if self._loop is None:
            threading.Thread(target=lambda: tell(self._ask(began)), name="fang-reading", daemon=True).start()
            return
        self._loop.call_soon_threadsafe(self._start_on_loop, began, tell)

    def _start_on_loop(self, began: float, tell: Callable[[Found], None]) -> None:
        assert self._loop is not None
        self._asking = self._loop.create_task(self._ask_async(began))  # kept: asyncio forgets tasks without a reference
        self._asking.add_done_callback(lambda asked: tell(Found() if asked.cancelled() else asked.result()))

    def _ask(self, began: float) -> Found:
        try:
            return Found(self._queue.stats(_RANGE), time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - shown as a database that is not up
            return _failed(error)

    async def _ask_async(self, began: float) -> Found:
        try:
            return Found(await self._queue.stats(_RANGE), time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - see above
            return _failed(error)

    def _end(self, asked: Future[Found], found: Found) -> None:
        with self._changing:
            self._found, self._read_at, self._under_way = found, time.monotonic(), None
        asked.set_result(found)


def _failed(error: Exception) -> Found:
    logger.debug("the database could not be read for metrics: %s", error)
    return Found()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
