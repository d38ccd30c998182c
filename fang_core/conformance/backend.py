"""What the tests hold in their hands: one backend in one mode, driven synchronously, so that each test stands once."""

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final

import pytest

from fang_core.conformance.tasks import (
    JOURNAL,
    AsyncNote,
    AsyncUniqueNote,
    AsyncYearlyNote,
    Ran,
    ThreadedNote,
    ThreadedUniqueNote,
    ThreadedYearlyNote,
)
from fang_core.record import Task, TaskState
from fang_core.registry import Mode
from fang_core.store import PruneRequest

Note = type[ThreadedNote] | type[AsyncNote]

_NOTES: Final[dict[Mode, Note]] = {"threaded": ThreadedNote, "async": AsyncNote}
_UNIQUE_NOTES: Final[dict[Mode, Note]] = {"threaded": ThreadedUniqueNote, "async": AsyncUniqueNote}
_YEARLY_NOTES: Final[dict[Mode, Note]] = {"threaded": ThreadedYearlyNote, "async": AsyncYearlyNote}


def needs(capability: bool, name: str) -> None:
    """Skips the test where the backend lacks what the test is about."""
    if not capability:
        pytest.skip(f"this backend has no {name}")


class _RolledBack(Exception):
    """Leaves a transaction."""


class Backend:
    """One backend in one mode.

    Args:
        mode: which sort of task its pools run.
        queue: makes the queue, on an empty backend; takes the options of ``Queue``.
        pool: makes a pool on that queue; takes the options of ``WorkerPool``.
        transaction: makes a context manager, in the colour of the mode, around a transaction of the caller's own; it
            gives what ``connection=`` takes, and commits, or rolls back where the block raises. None for a backend
            without transactions.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        queue: Callable[..., Any],
        pool: Callable[..., Any],
        transaction: Callable[[], Any] | None = None,
    ) -> None:
        self.note = _NOTES[mode]
        self.foreign_note = _NOTES["async" if mode == "threaded" else "threaded"]
        self.unique_note = _UNIQUE_NOTES[mode]
        self.yearly_note = _YEARLY_NOTES[mode]
        self.mode = mode
        self._make_queue = queue
        self._make_pool = pool
        self._make_transaction = transaction
        self._loop = asyncio.Runner()
        self.queue = queue()
        JOURNAL.clear()

    # Capabilities -----------------------------------------------------------------------------------------------------

    @property
    def has_transactions(self) -> bool:
        """Whether an insert can be part of a transaction of the caller's."""
        return self._make_transaction is not None

    # What tests do ----------------------------------------------------------------------------------------------------

    @property
    def journal(self) -> list[Ran]:
        """The runs so far, in order."""
        return list(JOURNAL)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What ``function`` returns; a coroutine function is run to its end, always on the same event loop."""
        if inspect.iscoroutinefunction(function):
            return self._loop.run(function(*args, **kwargs))
        return function(*args, **kwargs)

    def insert(self, task: Any, **options: Any) -> Task:
        """``queue.insert_task``."""
        row: Task = self.call(self.queue.insert_task, task, **options)
        return row

    def insert_many(self, tasks: Iterable[Any], **options: Any) -> list[Task]:
        """``queue.insert_tasks``."""
        rows: list[Task] = self.call(self.queue.insert_tasks, tasks, **options)
        return rows

    def find(self, task: Task) -> Task | None:
        """The task's row as it is now."""
        row: Task | None = self.call(self.queue.find_task_by_id, task.id)
        return row

    def row(self, task: Task) -> Task:
        """The same, of a row that must be there."""
        row = self.find(task)
        assert row is not None, "the row is gone"
        return row

    def move(self, task: Task, state: TaskState, **options: Any) -> Task:
        """``queue.update_task_state``."""
        row: Task = self.call(self.queue.update_task_state, task, state, **options)
        return row

    def fetch(self, *args: Any, **options: Any) -> Task | None:
        """``queue.fetch_and_touch_task``."""
        row: Task | None = self.call(self.queue.fetch_and_touch_task, *args, **options)
        return row

    def held(self, task: Any, **options: Any) -> Task:
        """A task that was inserted and fetched by hand; no other may be due."""
        inserted = self.insert(task, **options)
        row = self.fetch(inserted.task_type)
        assert row is not None
        assert row.id == inserted.id
        return row

    def reopen(self, **options: Any) -> None:
        """Another queue, with these options, takes the place of the one that was made; a backend may begin empty."""
        self.call(self.queue.close)
        self.queue = self._make_queue(**options)

    def drain(self, **options: Any) -> int:
        """Drains a pool made with these options; how many tasks ran."""
        ran: int = self.call(self._make_pool(self.queue, **options).drain)
        return ran

    def prune(self, *task_types: str) -> int:
        """Prunes what of these task types has ended by now, as a pool does once in a while; how many rows."""
        store = self.call(self.queue.store)
        try:
            pruned: int = self.call(store.prune, PruneRequest(task_types, timedelta(0), timedelta(0), 1_000))
        finally:
            self.call(store.close)
        return pruned

    @contextmanager
    def rolled_back(self) -> Iterator[Any]:
        """A transaction of the caller's own, which is rolled back at its end."""
        with suppress(_RolledBack), self.transaction() as connection:
            yield connection
            raise _RolledBack

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A transaction of the caller's own, where the backend has such."""
        assert self._make_transaction is not None
        block = self._make_transaction()
        enter, leave = (
            (block.__enter__, block.__exit__) if self.mode == "threaded" else (block.__aenter__, block.__aexit__)
        )
        connection = self.call(enter)
        try:
            yield connection
        except BaseException as error:
            self.call(leave, type(error), error, error.__traceback__)
            raise
        self.call(leave, None, None, None)

    def close(self) -> None:
        """Closes the queue."""
        self.call(self.queue.close)
        self._loop.close()
