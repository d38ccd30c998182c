"""Cuts connections: where a server does not answer, as libpq's synchronous calls have no timeout, and in a child."""

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg

from fang_core.forks import ForkWatch, in_child

C = TypeVar("C", bound=psycopg.Connection[Any])

_ASK_AGAIN: Final = 0.2  # seconds
_UNSHARED_TRIES: Final = 5  # a process that forks all the time gets a connection, too


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


def connect_within(seconds: float, connect: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
    """What ``connect`` returns; raises what it raises, or ``psycopg.OperationalError`` after so many seconds.

    An application's engine may wait for minutes, and looking up a host's name has no timeout at all. It is left alone
    then, on a thread of its own, and what it may still bring is closed.
    """
    attempt: Future[psycopg.Connection[Any]] = Future()

    def work() -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001 - the caller's to see
            if attempt.set_running_or_notify_cancel():
                attempt.set_exception(error)
        else:
            if attempt.set_running_or_notify_cancel():
                attempt.set_result(connection)
            else:
                connection.close()

    threading.Thread(target=work, name="fang-connecting", daemon=True).start()
    try:
        return attempt.result(seconds)
    except TimeoutError:
        if attempt.cancel():
            raise psycopg.OperationalError(f"no connection within {seconds:g} s") from None
        return attempt.result()


def unshared(connect: Callable[[], C]) -> C:
    """Returns a connection that is dead in each child that is forked from now on, and that no child has a copy of.

    A child that is forked while a connect is under way inherits its socket, and nothing severs it there: the server
    would not see when the parent dies. So such a connection is cut, and another one is made.
    """
    for tries_left in reversed(range(_UNSHARED_TRIES)):
        watch = ForkWatch()
        connection = connect()
        sever_in_child(connection)
        if not watch.has_forked() or not tries_left:
            break
        cut(connection)
        connection.close()
    return connection


def sever_in_child(connection: psycopg.Connection[Any]) -> None:
    """Has it dead in each child that is forked. That keeps the number of the socket, but not the socket, which is the
    parent's: nothing that libpq still says there is heard, and the server sees when the parent dies."""
    in_child(connection, lambda inherited: _sever(inherited.fileno()))


def _sever(number: int) -> None:
    ours, other = socket.socketpair()
    with ours, other:
        os.dup2(ours.fileno(), number, inheritable=False)


def cancel(connection: psycopg.Connection[Any], seconds: float) -> None:
    """Has the server end the statement that is under way, and answer; asks for that again and again, for so long.

    What it is asked before it has begun the statement, as on a crowded machine, it forgets.
    """
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as answer:
        answer.register(connection, selectors.EVENT_READ)
        while not answer.select(0) and time.monotonic() < end:
            connection.cancel_safe(timeout=seconds)
            answer.select(_ASK_AGAIN)


def cut(connection: psycopg.Connection[Any] | None) -> None:
    """Has whoever waits on this connection fail at once, on whatever thread."""
    with suppress(psycopg.Error, OSError):
        if connection is not None and not connection.closed:
            with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
