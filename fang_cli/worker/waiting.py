"""Waits for a database that does not answer yet: tries again until a signal comes or the time is over."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final, TypeVar

from fang_core.errors import BackendUnavailable
from fang_core.logs import SafeLogger
from fang_core.retry import Retry

logger = SafeLogger("fang_cli")

T = TypeVar("T")

_LONGEST_PAUSE: Final = 1.0
_TOLD_EACH: Final = 10.0
_UNWINDING: Final = 1.0


class Interrupted(Exception):
    """Raised when a signal comes while ``fang worker`` waits for a database."""


class DatabaseWait:
    """Repeats calls while the database does not answer. Times are seconds.

    Args:
        within: how long all of the waiting may take, from now on; a try that has begun by then goes on to its end.
        stopping: is done when there is nothing to wait for any more.
    """

    def __init__(self, within: float, stopping: "asyncio.Future[None]") -> None:
        self._deadline = time.monotonic() + within
        self._stopping = stopping

    async def answer(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of the call, which is repeated while the database does not answer.

        Logs that it waits, at once and then every ten seconds. Raises ``BackendUnavailable`` when the time is over,
        ``Interrupted`` when a signal comes, and errors that waiting cannot cure.
        """
        retry, told_at, began = Retry(), -inf, time.monotonic()
        while True:
            self.check()
            try:
                result = await call()
            except BackendUnavailable as error:
                now = time.monotonic()
                left = self._deadline - now
                if left <= 0:
                    raise
                if now - told_at >= _TOLD_EACH:
                    told_at = now
                    logger.warning("%s; waiting for it, for %.0f s more at most", error, left)
                await asyncio.wait({self._stopping}, timeout=min(retry.sleep(), _LONGEST_PAUSE, left))
            else:
                if told_at > -inf:
                    logger.info("%s: the database answers, after %.1f s", name, time.monotonic() - began)
                return result

    async def unless_interrupted(self, awaitable: Awaitable[T]) -> T:
        """Returns the awaited result. Cancels it at a signal, and raises ``Interrupted``."""
        task = asyncio.ensure_future(awaitable)
        either: set[asyncio.Future[Any]] = {task, self._stopping}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        await asyncio.wait({task}, timeout=_UNWINDING)  # closes what it had begun to open
        raise Interrupted

    def check(self) -> None:
        """Raises ``Interrupted`` if there is nothing to wait for any more."""
        if self._stopping.done():
            raise Interrupted
