"""The event loop that a queue or a pool lives on, and its move to another one.

Connections, locks and tasks of asyncio belong to one loop. A program may have several of them, one after another:
``asyncio.run`` for each call, as web frameworks that are not asynchronous do for an ``async def`` view, or a loop for
each test. So a queue looks which loop is running before it does anything.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Final

from fang_core.errors import UsageError
from fang_core.forks import in_child

END_WITHIN: Final = 5.0
"""Seconds for which an event loop waits at its end for connections to close that the application did not close."""


async def _nothing() -> None:
    pass


class HomeLoop:
    """Binds an owner to one event loop at a time.

    Args:
        moved: drops whatever the owner has on its former loop, which has ended or stands still. It is called on another
            loop's thread, also before the owner is bound to its first loop, and must not wait.
        is_busy: says whether the owner needs its former loop even if that stands still now.
        ends: closes what the owner has, when its loop is about to end; cancelled after ``END_WITHIN`` seconds.
        refusal: what ``UsageError`` says while the former loop still runs.
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
        self._stay: _Stay | None = None
        self._begin()
        in_child(self, HomeLoop._begin)

    def _begin(self) -> None:
        """Bound to no loop; also in a child, where the parent's loop does not run."""
        self._changing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # The parent's is kept: its finalizer would wake the parent's loop, through the pipe that both processes have.
        self._inherited, self._stay = self._stay, None

    @property
    def has_ended(self) -> bool:
        """Whether the loop that the owner is bound to is closed."""
        return self._loop is not None and self._loop.is_closed()

    def enter(self) -> None:
        """Binds the owner to the running loop. Raises ``UsageError`` if it is in use on another one."""
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._stay is not None:
            return
        with self._changing:  # threads may begin to use the owner at once, each on a loop of its own
            self._check(loop)
            if loop is not self._loop:
                self._move()
            self._loop, self._stay = loop, _Stay(self._ends)

    def check(self) -> None:
        """Raises ``UsageError`` if the owner is in use on another loop than the running one.

        If the owner's loop has ended, drops what it has there.
        """
        with self._changing:
            self._check(asyncio.get_running_loop())
            if self.has_ended:
                self._move()

    def _move(self) -> None:
        self.leave()
        self._loop = None
        self._moved()

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        former = self._loop
        if self._stay is None or former is None or former is loop or former.is_closed():
            return
        if former.is_running() or self._is_busy():
            raise UsageError(self._refusal)

    def leave(self) -> None:
        """Lets another loop have the owner, which has nothing left on this one."""
        stay, self._stay = self._stay, None
        if stay is not None:
            stay.end()


class _Stay:
    """Has ``ends`` awaited at the end of the running loop, unless ``end`` is called before.

    ``asyncio.run`` and its like call ``loop.shutdown_asyncgens()`` then, which closes each asynchronous generator that
    was begun on the loop. There is no other way to close connections in time that the application did not close.
    """

    def __init__(self, ends: Callable[[], Awaitable[None]]) -> None:
        self._ends = ends
        self._is_over = False
        self._generator = self._wait()
        # Stepped by hand, so that nothing else comes in between. It warns if the loop has begun to end.
        with suppress(StopIteration, ResourceWarning):
            self._generator.asend(None).send(None)

    def end(self) -> None:
        """Does not wait, and may be called on another loop's thread."""
        self._is_over = True
        with suppress(StopIteration, RuntimeError):  # it is the loop's end that calls this
            self._generator.aclose().send(None)

    async def _wait(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if not self._is_over:
                with suppress(TimeoutError):
                    async with asyncio.timeout(END_WITHIN):
                        await self._ends()
