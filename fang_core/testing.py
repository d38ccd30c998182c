"""Helps to test an application: performs tasks one at a time, and checks which tasks were inserted.

``perform`` runs one task as a worker would. ``inserted``, ``assert_inserted`` and ``refute_inserted`` look into any
queue, except one for asyncio on a database, which has ``inserted_async`` and its like. A ``Clock`` makes later tasks
due. To run the inserted tasks, drain a pool: ``WorkerPool(queue).drain()``. Nothing here needs pytest.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import uuid4

from fang_core.backends.memory.async_queue import AsyncMemoryQueue
from fang_core.backends.memory.queue import MemoryQueue
from fang_core.backends.memory.state import MemoryState, utc_clock
from fang_core.backends.rows import as_claimed
from fang_core.backends.store import AsyncBackend, Backend
from fang_core.errors import UsageError
from fang_core.lifecycle import SUCCESS, Cancelled, Failure, Result, Snoozed, Success
from fang_core.record import Task, TaskState
from fang_core.runs.execution import Execution
from fang_core.runs.run import Run
from fang_core.tasks.async_queueable import AsyncQueueable
from fang_core.tasks.payloads.codec import decode
from fang_core.tasks.queueable import Queueable
from fang_core.tasks.runnable import AsyncRunnable, BaseRunnable, Runnable

__all__ = (
    "perform",
    "perform_async",
    # What it returns
    "Result",
    "SUCCESS",
    "Success",
    "Failure",
    "Snoozed",
    "Cancelled",
    # What was inserted
    "inserted",
    "assert_inserted",
    "refute_inserted",
    "inserted_async",
    "assert_inserted_async",
    "refute_inserted_async",
    "Inserted",
    # Time
    "Clock",
)

R = TypeVar("R", bound=BaseRunnable)

_SHOWN: Final = 5  # tasks in a message


# One run --------------------------------------------------------------------------------------------------------------


def perform(task: Runnable, queue: Queueable | None = None, *, retries: int = 0) -> Result:
    """Runs a task once, as a worker would: read back from its JSON, inside ``current_run()``, its exception a result.

    Ctrl-C and a test framework's own signals pass through. Nothing is written: the task itself is in no queue. To see
    what the result means for a row, use ``WorkerPool(queue).drain()``.

    Args:
        task: the task; it is read back from its stored form, so that a field that does not survive shows here.
        queue: handed to ``run``; an empty ``MemoryQueue`` unless given.
        retries: failures charged before, for a ``run`` that looks at ``current_run().task``.

    Returns:
        ``SUCCESS``, or a ``Failure``, ``Snoozed`` or ``Cancelled`` with its details.

    Raises:
        PayloadError: a field cannot be stored.
        UsageError: this is no threaded task.
    """
    run, row = _claimed(task, retries)
    if not isinstance(task, Runnable):
        raise UsageError(f"{type(task).__name__} is an AsyncRunnable: await perform_async(...)")
    handed = MemoryQueue() if queue is None else queue
    with _held(handed, row):
        return _execution(task, handed).perform(run)


async def perform_async(task: AsyncRunnable, queue: AsyncQueueable | None = None, *, retries: int = 0) -> Result:
    """Runs an asyncio task once, as a worker would, and returns the result; see ``perform`` for details and errors.

    ``queue`` is an empty ``AsyncMemoryQueue`` unless given. A cancellation passes through.
    """
    run, row = _claimed(task, retries)
    if not isinstance(task, AsyncRunnable):
        raise UsageError(f"{type(task).__name__} is a Runnable: call perform(...)")
    handed = AsyncMemoryQueue() if queue is None else queue
    with _held(handed, row):
        # A task of its own keeps a cancellation that the run leaves behind from reaching the test.
        return await asyncio.create_task(_execution(task, handed).perform_async(run))


def _execution(task: BaseRunnable, queue: object) -> Execution:
    """Returns an execution that lets Ctrl-C, cancellations and a test framework's own signals reach the test."""
    return Execution(lambda _: type(task), queue, catches=(Exception, SystemExit))


def _claimed(task: BaseRunnable, retries: int) -> tuple[Run, Task]:
    """Returns the run and the row of the task, as if a worker had claimed it."""
    row = MemoryQueue().insert_task(task)
    held_by = uuid4()
    row = row._replace(state=TaskState.IN_PROGRESS, retries=retries, attempt=retries + 1, pool_id=held_by)
    return Run(as_claimed(row), held_by), row


@contextmanager
def _held(queue: object, row: Task) -> Iterator[None]:
    """Puts the row into the queue while the run lasts, so that it can complete its task."""
    state = queue.state if isinstance(queue, MemoryQueue | AsyncMemoryQueue) else MemoryState()
    state.tasks[row.id] = row
    try:
        yield
    finally:
        state.tasks.pop(row.id, None)


# Inserted tasks -------------------------------------------------------------------------------------------------------


class Inserted(NamedTuple, Generic[R]):
    """Holds a ``task`` as a worker would read it, and its ``row`` with priority, due time and the like."""

    task: R
    row: Task


def inserted(
    queue: Backend | AsyncMemoryQueue, cls: type[R], /, *, connection: Any = None, **fields: Any
) -> list[Inserted[R]]:
    """Returns the tasks of a class that the queue holds now, in any state, in the order of their insertion.

    A pool removes the row of a task that has succeeded: look before draining, or drain with ``RetentionMode.KEEP_ALL``.

    Args:
        queue: the queue that the tasks were inserted into, or another one on the same tables.
        cls: the class itself, under its former kinds too; a class derived from it is another kind.
        connection: the caller's own, to see tasks that its open transaction has inserted. (Compare a field of this name
            yourself.)
        fields: only tasks whose fields equal these are returned.

    Raises:
        UsageError: the class has no field of such a name, or this is an ``AsyncQueue``.
    """
    return _matching(_read(cls, fields, _rows(queue, cls, connection)), fields)


def assert_inserted(
    queue: Backend | AsyncMemoryQueue, cls: type[R], /, *, connection: Any = None, **fields: Any
) -> Inserted[R]:
    """Returns the first of ``inserted(...)``. Raises ``AssertionError``, with the near misses, if there is none."""
    __tracebackhide__ = True
    candidates = _read(cls, fields, _rows(queue, cls, connection))
    for found in _matching(candidates, fields):
        return found
    if candidates:
        raise _none_matches(cls, fields, candidates)
    raise _none_there(cls, fields, _kinds(queue, connection))


def refute_inserted(
    queue: Backend | AsyncMemoryQueue, cls: type[BaseRunnable], /, *, connection: Any = None, **fields: Any
) -> None:
    """Raises ``AssertionError`` if ``inserted(...)`` finds any."""
    __tracebackhide__ = True
    _refute(cls, fields, inserted(queue, cls, connection=connection, **fields))


async def inserted_async(
    queue: AsyncBackend, cls: type[R], /, *, connection: Any = None, **fields: Any
) -> list[Inserted[R]]:
    """Does for an asyncio queue what ``inserted`` does for a threaded one."""
    return _matching(_read(cls, fields, await _rows_async(queue, cls, connection)), fields)


async def assert_inserted_async(
    queue: AsyncBackend, cls: type[R], /, *, connection: Any = None, **fields: Any
) -> Inserted[R]:
    """Does for an asyncio queue what ``assert_inserted`` does for a threaded one."""
    __tracebackhide__ = True
    candidates = _read(cls, fields, await _rows_async(queue, cls, connection))
    for found in _matching(candidates, fields):
        return found
    if candidates:
        raise _none_matches(cls, fields, candidates)
    raise _none_there(cls, fields, await queue.count_by_kind(connection=connection))


async def refute_inserted_async(
    queue: AsyncBackend, cls: type[BaseRunnable], /, *, connection: Any = None, **fields: Any
) -> None:
    """Does for an asyncio queue what ``refute_inserted`` does for a threaded one."""
    __tracebackhide__ = True
    _refute(cls, fields, await inserted_async(queue, cls, connection=connection, **fields))


def _rows(queue: Backend | AsyncMemoryQueue, cls: type[BaseRunnable], connection: Any) -> list[Task]:
    kinds = cls.__fang_options__.kinds
    if isinstance(queue, AsyncMemoryQueue):  # its rows are there without waiting
        return [row for row in queue.tasks if row.kind in kinds]
    if inspect.iscoroutinefunction(queue.tasks_of_kinds):
        raise UsageError(f"{type(queue).__name__} is asyncio: await inserted_async(...), assert_inserted_async(...)")
    return queue.tasks_of_kinds(kinds, connection=connection)


async def _rows_async(queue: AsyncBackend, cls: type[BaseRunnable], connection: Any) -> list[Task]:
    if not inspect.iscoroutinefunction(queue.tasks_of_kinds):
        raise UsageError(f"{type(queue).__name__} is threaded: call inserted(...), assert_inserted(...)")
    return await queue.tasks_of_kinds(cls.__fang_options__.kinds, connection=connection)


def _kinds(queue: Backend | AsyncMemoryQueue, connection: Any) -> Mapping[str, int]:
    if isinstance(queue, AsyncMemoryQueue):
        return Counter(row.kind for row in queue.tasks)
    return queue.count_by_kind(connection=connection)


def _read(cls: type[R], fields: Mapping[str, object], rows: Iterable[Task]) -> list[Inserted[R]]:
    # A misspelt name would match nothing, and a refutation would always hold.
    unknown = fields.keys() - cls.model_fields.keys()
    if unknown and cls.model_config.get("extra") != "allow":
        raise UsageError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
    found = []
    for row in rows:
        task = decode(cls, as_claimed(row).payload)
        assert isinstance(task, cls)
        found.append(Inserted(task, row))
    return found


def _matching(candidates: list[Inserted[R]], fields: Mapping[str, object]) -> list[Inserted[R]]:
    return [found for found in candidates if not _differences(found.task, fields)]


def _none_matches(
    cls: type[BaseRunnable], fields: Mapping[str, object], candidates: list[Inserted[R]]
) -> AssertionError:
    misses = sorted((_differences(found.task, fields) for found in candidates), key=len)
    nearest = _lines(map(_listed, misses))
    return AssertionError(f"no {_wanted(cls, fields)} was inserted; these were, nearest first:{nearest}")


def _none_there(cls: type[BaseRunnable], fields: Mapping[str, object], kinds: Mapping[str, int]) -> AssertionError:
    there = ", ".join(f"{times} {kind}" for kind, times in kinds.items()) or "nothing"
    return AssertionError(f"no {_wanted(cls, fields)} was inserted; the queue holds {there}")


def _refute(cls: type[BaseRunnable], fields: Mapping[str, object], found: Sequence[Inserted[R]]) -> None:
    __tracebackhide__ = True
    if found:
        lines = _lines(repr(task) for task, _ in found)
        raise AssertionError(f"no {_wanted(cls, fields)} was expected, but these were inserted:{lines}")


def _differences(task: BaseRunnable, fields: Mapping[str, object]) -> dict[str, object]:
    """Returns the fields that are not as wanted, with their actual values."""
    return {name: actual for name, value in fields.items() if (actual := getattr(task, name, None)) != value}


def _wanted(cls: type[BaseRunnable], fields: Mapping[str, object]) -> str:
    return f"{cls.__name__} with {_listed(fields)}" if fields else cls.__name__


def _listed(fields: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())


def _lines(texts: Iterable[str]) -> str:
    every = list(texts)
    more = f"\n  and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return "".join(f"\n  {text}" for text in every[:_SHOWN]) + more


# Time -----------------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still until it is moved: ``MemoryQueue(clock=clock)``. It starts at ``now`` if given."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = utc_clock() if now is None else now

    @property
    def now(self) -> datetime:
        """The time that the clock shows; can be set to any time with a zone."""
        return self._now

    @now.setter
    def now(self, value: datetime) -> None:
        if value.utcoffset() is None:
            raise UsageError("a clock needs a time zone: datetime(..., tzinfo=UTC)")
        self._now = value

    def advance(self, by: timedelta) -> None:
        """Moves the clock on."""
        self._now += by

    def __call__(self) -> datetime:
        return self._now
