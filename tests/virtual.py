"""An event loop on which waiting takes no time: its clock jumps to the next thing that is to happen."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from tests.patience import PATIENT

T = TypeVar("T")

TURN = 1e-7
"""Seconds that each turn of the loop takes: without that, who waits for less than the clock can show waits for ever."""


MOST_TURNS: Final = 100_000
"""Turns without a jump after which the loop is taken to spin: some task waits for no time, again and again."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while anything is to be done, and jumps when nothing is."""

    now = 1_000.0
    turns = 0  # since the last jump

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
        loop = self._jumps
        loop.turns = loop.turns + 1 if events or timeout <= TURN else 0
        assert loop.turns < MOST_TURNS, f"one of these spins: {asyncio.all_tasks(loop)}"
        loop.now += TURN if events else max(TURN, timeout)
        return events


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on such a loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
