"""One LISTEN connection for all pools of a queue: inserts wake the pools that wait for them.

It is an extra: pools poll beneath. A connection that is dead is noticed at once, one that is half-open by a ping, and
replaced; since a notification may have been missed meanwhile, every pool is woken after each connect.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import sql

from fang_core.errors import BackendUnavailable
from fang_core.logs import SafeLogger
from fang_core.outage import Outage
from fang_core.store import OnSilence, OnWake
from fang_postgres.waking import NOBODY_LISTENS, Subscribers
from fang_threaded.cutting import cut, cut_after

logger = SafeLogger("fang_threaded")

PING_EVERY: Final = 10.0
"""Seconds without a word after which the connection is asked whether it lives."""

PING_TIMEOUT: Final = 5.0
"""Seconds that it has to answer."""


class Listener:
    """A thread that runs while somebody has subscribed.

    Args:
        connect: makes a connection of its own, which the listener closes.
        channel: the name to LISTEN to.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], channel: str) -> None:
        self._connect = connect
        self._channel = channel
        self._subscribers = Subscribers()
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None

    def subscribe(
        self, subscriber: object, task_types: tuple[str, ...], on_wake: OnWake, on_silence: OnSilence
    ) -> None:
        """Calls ``on_wake`` on the listener's thread when a task of these types was inserted, and ``on_silence`` when
        the connection is lost."""
        with self._changing:
            self._subscribers.add(subscriber, task_types, on_wake, on_silence)
            if self._thread is None:
                self._closing = threading.Event()
                self._thread = threading.Thread(
                    target=self._loop, args=(self._closing,), name="fang-listener", daemon=True
                )
                self._thread.start()

    def unsubscribe(self, subscriber: object) -> None:
        """Ends it; with the last one the thread ends and its connection is closed. Idempotent."""
        with self._changing:
            self._subscribers.remove(subscriber)
            thread = self._thread
            if thread is None or self._subscribers:
                return
            self._thread = None
            self._closing.set()
        cut(self._connection)
        thread.join(2.0)

    def _loop(self, closing: threading.Event) -> None:
        outage = Outage(logger, "LISTEN works again, and inserts wake pools")
        while not closing.is_set():
            try:
                with self._connect() as connection:
                    if closing.is_set():
                        return  # another thread may be listening by now
                    self._connection = connection
                    self._listen(connection)
                    outage.over(time.monotonic())
                    self._subscribers.wake_all()
                    self._hear(connection, closing)
            except Exception as error:  # noqa: BLE001 - a listener outlives whatever its database does
                if not closing.is_set():
                    silence = BackendUnavailable(NOBODY_LISTENS.format(_line(error)))
                    logger.warning("%s", silence)
                    self._subscribers.tell(silence)
                    closing.wait(outage.failed(time.monotonic()))

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        with cut_after(connection, PING_TIMEOUT):
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))

    def _hear(self, connection: psycopg.Connection[Any], closing: threading.Event) -> None:
        while not closing.is_set():
            for notification in connection.notifies(timeout=PING_EVERY):
                self._subscribers.wake(notification.payload)
            with cut_after(connection, PING_TIMEOUT):
                connection.execute("SELECT 1")


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
