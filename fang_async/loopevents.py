"""Hooks of a pool's events on the event loop that the pool runs on, whatever thread sees what they tell."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from fang_core.events import Dispatcher


class LoopDispatcher(Dispatcher):
    """Calls the listeners of another dispatcher on the loop that runs where this is made.

    What a pool's heart sees, on a thread of its own, is told on the loop as soon as the loop goes on: while a run
    blocks the loop no hook is called. The heart's line in the log does not wait for that.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher.listeners)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._context = copy_context()

    def emit(self, hook: Callable[..., None], *args: Any) -> None:
        """See ``Dispatcher.emit``; may be called on any thread."""
        if threading.get_ident() == self._thread:
            super().emit(hook, *args)
        elif self:
            with suppress(RuntimeError):  # the loop is closed: the pool has ended
                self._loop.call_soon_threadsafe(partial(super().emit, hook, *args), context=self._context)
