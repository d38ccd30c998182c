"""An event loop on which waiting takes no time: its clock jumps to the next thing that is to happen."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.patience import PATIENT

T = TypeVar("T")

TURN = 1e-7
"""Seconds that each turn of the loop takes: without that, who waits for less than the clock can show waits for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while anything is to be done, and jumps when nothing is."""

    now = 1_000.0

    def __init__(self) -> None:
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._jumps = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            events = super().select(PATIENT)  # only another thread can have the loop go on
            assert events, f"these wait for ever: {asyncio.all_tasks(self._jumps)}"
            return events
        events = super().select(0)
        self._jumps.now += TURN if events else max(TURN, timeout)
        return events


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on such a loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
