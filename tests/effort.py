"""How much work a call is, whatever else the machine does."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Effort:
    """The lines of Python that have run."""

    lines: int = 0


@contextmanager
def effort() -> Iterator[Effort]:
    """Counts what this thread runs meanwhile."""
    seen = Effort()

    def trace(_: FrameType, event: str, __: Any) -> Callable[..., Any]:
        seen.lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)
