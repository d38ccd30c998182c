"""Calls the hooks of a pool's events on the event loop that the pool runs on, whatever thread emits them."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from fang_core.events import EventBus


class LoopEventBus(EventBus):
    """Calls the listeners of another event bus on the loop that runs when this is made.

    Events of a pool's heart, which has its own thread, are emitted on the loop as soon as that goes on: while a run
    blocks the loop no hook is called. The heart's line in the log does not wait for that.
    """

    def __init__(self, bus: EventBus) -> None:
        super().__init__(bus.listeners)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._context = copy_context()

    def emit(self, hook: Callable[..., None], *args: Any) -> None:
        """See ``EventBus.emit``; may be called on any thread."""
        if threading.get_ident() == self._thread:
            super().emit(hook, *args)
        elif self:
            with suppress(RuntimeError):  # the loop is closed: the pool has ended
                self._loop.call_soon_threadsafe(partial(super().emit, hook, *args), context=self._context)
