"""One LISTEN connection for all pools of a queue: inserts wake the pools that wait for them.

It is an extra: pools poll beneath. A connection that is dead is noticed at once, one that is half-open by a ping, and
replaced; since a notification may have been missed meanwhile, every pool is woken after each connect.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from fang_async.bounded import bury
from fang_async.completer import wait_for
from fang_core.errors import BackendUnavailable
from fang_core.logs import SafeLogger
from fang_core.outage import Outage
from fang_core.store import OnSilence, OnWake
from fang_postgres.waking import NOBODY_LISTENS, Subscribers

logger = SafeLogger("fang_async")

PING_EVERY: Final = 10.0
"""Seconds after which the connection is asked whether it lives."""

PING_TIMEOUT: Final = 5.0
"""Seconds that it has to answer."""


class Listener:
    """An asyncio task that runs while somebody has subscribed.

    Args:
        connect: makes a connection of its own, which the listener closes.
        channel: the name to LISTEN to.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], channel: str) -> None:
        self._connect = connect
        self._channel = channel
        self._subscribers = Subscribers()
        self._task: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection | None = None
        self._closing = asyncio.Event()
        self._stirred = asyncio.Event()

    def subscribe(
        self, subscriber: object, task_types: tuple[str, ...], on_wake: OnWake, on_silence: OnSilence
    ) -> None:
        """Calls ``on_wake`` on the event loop when a task of these types was inserted, and ``on_silence`` when the
        connection is lost."""
        self._subscribers.add(subscriber, task_types, on_wake, on_silence)
        if self._task is None or self._task.done():
            self._closing, self._stirred = asyncio.Event(), asyncio.Event()
            self._task = asyncio.create_task(self._loop(self._closing, self._stirred), name="fang-listener")

    async def unsubscribe(self, subscriber: object) -> None:
        """Ends it; with the last one the task ends and its connection is closed. Idempotent."""
        self._subscribers.remove(subscriber)
        task = self._task
        if task is None or self._subscribers:
            return
        self._task = None
        self._closing.set()
        self._stirred.set()
        await asyncio.wait([task], timeout=2.0)
        task.cancel()

    def abandon(self) -> None:
        """Drops its connection, whose event loop has ended or stands still."""
        if self._connection is not None:
            bury(self._connection)

    async def _loop(self, closing: asyncio.Event, stirred: asyncio.Event) -> None:
        outage = Outage(logger, "LISTEN works again, and inserts wake pools")
        while not closing.is_set():
            try:
                async with self._connected() as connection:
                    stirred.clear()
                    connection.add_termination_listener(lambda _: stirred.set())
                    async with asyncio.timeout(PING_TIMEOUT):
                        await connection.add_listener(self._channel, self._heard)
                    outage.over(time.monotonic())
                    self._subscribers.wake_all()
                    while not closing.is_set() and not await wait_for(stirred, PING_EVERY):
                        async with asyncio.timeout(PING_TIMEOUT):
                            await connection.execute("SELECT 1")
                    if not closing.is_set():
                        raise ConnectionError("the connection was closed")
            except Exception as error:  # noqa: BLE001 - a listener outlives whatever its database does
                if not closing.is_set():
                    silence = BackendUnavailable(NOBODY_LISTENS.format(_line(error)))
                    logger.warning("%s", silence)
                    self._subscribers.tell(silence)
                    await wait_for(closing, outage.failed(time.monotonic()))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        connection = self._connection = await self._connect()
        try:
            yield connection
        finally:
            self._connection = None
            connection.terminate()  # nothing is under way on it that could be lost

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._subscribers.wake(str(payload))


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
