"""Listens on one connection for all pools of a queue, so that inserts wake the pools that wait for them.

Pools poll as well, so it may fail. It notices a dead connection at once, a half-open one by a ping, and replaces both.
Since it may have missed a notification meanwhile, it wakes every pool after each connect.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, Protocol

from fang_core.backends.waking import OnListenLost, OnTold, OnWake
from fang_core.errors import BackendUnavailable
from fang_core.pool.outage import Outage
from fang_core.pool.runtime import Event, Runtime, Service
from fang_core.words.naming import first_line
from fang_postgres.pool.waking import NOBODY_LISTENS, Subscribers

PING_EVERY: Final = 10.0
"""Seconds between two pings of the connection."""

PING_TIMEOUT: Final = 5.0
"""Seconds that the server has to answer a ping."""

ENDED_WITHIN: Final = 2.0
"""The longest, in seconds, that the end of the last subscription waits for the service to end."""


class ListeningConnection(Protocol):
    """A connection that a listener has for itself, in autocommit. Its methods raise the driver's errors."""

    async def listen(self, channel: str, on_heard: Callable[[str], None], /) -> None:
        """Sends LISTEN; from then on ``on_heard`` is called with the payload of each notification."""
        ...

    async def hear(self, seconds: float, /) -> None:
        """Waits for this many seconds, or longer while notifications come; raises if the connection is lost."""
        ...

    async def execute(self, statement: str, /) -> None:
        """Executes a statement without parameters."""
        ...

    def within(self, seconds: float, /) -> AbstractAsyncContextManager[Any]:
        """Makes the block fail after this many seconds; the connection is then useless."""
        ...

    def interrupt(self) -> None:
        """Makes ``hear`` fail at once; in threads, any thread may call this."""
        ...

    def close(self) -> None:
        """Closes it at once."""
        ...


class Listener:
    """A service that runs while there is a subscriber.

    Args:
        make_runtime: makes the runtime that runs it.
        connect: makes a connection for the listener alone, which closes it.
        channel: the channel to LISTEN on.
        lock: makes the lock that guards the subscribers in threads.
    """

    def __init__(
        self,
        make_runtime: Callable[[], Runtime],
        connect: Callable[[], Awaitable[ListeningConnection]],
        channel: str,
        *,
        lock: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._make_runtime = make_runtime
        self._connect = connect
        self._channel = channel
        self._changing = lock()
        self._subscribers = Subscribers()
        self._service: Service | None = None
        self._closing: Event | None = None
        self.connection: ListeningConnection | None = None
        """The connection that it listens on now."""

    def subscribe(
        self,
        subscriber: object,
        task_types: tuple[str, ...],
        on_wake: OnWake,
        on_told: OnTold,
        on_listen_lost: OnListenLost,
    ) -> None:
        """Calls ``on_wake`` when a task of these types is inserted, ``on_told`` when a message to a pool was written,
        and ``on_listen_lost`` if the connection ends.

        The calls come on the event loop, or on the listener's thread.
        """
        with self._changing:
            self._subscribers.add(subscriber, task_types, on_wake, on_told, on_listen_lost)
            if self._service is None or self._service.has_ended:
                runtime = self._make_runtime()
                closing = self._closing = runtime.event()
                try:
                    self._service = runtime.spawn(lambda: self._run(runtime, closing), "fang-listener")
                except BaseException:  # Ctrl-C, as it began
                    closing.set()
                    raise

    async def unsubscribe(self, subscriber: object) -> None:
        """Ends a subscription; with the last one the service ends and its connection is closed. Idempotent."""
        with self._changing:
            self._subscribers.remove(subscriber)
            service, closing = self._service, self._closing
            if service is None or closing is None or self._subscribers:
                return
            self._service = None
            closing.set()
            connection = self.connection  # read here: from here on another service may begin to listen
        if connection is not None:
            connection.interrupt()
        try:
            await service.join(ENDED_WITHIN)
        finally:
            service.cancel()

    async def _run(self, runtime: Runtime, closing: Event) -> None:
        outage = Outage(runtime.logger, "LISTEN works again, and inserts wake pools")
        while not closing.is_set():
            try:
                connection = await self._connect()
                try:
                    await self._listen(connection, closing, outage)
                finally:
                    if self.connection is connection:
                        self.connection = None
                    connection.close()  # nothing is under way on it that could be lost
            except Exception as error:  # noqa: BLE001 - a listener survives every error of its database
                if not closing.is_set():
                    silence = BackendUnavailable(NOBODY_LISTENS.format(first_line(error)))
                    runtime.logger.warning("%s", silence)
                    self._subscribers.tell(silence)
                    await runtime.wait(closing, outage.failed(time.monotonic()))

    async def _listen(self, connection: ListeningConnection, closing: Event, outage: Outage) -> None:
        if closing.is_set():
            return  # another service may be listening by now
        self.connection = connection
        async with connection.within(PING_TIMEOUT):
            await connection.listen(self._channel, self._subscribers.wake)
        outage.over(time.monotonic())
        self._subscribers.wake_all()
        while not closing.is_set():
            await connection.hear(PING_EVERY)
            async with connection.within(PING_TIMEOUT):
                await connection.execute("SELECT 1")
