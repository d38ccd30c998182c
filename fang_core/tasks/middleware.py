"""Wraps a run in context managers: middleware of a pool and of a task class."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from typing import Any, TypeAlias, TypeGuard

from fang_core.errors import UsageError
from fang_core.failure import text_of

Manager: TypeAlias = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]

Middleware: TypeAlias = Callable[[Any], Manager]
"""Makes the context manager that goes around a run. It is called with the run, which ``current_run()`` returns as well.

The context manager is entered and left inside the run's own context, so a context variable that it sets is seen by the
run and by nothing else. It sees the exception that ends the run. What it raises is treated as if the run had raised it,
and if it suppresses the exception the run has succeeded. Pools of asyncio tasks take async context managers too.
"""


def run_inside(middleware: Sequence[Middleware], run: Any, body: Callable[[], object]) -> None:
    """Calls ``body`` inside the managers of all middleware, the first one outermost.

    Raises ``UsageError`` if one returns something else than a context manager.
    """
    with ExitStack() as stack:
        for make in middleware:
            manager = make(run)
            if not is_manager(manager):
                raise _no_manager(make, "a context manager, not an async one in a pool of threads")
            stack.enter_context(manager)
        body()


async def run_inside_async(middleware: Sequence[Middleware], run: Any, body: Callable[[], Awaitable[object]]) -> None:
    """Awaits ``body`` inside the managers of all middleware, the first one outermost; see ``run_inside``.

    A manager of both colours is entered as an async one.
    """
    async with AsyncExitStack() as stack:
        for make in middleware:
            manager = make(run)
            if is_async_manager(manager):
                await stack.enter_async_context(manager)
            elif is_manager(manager):
                stack.enter_context(manager)
            else:
                raise _no_manager(make, "a context manager, async or not")
        await body()


def checked_middleware(value: Any, error: type[Exception] = UsageError) -> tuple[Middleware, ...]:
    """Returns the middleware as a tuple. Raises ``error`` unless it is a sequence of functions from a run to a manager,
    as far as that can be seen before they are called."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(map(callable, value)):
        raise error("middleware is a list of functions, each from a run to a context manager")
    for make in value:
        if is_manager(make) or is_async_manager(make):  # those of contextlib can be called too, as decorators
            raise error(f"the middleware {name_of(make)} is a context manager: give the function that makes it")
        if _makes_no_manager(make):
            raise error(f"the middleware {name_of(make)} must return a context manager: is @contextmanager missing?")
        if not _takes_a_run(make):
            raise error(f"the middleware {name_of(make)} must take one argument, the run")
    return tuple(value)


def _makes_no_manager(make: Callable[..., Any]) -> bool:
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(make) for is_kind in kinds)


def _takes_a_run(make: Callable[..., Any]) -> bool:
    try:
        inspect.signature(make).bind(None)
    except TypeError:
        return False
    except ValueError:  # such as a class written in C
        pass
    return True


def is_manager(value: object) -> TypeGuard[AbstractContextManager[Any]]:
    """Returns whether ``with`` takes the value."""
    return hasattr(type(value), "__enter__") and hasattr(type(value), "__exit__")


def is_async_manager(value: object) -> TypeGuard[AbstractAsyncContextManager[Any]]:
    """Returns whether ``async with`` takes the value."""
    return hasattr(type(value), "__aenter__") and hasattr(type(value), "__aexit__")


def _no_manager(make: Middleware, wanted: str) -> UsageError:
    return UsageError(f"the middleware {name_of(make)} must return {wanted}: is @contextmanager missing?")


def name_of(make: Any) -> str:
    """Returns the name of a function, or of the class of any other callable."""
    return text_of(getattr(make, "__qualname__", type(make).__name__))
