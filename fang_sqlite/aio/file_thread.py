"""Runs blocking calls of event loops on a thread: each to its end, even if its caller is cancelled."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from fang_core.driving import NO_LOOP
from fang_core.errors import UsageError
from fang_core.interpreter.forks import in_child

P = ParamSpec("P")
T = TypeVar("T")

_Call = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class FileThread:
    """Begins with the first call, and ends with ``close()``; a call after that begins it again. Any loop may call.

    A call that was cancelled before its turn is left out. One that has begun goes on to its end, so that no transaction
    is left half done.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        in_child(self, FileThread._forget)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function on the thread; returns what it returns, and raises what it raises."""
        return await self._put(partial(function, *args, **kwargs))

    async def finish(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Does the same with a function that runs even if the caller is cancelled, as it gives something back."""
        return await asyncio.shield(self._put(partial(function, *args, **kwargs)))

    def _put(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        try:
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        except RuntimeError:
            raise UsageError(NO_LOOP) from None
        with self._starting:
            if self._thread is None:
                self._calls = SimpleQueue()
                self._thread = threading.Thread(target=_serve, args=(self._calls,), name=self._name, daemon=True)
                self._thread.start()
            self._calls.put((function, future))
        return future

    def close(self) -> None:
        """Has the thread end behind the calls that were made; does not wait for it."""
        with self._starting:
            if self._thread is not None:
                self._calls.put(None)
                self._thread = None

    def _forget(self) -> None:
        """Makes a child's copy one whose thread has not begun: the parent's does not go on there."""
        self._calls, self._thread, self._starting = SimpleQueue(), None, threading.Lock()


def _serve(calls: "SimpleQueue[_Call | None]") -> None:
    while (call := calls.get()) is not None:
        function, future = call
        if not future.cancelled():
            _run(function, future)
        del call, function, future  # what they hold must not live until the next call


def _run(function: Callable[[], Any], future: "asyncio.Future[Any]") -> None:
    try:
        done = partial(_succeed, future, function())
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        done = partial(_fail, future, error)
    with suppress(RuntimeError):  # the loop was closed meanwhile: no caller waits any more
        future.get_loop().call_soon_threadsafe(done)


def _succeed(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
