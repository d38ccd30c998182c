"""Runs coroutines that are written once for both modes, in a thread: there whatever they await blocks."""

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, on this thread, and returns what it returns. Raises what it raises."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine suspended that runs in a thread")
