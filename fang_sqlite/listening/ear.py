"""Notices commits of other processes for the pools of this one: a thread reads a socket and the file's version."""

import select
import socket
import threading
import time
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final, Protocol

from fang_core.errors import BackendError
from fang_sqlite.listening import sockets

LOOK_EVERY: Final = 0.1
"""Seconds between two looks whether something was committed, while a pool waits."""

MISS_EVERY: Final = 1.0
"""Seconds between two checks whether the socket was removed."""

AGAIN_AFTER: Final = 1.0
"""Seconds after which it tries again to listen."""

_LONGEST: Final = 1 << 18
"""Bytes of a datagram."""

_MOST_AT_ONCE: Final = 100


class Head(Protocol):
    """Gets what an ear hears; the ear's thread calls all methods."""

    def hear(self, message: bytes | None) -> None:
        """Is called with each datagram, and with None if something may have been committed."""
        ...

    def is_waited_for(self) -> bool:
        """Returns whether a pool waits."""
        ...

    def data_version(self) -> int:
        """Returns a number that changes when anybody commits anything."""
        ...

    def reached_anew(self) -> None:
        """Is called when the socket was removed and had to be made again."""
        ...

    def lost(self, error: BackendError) -> None:
        """Is called with the reason when nothing can be heard for a while."""
        ...


class Ear:
    """One socket with its thread.

    Args:
        name: the name of the socket's file.
    """

    def __init__(self, directory: Path, name: str, head: Head) -> None:
        self.name = name
        self._directory = directory
        self._head = head
        self._socket: socket.socket | None = None
        self._alarm, self._to_alarm = socket.socketpair()
        self._poll = select.poll()
        self._poll.register(self._alarm, select.POLLIN)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="fang-sqlite-ear", daemon=True)

    def start(self) -> None:
        """Opens the socket, so that it can be reached from now on, and begins to hear."""
        with suppress(OSError):  # the thread tries again, and says why it cannot
            self._bind()
        self._thread.start()

    def look_soon(self) -> None:
        """Has it look at the file from now on, since a pool waits."""
        with suppress(OSError):  # closed, or there is enough to read
            self._to_alarm.send(b"!", socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Ends it, and removes the socket."""
        self._is_closed = True
        self.look_soon()
        if self._thread is not threading.current_thread():
            self._thread.join(AGAIN_AFTER)

    def forget(self) -> None:
        """Closes the sockets; in a child, its copies of them."""
        for each in (self._socket, self._alarm, self._to_alarm):
            if each is not None:
                each.close()

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self._listen()
            except (OSError, BackendError) as error:
                lost = (
                    error if isinstance(error, BackendError) else BackendError(f"{self._directory}: {error.strerror}")
                )
                self._head.lost(lost)
                self._wait(AGAIN_AFTER)
        with suppress(OSError):  # if the directory is not writable any more
            sockets.remove(self._directory, self.name)
        self.forget()

    def _listen(self) -> None:
        version: int | None = None  # whatever was committed before the first look may have been missed
        looked = missed = -inf
        while not self._is_closed:
            if time.monotonic() > missed + MISS_EVERY:
                missed = time.monotonic()
                self._reach_again()
            is_waited_for = self._head.is_waited_for()
            for message in self._messages(looked + LOOK_EVERY - time.monotonic() if is_waited_for else None):
                self._head.hear(message)
            if is_waited_for and time.monotonic() >= looked + LOOK_EVERY:
                before, version, looked = version, self._head.data_version(), time.monotonic()
                if version != before:
                    self._head.hear(None)

    def _messages(self, seconds: float | None) -> list[bytes]:
        """Returns the datagrams that have come; waits for the first one for so long at most."""
        messages: list[bytes] = []
        if not self._wait(seconds):
            return messages
        with suppress(BlockingIOError):
            while self._socket is not None and len(messages) < _MOST_AT_ONCE:
                messages.append(self._socket.recv(_LONGEST))
        return messages

    def _wait(self, seconds: float | None) -> bool:
        """Waits until there is something to read, or this time is over; returns whether there is."""
        if not self._poll.poll(None if seconds is None else max(0.0, seconds * 1000)):
            return False
        with suppress(BlockingIOError):
            self._alarm.recv(1 << 12, socket.MSG_DONTWAIT)
        return True

    def _reach_again(self) -> None:
        """Makes the socket again if it was removed."""
        if self._socket is None or not (self._directory / self.name).exists():
            self._bind()
            self._head.reached_anew()
            self._head.hear(None)

    def _bind(self) -> None:
        self._directory.mkdir(exist_ok=True)
        if self._socket is not None:
            self._poll.unregister(self._socket)
            self._socket.close()
            self._socket = None
        made = sockets.unix_socket()
        try:
            sockets.bind(made, self._directory, self.name)
        except OSError:
            made.close()
            raise
        self._socket = made
        self._poll.register(made, select.POLLIN)
