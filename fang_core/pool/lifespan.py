"""Enters and leaves the ``lifespan`` of a pool: the resources that its runs share."""

import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

from fang_core.errors import UsageError
from fang_core.tasks.middleware import Manager, is_async_manager, is_manager
from fang_core.tasks.registry import Mode

Lifespan: TypeAlias = Callable[[], Manager] | Callable[[Any], Manager]
"""Makes the context manager of a pool's resources, called without arguments or with the pool. It is entered each time
the pool starts, before the first run, and left when the last run has ended; its value is ``current_run().state``."""


def bound_lifespan(lifespan: Lifespan | None, pool: object) -> Callable[[], Manager] | None:
    """Returns a function without parameters that makes the context manager; None if there is no lifespan.

    Raises ``UsageError`` if the lifespan cannot be called without arguments or with the pool alone, or is a context
    manager: those of ``contextlib`` can be called too, as decorators.
    """
    if lifespan is None:
        return None
    given: Callable[..., Manager] = lifespan
    is_made_already = is_manager(lifespan) or is_async_manager(lifespan)
    for arguments in () if is_made_already else ((), (pool,)):
        try:
            inspect.signature(given).bind(*arguments)
        except TypeError:  # it takes other arguments, or is no function at all
            continue
        except ValueError:  # such as a class written in C
            pass
        return lambda: given(*arguments)
    raise UsageError("lifespan is a function, without parameters or with the pool as its only one")


class Resources:
    """Holds what a lifespan has set up, for one lifetime of a pool."""

    def __init__(self, lifespan: Callable[[], Manager] | None, mode: Mode) -> None:
        self._lifespan = lifespan
        self._mode = mode
        self._entered = AsyncExitStack()

    async def enter(self) -> Any:
        """Enters the context manager, and returns its value; None without a lifespan.

        Raises what that raises, and ``UsageError`` if it is no context manager, or an async one in a pool of threads.
        """
        if self._lifespan is None:
            return None
        manager = self._lifespan()
        if self._mode == "async" and is_async_manager(manager):
            return await self._entered.enter_async_context(manager)
        if is_manager(manager):
            return self._entered.enter_context(manager)
        wanted = "async or not" if self._mode == "async" else "not an async one in a pool of threads"
        raise UsageError(f"the pool's lifespan must return a context manager, {wanted}: is @contextmanager missing?")

    async def leave(self) -> None:
        """Leaves the context manager, once. Raises what it raises."""
        await self._entered.aclose()
