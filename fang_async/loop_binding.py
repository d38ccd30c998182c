"""Binds a queue or a pool to the event loop that it runs on, and moves it to another one.

Connections, locks and tasks of asyncio belong to one loop. A program may have several of them, one after another:
``asyncio.run`` for each call, as synchronous web frameworks do for an ``async def`` view, or a loop for
each test. So a queue checks which loop is running before it does anything.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Final

from fang_core.driving import NO_LOOP
from fang_core.errors import UsageError
from fang_core.interpreter.forks import in_child

END_WITHIN: Final = 5.0
"""Seconds for which an event loop waits at its end for connections to close that the application did not close."""


def running_loop() -> asyncio.AbstractEventLoop:
    """Returns the running event loop. Raises ``UsageError`` if none of asyncio's runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(NO_LOOP) from None


async def _nothing() -> None:
    pass


class LoopBinding:
    """Binds an owner to one event loop at a time.

    Args:
        moved: drops what the owner has on its former loop, which has ended or stands still. It is called on another
            loop's thread, and before the owner is bound to its first loop, and must not wait.
        is_busy: returns whether the owner needs its former loop even if that stands still.
        ends: closes what the owner has when its loop is about to end; it is cancelled after ``END_WITHIN`` seconds.
        refusal: the text of the ``UsageError`` that is raised while the former loop still runs.
    """

    def __init__(
        self,
        refusal: str,
        *,
        moved: Callable[[], None],
        is_busy: Callable[[], bool],
        ends: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._refusal = refusal
        self._moved = moved
        self._is_busy = is_busy
        self._ends = ends
        self._end_hook: _EndHook | None = None
        self._begin()
        in_child(self, LoopBinding._begin)

    def _begin(self) -> None:
        """Starts bound to no loop; in a forked child too, in which the parent's loop does not run."""
        self._changing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Keep the parent's hook: its finalizer would wake the parent's loop, through the pipe that both processes have.
        self._inherited, self._end_hook = self._end_hook, None

    @property
    def has_ended(self) -> bool:
        """Returns whether the loop that the owner is bound to is closed."""
        return self._loop is not None and self._loop.is_closed()

    def enter(self) -> None:
        """Binds the owner to the running loop. Raises ``UsageError`` if it is in use on another one."""
        loop = running_loop()
        if loop is self._loop and self._end_hook is not None:
            return
        with self._changing:  # several threads may call this at once, each on its own loop
            self._check(loop)
            if loop is not self._loop:
                self._move()
            self._loop, self._end_hook = loop, _EndHook(self._ends)

    def check(self) -> None:
        """Raises ``UsageError`` if the owner is in use on another loop than the running one.

        If the owner's loop has ended, drops what it has there.
        """
        with self._changing:
            self._check(running_loop())
            if self.has_ended:
                self._move()

    def _move(self) -> None:
        self.leave()
        self._loop = None
        self._moved()

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        former = self._loop
        if self._end_hook is None or former is None or former is loop or former.is_closed():
            return
        if former.is_running() or self._is_busy():
            raise UsageError(self._refusal)

    def leave(self) -> None:
        """Releases the owner for another loop; it has nothing left on this one."""
        end_hook, self._end_hook = self._end_hook, None
        if end_hook is not None:
            end_hook.cancel()


class _EndHook:
    """Has ``ends`` awaited at the end of the running loop, unless ``cancel`` is called before.

    ``asyncio.run`` and its like call ``loop.shutdown_asyncgens()`` then, which closes each asynchronous generator that
    was begun on the loop. There is no other way to close connections in time that the application did not close.
    """

    def __init__(self, ends: Callable[[], Awaitable[None]]) -> None:
        self._ends = ends
        self._is_over = False
        self._generator = self._wait()
        # Stepped by hand, so that no other task runs in between. It warns if the loop has begun to end.
        with suppress(StopIteration, ResourceWarning):
            self._generator.asend(None).send(None)

    def cancel(self) -> None:
        """Cancels the hook. Does not wait, and may be called on another loop's thread."""
        self._is_over = True
        with suppress(StopIteration, RuntimeError):  # the loop's end calls this
            self._generator.aclose().send(None)

    async def _wait(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if not self._is_over:
                with suppress(TimeoutError):
                    async with asyncio.timeout(END_WITHIN):
                        await self._ends()
