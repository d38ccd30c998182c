"""Runs coroutines that are written once for both modes, in a thread: there whatever they await blocks."""

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

NO_LOOP: Final = (
    "no event loop of asyncio runs here: use asyncio.run, or anyio's asyncio backend; "
    "with trio, make a queue for threads and call it through trio.to_thread.run_sync"
)
"""The text of the ``UsageError`` for a call of asyncio's mode outside of it."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, on this thread, and returns what it returns. Raises what it raises."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine suspended that runs in a thread")
