"""Listens on one connection for all pools of a queue, so that inserts wake the pools that wait for them.

Pools poll as well, so it may fail. It notices a dead connection at once, one whose other end is silent by a ping, and
replaces both. Since it may have missed a message meanwhile, it wakes every pool after each connect.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.backends.waking import ANYWHERE, SCHEDULES, LateRows, OnListenLost, OnTold, OnWake
from fang_core.driving import drive
from fang_core.errors import BackendError, BackendUnavailable
from fang_core.logs import SafeLogger
from fang_core.retry import Retry
from fang_redis.connections.own import OwnConnection
from fang_redis.layout import LATE, TOLD, WOKEN
from fang_redis.operations import Operation

PING_EVERY: Final = 10.0
"""Seconds between two pings of the connection."""

ANSWER_WITHIN: Final = 5.0
"""Seconds that the server has to answer a ping."""

ENDED_WITHIN: Final = 2.0
"""The longest, in seconds, that the end of the last subscription waits for the service to end."""

NOBODY_LISTENS: Final = "pools are not woken until Redis can be heard again, and poll: {}"
"""The log line and the error when the listening connection is lost, with the reason."""

_LOGGER: Final = SafeLogger("fang_redis")
_PING: Final[Operation[Any]] = Operation("PING", (), ())

Connect = Callable[[], Awaitable[OwnConnection]]


class Subscriber(NamedTuple):
    """A pool that wants to be woken."""

    task_types: frozenset[str]
    on_wake: OnWake
    on_told: OnTold
    on_listen_lost: OnListenLost


class Subscribers:
    """The pools of a queue that want to be woken, each by its store."""

    def __init__(self) -> None:
        self._subscribers: dict[object, Subscriber] = {}

    def __bool__(self) -> bool:
        return bool(self._subscribers)

    def add(self, store: object, subscriber: Subscriber) -> None:
        """Has it called."""
        self._subscribers[store] = subscriber

    def remove(self, store: object) -> None:
        """Forgets it."""
        self._subscribers.pop(store, None)

    def hear(self, message: str) -> None:
        """Calls the pools that a message of the queue's channel concerns; ``fang_redis.layout`` lists the messages."""
        kind, of = message[:1], message[1:]
        for task_types, on_wake, on_told, _ in tuple(self._subscribers.values()):
            if kind == WOKEN and of in task_types:
                on_wake(None)
            elif kind == LATE and of in task_types:
                on_wake(LateRows(of, 0, None))
            elif kind == TOLD and (pool_id := _id_in(of)) is not None:
                on_told(pool_id)

    def wake_all(self) -> None:
        """Something may have been missed. A pool reads messages to itself with its next beat at the latest."""
        for _, on_wake, on_told, _ in tuple(self._subscribers.values()):
            on_wake(ANYWHERE)
            on_told(SCHEDULES)

    def tell(self, silence: BackendError) -> None:
        """Tells every pool that none is woken for a while, and why."""
        for each in tuple(self._subscribers.values()):
            each.on_listen_lost(silence)


class Ear(ABC):
    """One life of a listener: it ends with the last subscriber. Each mode runs it in its own way."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: OwnConnection | None = None
        self.is_closing = False

    async def listen(self, channel: str, subscribers: Subscribers) -> None:
        """Listens until it is closed, and survives every error of the server."""
        retry, is_lost = Retry(), False
        while not self.is_closing:
            try:
                self._connection = await self._connect()
                try:
                    await self._connection.subscribe(channel)
                    if is_lost:
                        _LOGGER.warning("Redis can be heard again, and inserts wake pools")
                    retry.succeeded()
                    is_lost = False
                    await self._hear(self._connection, subscribers)
                finally:
                    self._connection.close()
                    await self._connection.ended()
            except BackendError as error:
                if not self.is_closing:
                    is_lost = True
                    silence = BackendUnavailable(NOBODY_LISTENS.format(error))
                    _LOGGER.warning("%s", silence)
                    subscribers.tell(silence)
                    await self._wait(retry.sleep())

    async def _hear(self, connection: OwnConnection, subscribers: Subscribers) -> None:
        subscribers.wake_all()
        while not self.is_closing:
            if not await connection.hear(PING_EVERY, subscribers.hear):
                await connection.run(_ping())

    def close(self) -> None:
        """Asks it to end, and does not wait for that."""
        self.is_closing = True
        if self._connection is not None:
            self._connection.interrupt()

    @abstractmethod
    def start(self, channel: str, subscribers: Subscribers) -> None:
        """Begins to listen."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Returns whether nothing listens any more, since its event loop has ended, or its process was forked."""

    @abstractmethod
    async def ended(self) -> None:
        """Waits for its end, for ``ENDED_WITHIN`` at most."""

    @abstractmethod
    async def _wait(self, seconds: float) -> None:
        """Waits so long, or until it is closed."""


class Listener:
    """Has an ear while there is a subscriber.

    Args:
        channel: the queue's channel.
        new_ear: makes an ear of the mode.
    """

    def __init__(self, channel: str, new_ear: Callable[[], Ear]) -> None:
        self._channel = channel
        self._new_ear = new_ear
        self._changing = threading.Lock()  # in asyncio no task ever waits for it
        self._subscribers = Subscribers()
        self._ear: Ear | None = None

    def subscribe(
        self,
        store: object,
        task_types: Sequence[str],
        on_wake: OnWake,
        on_told: OnTold,
        on_listen_lost: OnListenLost,
    ) -> None:
        """Calls these, on the event loop or on the listener's thread, until ``unsubscribe``."""
        with self._changing:
            if self._ear is not None and self._ear.has_ended:  # with all who subscribed to it
                self._ear, self._subscribers = None, Subscribers()
            self._subscribers.add(store, Subscriber(frozenset(task_types), on_wake, on_told, on_listen_lost))
            if self._ear is None:
                self._ear = self._new_ear()
                self._ear.start(self._channel, self._subscribers)

    async def unsubscribe(self, store: object) -> None:
        """Ends a subscription; with the last one the ear ends and its connection is closed. Idempotent."""
        with self._changing:
            self._subscribers.remove(store)
            if self._subscribers or self._ear is None:
                return
            ear, self._ear = self._ear, None
        ear.close()
        await ear.ended()


class ThreadedEar(Ear):
    """Listens on a thread of its own."""

    def start(self, channel: str, subscribers: Subscribers) -> None:
        """See ``Ear.start``."""
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=lambda: drive(self.listen(channel, subscribers)), name="fang-redis-listener", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """See ``Ear.close``."""
        super().close()
        self._closing.set()

    @property
    def has_ended(self) -> bool:
        """See ``Ear.has_ended``."""
        return not self._thread.is_alive()

    async def ended(self) -> None:
        """See ``Ear.ended``."""
        if self._thread is not threading.current_thread():
            self._thread.join(ENDED_WITHIN)

    async def _wait(self, seconds: float) -> None:
        self._closing.wait(seconds)


def _ping() -> Any:
    return (yield from _PING)


def _id_in(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
