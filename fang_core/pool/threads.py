"""Runs the services of a pool on threads: each on its own, where each ``await`` blocks."""

import threading
import time
from collections.abc import Awaitable, Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from fang_core.driving import drive
from fang_core.logs import SafeLogger
from fang_core.pool.runtime import Event, Main, Runtime, Service, ThreadMain
from fang_core.tasks.registry import Mode

T = TypeVar("T")


class ThreadEvent:
    """An event that one thread waits for, and clears; any thread, and any signal handler, may set it.

    ``threading.Event`` takes a lock of Python's to set it: a signal handler that interrupts a thread which holds that
    lock would wait for itself. The ``put`` and ``get`` of a ``SimpleQueue`` are written in C, and cost a third.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """See ``Event.is_set``."""
        return self._is_set

    def set(self) -> None:
        """See ``Event.set``."""
        if not self._is_set:
            self._is_set = True
            self._wakes.put(None)

    def clear(self) -> None:
        """See ``Event.clear``."""
        self._is_set = False
        while not self._wakes.empty():  # so that wakes that no thread waited for do not pile up
            self._wakes.get_nowait()

    def wait(self, seconds: float | None) -> bool:
        """Waits for the event, for ``seconds`` at most; returns whether it was set."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._is_set:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                self._wakes.get(timeout=left)
            except Empty:
                break
        return self._is_set


class ThreadRuntime(Runtime):
    """Runs the services of a pool of threads."""

    mode: Final[Mode] = "threaded"
    logger: Final = SafeLogger("fang_threaded")

    def event(self) -> Event:
        return ThreadEvent()

    async def wait(self, event: Event, seconds: float | None = None) -> bool:
        assert isinstance(event, ThreadEvent)
        return event.wait(seconds)

    async def yield_now(self) -> None:
        time.sleep(0)  # noqa: ASYNC251 - it is to block

    def spawn(self, main: Main, name: str) -> "ServiceThread":
        return ServiceThread(main, name)

    def spawn_thread(self, main: ThreadMain, name: str, *, at_end: Callable[[], None]) -> "ServiceThread":
        async def to_the_end() -> None:
            try:
                await main(self)
            finally:
                at_end()

        return ServiceThread(to_the_end, name)


class ServiceThread(Service):
    """Runs a service on a daemon thread, which starts when this is made."""

    def __init__(self, main: Main, name: str) -> None:
        self._thread = threading.Thread(target=lambda: drive(main()), name=name, daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    async def join(self, within: float | None = None) -> bool:
        if self._thread is not threading.current_thread():
            self._thread.join(within)
        return self.has_ended


class ThreadLock:
    """A ``Lock`` of coroutines that ``drive`` runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def hold(self, work: Callable[[], Awaitable[T]]) -> T:
        """See ``Lock.hold``."""
        # A plain ``with``: Ctrl-C strikes neither between its lock and its block, nor before it lets the lock go.
        with self._lock:
            return await work()
