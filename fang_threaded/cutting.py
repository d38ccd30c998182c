"""Ends the wait for a server that does not answer: libpq's synchronous calls have no timeout of their own."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg


@contextmanager
def cut_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """What waits on this connection inside of the block fails after so many seconds; the connection is dead then."""
    timer = threading.Timer(seconds, cut, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # from here on the number of the socket may be another's


def cut(connection: psycopg.Connection[Any] | None) -> None:
    """Has whoever waits on this connection fail at once, on whatever thread."""
    with suppress(psycopg.Error, OSError):
        if connection is not None and not connection.closed:
            with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
