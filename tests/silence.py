"""Connections that wait for an answer: their time passes for those alone that a proxy has silenced, and then quickly.

A machine that stands still for seconds would let the time of the others pass as well.
"""

import asyncio
import inspect
import itertools
import os
import socket
import threading
from types import SimpleNamespace
from typing import Any, Final

import pytest

import fang_async.connection
import fang_threaded.connection
from tests.proxy import Proxy

LOOK_EVERY: Final = 0.02
"""Seconds between two looks of asyncio's."""


def hurry(patch: pytest.MonkeyPatch, proxy: Proxy) -> threading.Event:
    """Has statements on silenced connections be given up almost at once, and no other ones.

    Returns what a test may clear to have time stand still for those, too, and set again.
    """
    passes = threading.Event()
    passes.set()
    seconds = itertools.count(step=1_000)

    def monotonic() -> float:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        connection = frame.f_back.f_locals["self"]
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
            return next(seconds) if passes.is_set() and proxy.has_silenced(duplicate.getsockname()) else 0.0

    patch.setattr(fang_threaded.connection, "time", SimpleNamespace(monotonic=monotonic))
    connections = fang_async.connection.Connection
    look = connections._look

    def look_later(connection: Any) -> None:
        connection._next_look = asyncio.get_running_loop().call_later(LOOK_EVERY, connection._look)

    def looks(connection: Any) -> None:
        where = fang_async.connection.socket_of(connection)
        if where is None or not passes.is_set() or not proxy.has_silenced(where.getsockname()):
            connection._looks = 0
        look(connection)

    patch.setattr(connections, "_look_later", look_later)
    patch.setattr(connections, "_look", looks)
    return passes
