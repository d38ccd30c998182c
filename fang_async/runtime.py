"""Runs the services of a pool on an event loop: each as an asyncio task."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Final

from fang_async.loop_event_bus import LoopEventBus
from fang_core.events import EventBus
from fang_core.logs import SafeLogger
from fang_core.pool.runtime import Event, Main, Runtime, Service, ThreadMain
from fang_core.runs.location import frames_of_thread
from fang_core.tasks.registry import Mode


async def wait_for(event: asyncio.Event, seconds: float | None) -> bool:
    """Waits for an event, for ``seconds`` at most; returns whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class AsyncioRuntime(Runtime):
    """Runs the services of a pool on the event loop that runs when this is made."""

    mode: Final[Mode] = "async"
    logger: Final = SafeLogger("fang_async")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def event(self) -> Event:
        return asyncio.Event()

    async def wait(self, event: Event, seconds: float | None = None) -> bool:
        assert isinstance(event, asyncio.Event)
        return await wait_for(event, seconds)

    async def yield_now(self) -> None:
        await asyncio.sleep(0)

    def spawn(self, main: Main, name: str) -> "ServiceTask":
        return ServiceTask(main, name)

    def spawn_thread(self, main: ThreadMain, name: str, *, at_end: Callable[[], None]) -> "LoopThread":
        return LoopThread(self, main, name, at_end)

    async def aside(self, work: Callable[[], None], name: str) -> None:
        async def main(_: Runtime) -> None:
            work()

        try:
            service = self.spawn_thread(main, name, at_end=lambda: None)
        except RuntimeError:  # the limit of threads is reached
            work()
        else:
            await service.join()

    def call_soon(self, function: Callable[[], object]) -> None:
        if _is_running(self._loop):
            function()
            return
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function)

    def frames(self) -> Iterable[FrameType]:
        return frames_of_thread(self._thread)

    def event_bus(self, events: EventBus) -> EventBus:
        return LoopEventBus(events)


class ServiceTask(Service):
    """Runs a service as an asyncio task."""

    def __init__(self, main: Main, name: str) -> None:
        self._task = asyncio.create_task(main(), name=name)

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    @property
    def is_cancelling(self) -> bool:
        return self._task.cancelling() > 0

    async def join(self, within: float | None = None) -> bool:
        if self._task is not asyncio.current_task():
            await asyncio.wait([self._task], timeout=within)
        return self.has_ended

    def cancel(self) -> None:
        self._task.cancel()


class LoopThread(Service):
    """Runs a service on a daemon thread that has its own event loop.

    The loop is asyncio's, even if the application runs another kind. The two loops share no object of asyncpg's.
    """

    def __init__(
        self,
        runtime: AsyncioRuntime,
        main: ThreadMain,
        name: str,
        at_end: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._main = main
        self._at_end = at_end
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    async def join(self, within: float | None = None) -> bool:
        if await wait_for(self._ended, within):
            self._thread.join()  # its last statement has set the event
        return self.has_ended

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(self._run_main())
        finally:
            self._runtime.call_soon(self._at_end)
            self._runtime.call_soon(self._ended.set)

    async def _run_main(self) -> None:
        await self._main(AsyncioRuntime())


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Returns whether the caller runs on this loop; another one may run on the same thread by now."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
