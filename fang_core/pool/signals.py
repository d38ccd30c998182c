"""Handles SIGTERM and SIGINT while a pool runs: the first one stops it, a later one ends the process."""

import os
import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any, Final, Self

from fang_core.interpreter.forks import in_child

HANDLED: Final = (signal.SIGTERM, signal.SIGINT)

COUNTS_AGAIN_AFTER: Final = 1.0
"""Seconds after the first signal before another one counts: a terminal, or a process group and its supervisor, may send
two within milliseconds."""


class StopSignals:
    """Handles SIGTERM and SIGINT while it is entered, if that is in the main thread, and restores the former handlers.

    The first signal calls ``on_first`` and ends ``wait()``. A signal that comes a second or more later ends the process
    at once, by its default action.

    If the application, or the server that it runs in, has set a handler of its own before, that is called too, each
    time, and decides whether the process ends: then ``on_first`` is not called, and a later signal does not end the
    process. Python's own handlers for Ctrl-C do not count.

    It uses ``signal.signal`` and not ``loop.add_signal_handler``: the former handler is known and can be restored, and
    every loop can do it. A handler that the application has added to its loop is still called, since the loop hears of
    every signal that has any handler in Python.

    Args:
        on_first: called by the first signal's handler itself, even if no call waits.
        shares: whether handlers of the application are called too.

    Attributes:
        ends_process: whether a signal has come that the application does not handle itself.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None, *, shares: bool = True) -> None:
        self.ends_process = False
        self._on_first = on_first
        self._shares = shares
        self._came_at: float | None = None
        self._is_entered = False
        self._former: dict[int, Any] = {}

    def wake(self) -> None:
        """Ends ``wait()`` without a signal."""
        raise NotImplementedError

    async def wait(self) -> None:
        """Waits for the first signal, or for ``wake()``."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._is_entered = True
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                former = signal.getsignal(number)
                if former is not None:  # otherwise C code has set it, and it could not be restored
                    self._former[number] = former
                    signal.signal(number, self._handle)
        in_child(self, StopSignals._give_back)  # a signal ends a child as it would without a pool
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        former = self._former_of(number)
        if not self._is_entered:  # a handler that replaced this one still calls it
            _act_as(former, number, frame)
            return
        now, is_shared = monotonic(), self._is_shared(number)
        if self._came_at is None:
            self._came_at = now
            self.ends_process = not is_shared
            if self.ends_process:
                self._on_first()
            self.wake()
        elif not is_shared and now - self._came_at >= COUNTS_AGAIN_AFTER:
            end_now(number)
        if is_shared or _outer(former) is not None:
            former(number, frame)

    def _is_shared(self, number: int) -> bool:
        former = self._former_of(number)
        outer = _outer(former)
        if outer is not None:
            return outer._is_shared(number)
        return self._shares and callable(former) and not _is_pythons(former)

    def _former_of(self, number: int) -> Any:
        """Returns the handler that was set before, skipping those of pools that have ended meanwhile."""
        former = self._former[number]
        outer = _outer(former)
        return former if outer is None or outer._is_entered else outer._former_of(number)

    def _give_back(self) -> None:
        if not self._is_entered:
            return
        self._is_entered = False
        for number in self._former:
            if signal.getsignal(number) == self._handle:  # otherwise another handler was set since, and stays
                signal.signal(number, self._former_of(number))


def _outer(handler: Any) -> StopSignals | None:
    """Returns the other ``StopSignals`` that a handler belongs to: several pools may run in one process."""
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, StopSignals) else None


def _is_pythons(handler: Any) -> bool:
    """Returns whether the handler is Python's, which raises KeyboardInterrupt, or that of ``asyncio.run``."""
    module = getattr(getattr(handler, "func", None), "__module__", None)
    return handler is signal.default_int_handler or module == "asyncio.runners"


def _act_as(handler: Any, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def end_now(number: int) -> None:
    """Ends the process as this signal does by default."""
    if os.getpid() == 1:  # the kernel has no default action for process 1
        os._exit(128 + number)
    _act_as(signal.SIG_DFL, number, None)
