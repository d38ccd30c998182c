"""Ends waits on a connection after a time, as libpq's synchronous calls have no timeout."""

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

_ASK_AGAIN: Final = 0.2  # seconds


@contextmanager
def cut_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Cuts the connection after ``seconds``, unless the block ends before: a wait in the block then fails.

    If no thread can be started, the block has only the limits of the connection itself: a pool that could not beat
    would lose its tasks to others.
    """
    timer = threading.Timer(seconds, cut, [connection])
    timer.daemon = True
    has_timer = _starts(timer)
    try:
        yield
    finally:
        if has_timer:
            timer.cancel()
            timer.join()  # from here on another connection may get the number of the socket


def connect_within(seconds: float, connect: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
    """Returns what ``connect`` returns; raises what it raises, or ``psycopg.OperationalError`` after ``seconds``.

    An application's engine may wait for minutes, and looking up a host's name has no timeout at all. After ``seconds``
    the call is left alone, on its own thread; a connection that it still makes is closed. If no thread can be started,
    this waits for the call, however long that takes.
    """
    attempt: Future[psycopg.Connection[Any]] = Future()

    def work() -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            if attempt.set_running_or_notify_cancel():
                attempt.set_exception(error)
        else:
            if attempt.set_running_or_notify_cancel():
                attempt.set_result(connection)
            else:
                connection.close()

    if not _starts(threading.Thread(target=work, name="fang-connecting", daemon=True)):
        return connect()
    try:
        return attempt.result(seconds)
    except TimeoutError:
        if attempt.cancel():
            raise psycopg.OperationalError(f"no connection within {seconds:g} s") from None
        return attempt.result()


def _starts(thread: threading.Thread) -> bool:
    """Starts the thread; returns False at the limit of threads, or if the interpreter is ending.

    Python 3.12.0 to 3.12.2 start no thread once the main one has ended, though threads and ``atexit`` functions go on.
    """
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def cancel(connection: psycopg.Connection[Any], seconds: float) -> None:
    """Asks the server to cancel the current statement, repeatedly until it answers, for ``seconds``.

    A server that has not begun the statement yet, as on a crowded machine, forgets the request.
    """
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as answer:
        answer.register(connection, selectors.EVENT_READ)
        while not answer.select(0) and time.monotonic() < end:
            connection.cancel_safe(timeout=seconds)
            answer.select(_ASK_AGAIN)


def cut(connection: psycopg.Connection[Any] | None) -> None:
    """Shuts the connection's socket down, so that a wait on it fails at once, on whatever thread."""
    with suppress(psycopg.Error, OSError):
        if connection is not None and not connection.closed:
            with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
