"""Enters and leaves the ``lifespan`` of a pool: the resources that its runs share."""

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from fang_core.errors import UsageError
from fang_core.logs import SafeLogger
from fang_core.tasks.middleware import Manager, is_async_manager, is_manager, name_of
from fang_core.tasks.registry import Mode

LEAVING: Final = 0.5
"""The least time, in seconds, that a lifespan has to end before a warning says that the pool waits for it. With it the
line comes before a process ends that hangs."""

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
        return _bound(given, arguments)
    raise UsageError("lifespan is a function, without parameters or with the pool as its only one")


def _bound(lifespan: Callable[..., Manager], arguments: tuple[object, ...]) -> Callable[[], Manager]:
    def bound() -> Manager:
        return lifespan(*arguments)

    bound.__qualname__ = name_of(lifespan)
    return bound


class Resources:
    """Holds what a lifespan has set up, for one lifetime of a pool."""

    def __init__(self, lifespan: Callable[[], Manager] | None, mode: Mode) -> None:
        self._lifespan = lifespan
        self._mode = mode
        self._entered = AsyncExitStack()
        self._step: object | None = None  # stands for the entering, or the leaving, that is under way

    @property
    def is_caller(self) -> bool:
        """Returns whether the lifespan calls this, while it is entered or left."""
        return self._step is not None and _STEP.get() is self._step

    async def enter(self) -> Any:
        """Enters the context manager, and returns its value; None without a lifespan.

        Raises what that raises, and ``UsageError`` if it is no context manager, or an async one in a pool of threads.
        """
        if self._lifespan is None:
            return None
        with self._under_way():
            manager = self._lifespan()
            if self._mode == "async" and is_async_manager(manager):
                return await self._entered.enter_async_context(manager)
            if is_manager(manager):
                return self._entered.enter_context(manager)
        wanted = "async or not" if self._mode == "async" else "not an async one in a pool of threads"
        raise UsageError(f"the pool's lifespan must return a context manager, {wanted}: is @contextmanager missing?")

    async def leave(self, deadline: float, logger: SafeLogger) -> None:
        """Leaves the context manager, once; warns if that has not ended at the deadline. Raises what it raises."""
        if self._lifespan is None:
            return
        with self._under_way(), _late(deadline, lambda: self._warn(logger)):
            await self._entered.aclose()

    def _warn(self, logger: SafeLogger) -> None:
        logger.warning(
            "the lifespan %s has not ended, and the grace period is over: the stop of the pool waits for it",
            name_of(self._lifespan),
        )

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        # Tasks and threads that the lifespan has started may inherit the variable, so each step has a value of its own.
        self._step = object()
        former = _STEP.set(self._step)
        try:
            yield
        finally:
            _STEP.reset(former)
            self._step = None


@contextmanager
def _late(deadline: float, warn: Callable[[], None]) -> Iterator[None]:
    """Calls ``warn`` at the deadline, unless the block has ended.

    A thread of its own does it: that of the pool may hang in the block, and the heart may wait for a database.
    """
    timer = threading.Timer(max(LEAVING, deadline - time.monotonic()), warn)
    timer.name, timer.daemon = "fang-lifespan", True
    with suppress(RuntimeError):  # the limit of threads is reached
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


_STEP: ContextVar[object | None] = ContextVar("fang_lifespan_step", default=None)
