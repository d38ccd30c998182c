"""Holds what a defect is made of: whole stores and hearts, and broken ones and broken queues around them.

Their verbs are coroutines in both modes, whatever those of the store around which they stand are.
"""

import inspect
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

from fang_core.conformance import Backend
from fang_core.record import Task

HOUR = timedelta(hours=1)

Check = Callable[..., None]
"""A test of the suite."""


class Whole:
    """A store or a heart as it is."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = verb(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return call


class Broken:
    """A store with a defect; what a class below does not define is as it should be.

    Attributes:
        caught_by: the tests of the suite each of which must fail.
        in_database: whether memory cannot show it, which has neither hearts nor transactions.
    """

    caught_by: ClassVar[tuple[Check, ...]]
    in_database: ClassVar[bool] = False

    def __init__(self, whole: Whole, backend: Backend) -> None:
        self.whole = whole
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    async def row(self, task_id: UUID) -> Task | None:
        """Reads a row, past the store."""
        row: Task | None = await Whole(self.backend.queue).find_task_by_id(task_id)
        return row


class BrokenHeart(Broken):
    """A heart with a defect."""

    in_database = True


class BrokenQueue(Broken):
    """A queue with a defect; its stores are whole."""

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        """Replaces methods of the queue."""
        raise NotImplementedError


class InsertsOtherwise(BrokenQueue):
    """Inserts with other options than it was told."""

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        one, many = backend.queue.insert_task, backend.queue.insert_tasks
        backend.queue.insert_task = lambda task, **options: one(task, **cls.other(options))
        backend.queue.insert_tasks = lambda tasks, **options: many(tasks, **cls.other(options))

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


def without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


class OtherMethods(BrokenQueue):
    """One whose own methods stand in for those of the queue."""

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        names = [name for name, method in vars(cls).items() if inspect.iscoroutinefunction(method)]
        broken = cls(Whole(SimpleNamespace(**{name: getattr(backend.queue, name) for name in names})), backend)
        for name in names:
            setattr(backend.queue, name, getattr(broken, name))
