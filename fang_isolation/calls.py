"""Defines what a pool sends to a child: the run, and what the child needs for all of its runs."""

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from fang_core.config import RetentionMode
from fang_core.record import ClaimedTask
from fang_core.tasks.middleware import Middleware
from fang_core.tasks.registry import Mode


class Setup(NamedTuple):
    """Is sent once, when the child starts.

    Attributes:
        make_queue: makes the queue of the child's runs, which connects when it is used.
        middleware: goes around each run, as in the pool.
    """

    mode: Mode
    make_queue: Callable[[], Any]
    middleware: tuple[Middleware, ...]


class Call(NamedTuple):
    """Asks for one run.

    Attributes:
        number: how many calls the child has had, with this one.
        module: the module that defines the task's class; ``__main__`` for the main module.
        memory_limit: how many bytes the process may have while it runs; None if it has no limit.
    """

    number: int
    task: ClaimedTask
    pool_id: UUID
    retention_mode: RetentionMode
    module: str
    memory_limit: int | None
