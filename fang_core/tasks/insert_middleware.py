"""Wraps an insert in context managers: ``insert_middleware`` of a queue."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Self, TypeAlias

from fang_core.errors import UsageError
from fang_core.record import Task
from fang_core.tasks.middleware import is_manager
from fang_core.tasks.options import InsertOptions, checked_options
from fang_core.tasks.runnable import BaseRunnable

InsertMiddleware: TypeAlias = Callable[["Insertion"], AbstractContextManager[Any]]
"""Makes the context manager that goes around an insert. It is called with the ``Insertion``.

The context manager is entered before anything is sent, and left when the reply is there, in the context of the caller.
It sees the exception that the insert raises, which is raised whatever the context manager does.
"""


class Insertion:
    """Describes one call of ``insert_task`` or ``insert_tasks``, for the functions that go around it.

    Attributes:
        tasks: the tasks of the call.
        is_bulk: whether the call is one of ``insert_tasks``.
        task_types: the task types of the tasks, each once, in their order.
        headers: those of the call, which may be changed until the middleware has been entered.
        rows: the rows as they were written; None until then.
    """

    __slots__ = ("_options", "_stack", "headers", "is_bulk", "rows", "task_types", "tasks")

    def __init__(self, tasks: Sequence[BaseRunnable], options: InsertOptions, *, is_bulk: bool) -> None:
        self.tasks = tasks
        self.is_bulk = is_bulk
        self._options = checked_options(options)
        given = self._options.get("task_type")
        found = (given,) if given else (task.__fang_options__.task_type for task in tasks)
        self.task_types: tuple[str, ...] = tuple(dict.fromkeys(found))
        self.headers: dict[str, str] = dict(self._options.get("headers") or {})
        self.rows: Sequence[Task] | None = None
        self._stack = ExitStack()

    @property
    def options(self) -> InsertOptions:
        """The options of the call, with the headers as they are now."""
        options = self._options.copy()
        options["headers"] = self.headers
        return options

    def inside(self, middleware: Iterable[InsertMiddleware]) -> Self:
        """Enters the managers of all middleware, the first one outermost. Raises what one of them raises."""
        try:
            for make in middleware:
                manager = make(self)
                if not is_manager(manager):
                    name = getattr(make, "__qualname__", type(make).__name__)
                    raise UsageError(f"the insert middleware {name} must return a context manager")
                self._stack.enter_context(manager)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)


def checked_insert_middleware(value: Any) -> tuple[InsertMiddleware, ...]:
    """Returns the middleware as a tuple. Raises ``UsageError`` unless it is a sequence of functions."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(map(callable, value)):
        raise UsageError("insert_middleware is a list of functions, each from an Insertion to a context manager")
    if any(is_manager(make) or iscoroutinefunction(make) for make in value):
        raise UsageError("insert_middleware takes functions that make context managers: is @contextmanager missing?")
    return tuple(value)
