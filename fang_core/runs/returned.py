"""Refuses what a run returned though nothing has been done with it: otherwise the task would end as if it had been."""

from collections.abc import AsyncGenerator, Coroutine, Generator

from fang_core.errors import UsageError
from fang_core.lifecycle import Cancel, RetryAfter, Snooze


def refuse_undone(returned: object) -> None:
    """Raises ``UsageError`` if a run returned a coroutine, a generator, or what it should have raised.

    A decorator that is made for plain functions hides that a function is async, or yields. Any other value is ignored.
    """
    match returned:
        case Coroutine():
            returned.close()  # otherwise Python warns of it, too
            raise UsageError("run returned a coroutine that nobody has awaited, so its code has not run: await it")
        case Generator() | AsyncGenerator():
            raise UsageError("run returned a generator, so its code has not run: it must not yield")
        case Snooze() | RetryAfter() | Cancel():
            raise UsageError(f"run returned {type(returned).__name__}: raise it")
