"""What tasks can be told to do, to themselves, to their process, and to their connections."""

import asyncio
import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn
from uuid import UUID

import asyncpg
import psycopg
from sqlalchemy import Engine, text

from fang_core import Interrupted, Snooze, current_run
from tests.faults.ledger import Acknowledgements, Ledger

LONG: Final = 3600.0


class Work:
    """What a worker process knows beside its pool; set by ``at_work``."""

    ledger: Ledger
    acknowledgements: Acknowledgements
    url: str
    engine: Engine | None


def is_sqlite(url: str) -> bool:
    """Whether it is the URL of a SQLite file."""
    return url.startswith("sqlite:")


def is_redis(url: str) -> bool:
    """Whether it is the URL of a Redis."""
    return url.startswith(("redis:", "unix:"))


def at_work(directory: Path, url: str, pool_id: Callable[[], UUID | None], engine: Engine | None) -> None:
    """This process runs tasks."""
    Work.ledger = Ledger(directory / "ledger", pool_id)
    Work.acknowledgements = Acknowledgements(directory / "acknowledgements")
    Work.url, Work.engine = url, engine


def set_up_in_child() -> None:
    """Sets up what ``at_work`` has set up in the process of the pool."""
    if not hasattr(Work, "ledger"):
        directory, url = os.environ["FANG_FAULTS_DIRECTORY"], os.environ["FANG_FAULTS_URL"]
        at_work(Path(directory), url, lambda: current_run().pool_id, None)


def in_child(_: Any) -> AbstractContextManager[None]:
    """Is the middleware of pools whose suspects run in child processes."""
    set_up_in_child()
    return nullcontext()


def nothing(*_: Any) -> None:
    pass


def _die(_: float = 0) -> None:
    """By SIGKILL, and before the next bytecode."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(LONG)


def die_once() -> None:
    if current_run().task.attempt == 1:
        _die()


def _segfault(_: float) -> None:
    ctypes.string_at(0)


def _eat_memory(_: float) -> None:
    """Until somebody kills the process for it."""
    eaten = []
    while len(eaten) < 600:
        eaten.append(b"x" * 1_000_000)
    time.sleep(LONG)


def _hold_gil_once(seconds: float) -> None:
    """In C code that keeps the GIL: no Python runs anywhere in this process."""
    if current_run().task.attempt == 1:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def _hang_once(_: float) -> None:
    """For ever, in C code that has let go of the GIL, and that goes on after a signal."""
    while current_run().task.attempt == 1:
        ctypes.CDLL(None).sleep(int(LONG))


def _spin(seconds: float) -> None:
    """Python code that never waits: a busy thread, or a blocked event loop."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sum(range(100))


def _loop_once(_: float) -> None:
    """For ever, in Python."""
    while current_run().task.attempt == 1:
        time.sleep(0.001)


def _loop_until_charged(_: float) -> None:
    """For ever, in Python, unless a failure was charged before."""
    while not current_run().task.retries:
        time.sleep(0.001)


def _spin_once(_: float) -> None:
    """For ever, in Python code that never waits."""
    while current_run().task.attempt == 1:
        sum(range(100))


def _sleep_once(_: float) -> None:
    """In C code that lets go of the GIL."""
    if current_run().task.attempt == 1:
        time.sleep(LONG)


def _receive_once(_: float) -> None:
    """From a socket without a timeout, whose peer is silent."""
    if current_run().task.attempt == 1:
        mine, _peer = socket.socketpair()
        mine.recv(1)


def _swallow_once(_: float) -> None:
    """Goes on for ever when it is interrupted."""
    with suppress(Interrupted):
        _loop_once(0)
    _loop_once(0)


async def _loop_once_async() -> None:
    while current_run().task.attempt == 1:  # noqa: ASYNC110 - it is to wake up often
        await asyncio.sleep(0.001)


async def _loop_until_charged_async() -> None:
    while not current_run().task.retries:  # noqa: ASYNC110 - it is to wake up often
        await asyncio.sleep(0.001)


async def _sleep_once_async() -> None:
    """Blocks the loop for longer than a limit of a second, and then waits for ever."""
    if current_run().task.attempt == 1:
        time.sleep(2)  # noqa: ASYNC251 - it is to block
        await asyncio.sleep(LONG)


async def _receive_once_async() -> None:
    if current_run().task.attempt == 1:
        mine, _peer = socket.socketpair()
        mine.setblocking(False)
        await asyncio.get_running_loop().sock_recv(mine, 1)


async def _swallow_once_async() -> None:
    with suppress(asyncio.CancelledError):
        await _loop_once_async()
    with suppress(asyncio.CancelledError):
        await _loop_once_async()
    await _loop_once_async()


def _snooze_once(_: float) -> None:
    if current_run().task.attempt == 1:
        raise Snooze(timedelta(milliseconds=100))


class Unprintable(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no text for this")

    __repr__ = __str__


def _recurse() -> None:
    _recurse()


def _raise(make: Callable[[], BaseException]) -> Callable[[float], None]:
    def deed(_: float) -> None:
        if current_run().task.attempt == 1:
            raise make()

    return deed


LEFT_OPEN: Final[list[Any]] = []
"""Keeps connections from being collected, and so closed."""

_LEAVE_OPEN: Final = "SELECT count(*) FROM fang.fang_pools; LOCK TABLE fang.fang_pools IN ACCESS SHARE MODE"


def _leave_transaction_open(_: float) -> None:
    """A snapshot and a lock for as long as the process lives, and a connection that never comes back."""
    connection: Any = psycopg.connect(Work.url) if Work.engine is None else Work.engine.raw_connection()
    connection.cursor().execute(_LEAVE_OPEN)
    LEFT_OPEN.append(connection)


HOSTILE: Final = (
    "search_path = nowhere",
    "TimeZone = 'Asia/Kathmandu'",
    "DateStyle = 'German'",
    "default_transaction_read_only = on",
    "default_transaction_isolation = serializable",
)


def _change_session(_: float) -> None:
    """On a connection that the pool uses next: its settings stay, since they were committed."""
    assert Work.engine is not None
    with Work.engine.connect() as connection:
        for setting in HOSTILE:
            connection.execute(text(f"SET SESSION {setting}"))
        connection.commit()


async def _leave_async_transaction_open() -> None:
    connection = await asyncpg.connect(Work.url)
    await connection.execute("BEGIN; " + _LEAVE_OPEN)
    LEFT_OPEN.append(connection)


async def _change_async_session() -> None:
    connection = await asyncpg.connect(Work.url)
    await connection.execute("; ".join(f"SET SESSION {setting}" for setting in HOSTILE))
    await connection.close()


EXCEPTIONS: Final[dict[str, Callable[[float], None]]] = {
    "raise Exception": _raise(lambda: Exception("nothing special")),
    "raise SystemExit": _raise(lambda: SystemExit(3)),
    "raise KeyboardInterrupt": _raise(KeyboardInterrupt),
    "raise CancelledError": _raise(asyncio.CancelledError),
    "raise GeneratorExit": _raise(GeneratorExit),
    "raise StopIteration": _raise(lambda: StopIteration(1)),
    "raise RecursionError": lambda _: _recurse() if current_run().task.attempt == 1 else None,
    "raise MemoryError": _raise(MemoryError),
    "raise ExceptionGroup": _raise(lambda: ExceptionGroup("several", [ValueError("one"), OSError("two")])),
    "raise BaseExceptionGroup": _raise(lambda: BaseExceptionGroup("several", [KeyboardInterrupt(), SystemExit()])),
    "raise Unprintable": _raise(Unprintable),
    "raise 50 MB": _raise(lambda: Exception("x" * 50_000_000)),
    "raise NUL and surrogate": _raise(lambda: Exception("a\0b\ud800c")),
}

DEEDS: Final[dict[str, Callable[[float], None]]] = {
    "work": nothing,
    "be stubborn": nothing,
    "exit": lambda _: os._exit(9),
    "segfault": _segfault,
    "kill itself": _die,
    "eat memory": _eat_memory,
    "hold the GIL once": _hold_gil_once,
    "hang once": _hang_once,
    "spin": _spin,
    "snooze once": _snooze_once,
    "loop until charged": _loop_until_charged,
    "spin once": _spin_once,
    "sleep once": _sleep_once,
    "receive once": _receive_once,
    "swallow once": _swallow_once,
    "die after its effect": nothing,
    "leave a transaction open": _leave_transaction_open,
    "change the session": _change_session,
    **EXCEPTIONS,
}
ON_THEIR_OWN: Final = {"hold the GIL once", "spin"}
"""Deeds that take the ``seconds`` themselves."""

AFTERWARDS: Final[dict[str, Callable[[], None]]] = {"die after its effect": die_once}
"""What is done once the ledger says that the run has ended well."""

ASYNC_DEEDS: Final = {
    "loop until charged": _loop_until_charged_async,
    "spin once": _loop_once_async,
    "sleep once": _sleep_once_async,
    "receive once": _receive_once_async,
    "swallow once": _swallow_once_async,
    "leave a transaction open": _leave_async_transaction_open,
    "change the session": _change_async_session,
}
