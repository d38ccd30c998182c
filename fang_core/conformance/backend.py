"""Gives tests one backend in one mode, driven synchronously, so that each test is written once."""

import asyncio
import dataclasses
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from math import inf
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from fang_core.backends.capabilities import Capabilities
from fang_core.claims import prefetch
from fang_core.conformance.clients import Client
from fang_core.conformance.tasks import (
    JOURNAL,
    AsyncLimitedNote,
    AsyncNote,
    AsyncUniqueNote,
    AsyncYearlyNote,
    Ran,
    ThreadedLimitedNote,
    ThreadedNote,
    ThreadedUniqueNote,
    ThreadedYearlyNote,
)
from fang_core.monitoring.history import Flush, Pair, StatsRow, minute_of
from fang_core.record import Task, TaskState
from fang_core.tasks.registry import Mode

Note = type[ThreadedNote] | type[AsyncNote]

_NOTES: Final[dict[Mode, Note]] = {"threaded": ThreadedNote, "async": AsyncNote}
_UNIQUE_NOTES: Final[dict[Mode, Note]] = {"threaded": ThreadedUniqueNote, "async": AsyncUniqueNote}
_YEARLY_NOTES: Final[dict[Mode, Note]] = {"threaded": ThreadedYearlyNote, "async": AsyncYearlyNote}
_LIMITED_NOTES: Final[dict[Mode, Note]] = {"threaded": ThreadedLimitedNote, "async": AsyncLimitedNote}

WITHIN: Final = 60.0
"""Seconds that a test waits for an event before it fails: so long that no busy machine decides."""


class _RolledBack(Exception):
    """Leaves a transaction, so that it is rolled back."""


class Backend:
    """Drives one backend in one mode.

    Args:
        mode: the kind of task that its pools run.
        queue: makes the queue, on an empty backend; takes the options of ``Queue``.
        pool: makes a pool on that queue; takes the options of ``WorkerPool``.
        transaction: makes a context manager, async in the async mode, around a transaction of the caller's own; it
            yields a value for ``connection=``, and commits, or rolls back if the block raises. Without it the tests of
            transactions are skipped.
        set_crashes: takes the id of a waiting task and a number, and sets the task's count of crashes. No method of a
            store can do it, since a crash is the death of a process. A backend that outlives processes needs it.
        write_stats: writes rows of history as this writer, however long ago their minute is. No store can do it.
        backdate_live: takes the id of a pool that has reported, and a span, and moves the report back by that. No store
            can do it.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        queue: Callable[..., Any],
        pool: Callable[..., Any],
        transaction: Callable[[], Any] | None = None,
        set_crashes: Callable[[UUID, int], Any] | None = None,
        write_stats: Callable[[UUID, Flush], Any] | None = None,
        backdate_live: Callable[[UUID, timedelta], Any] | None = None,
    ) -> None:
        self.note = _NOTES[mode]
        self.foreign_note = _NOTES["async" if mode == "threaded" else "threaded"]
        self.unique_note = _UNIQUE_NOTES[mode]
        self.yearly_note = _YEARLY_NOTES[mode]
        self.limited_note = _LIMITED_NOTES[mode]
        self.mode = mode
        self._make_queue = queue
        self._make_pool = pool
        self._make_transaction = transaction
        self._set_crashes = set_crashes
        self._write_stats = write_stats
        self._backdate_live = backdate_live
        self._clients: list[Client] = []
        self._loop = asyncio.Runner()
        self.queue = queue()
        JOURNAL.clear()

    # Capabilities -----------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that the queue claims; ``transactions`` also needs ``transaction`` of this object."""
        said: Capabilities = self.queue.capabilities
        return dataclasses.replace(said, transactions=said.transactions and self._make_transaction is not None)

    def needs(self, *names: str) -> None:
        """Skips the test if the backend lacks one of these capabilities."""
        for name in names:
            if not getattr(self.capabilities, name):
                pytest.skip(f"this backend lacks a capability: {name}")

    # Calling ----------------------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Returns the result of ``function``; a coroutine is driven to its end as the mode needs."""
        if self.mode == "async":
            return self._run(_result(function, args, kwargs))
        return _drive(_result(function, args, kwargs))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs it on the loop; not by ``Runner.run``, which sets a handler of signals each time: a fifth of a call."""
        return self._loop.get_loop().run_until_complete(coroutine)

    def call_together(self, *calls: Callable[[], Any]) -> list[Any]:
        """Makes these calls at the same time, as the pools of several processes would; returns their results."""
        if self.mode == "async":
            results: list[Any] = self._run(_gather([_result(call, (), {}) for call in calls]))
            return results
        with ThreadPoolExecutor(len(calls)) as executor:
            return list(executor.map(self.call, calls))

    def wait_for(self, event: threading.Event, seconds: float = WITHIN) -> bool:
        """Waits until another thread, or the event loop of the mode, sets the event; returns whether it was set."""
        if self.mode == "threaded":
            return event.wait(seconds)
        was_set: bool = self.call(asyncio.to_thread, event.wait, seconds)
        return was_set

    # Queues and pools -------------------------------------------------------------------------------------------------

    @property
    def journal(self) -> list[Ran]:
        """The runs so far, in order."""
        return list(JOURNAL)

    def insert(self, task: Any, **options: Any) -> Task:
        """Calls ``queue.insert_task``."""
        row: Task = self.call(self.queue.insert_task, task, **options)
        return row

    def insert_many(self, tasks: Iterable[Any], **options: Any) -> list[Task]:
        """Calls ``queue.insert_tasks``."""
        rows: list[Task] = self.call(self.queue.insert_tasks, tasks, **options)
        return rows

    def find(self, task: Task) -> Task | None:
        """Returns the task's row as it is now."""
        row: Task | None = self.call(self.queue.find_task_by_id, task.id)
        return row

    def row(self, task: Any) -> Task:
        """Returns the row of a task or claimed task; fails the test if it is gone."""
        row = self.find(task)
        assert row is not None, "the row is gone"
        return row

    def move(self, task: Task, state: TaskState, **options: Any) -> Task:
        """Calls ``queue.update_task_state``."""
        row: Task = self.call(self.queue.update_task_state, task, state, **options)
        return row

    def fetch(self, *args: Any, **options: Any) -> Task | None:
        """Calls ``queue.fetch_and_touch_task``."""
        row: Task | None = self.call(self.queue.fetch_and_touch_task, *args, **options)
        return row

    def held(self, task: Any, **options: Any) -> Task:
        """Inserts a task and fetches it by hand; no other task may be due."""
        inserted = self.insert(task, **options)
        row = self.fetch(inserted.task_type)
        assert row is not None
        assert row.id == inserted.id
        return row

    def crashed(self, times: int, **options: Any) -> Task:
        """Returns a due task that has crashed this many times."""
        if self._set_crashes is None:
            if self.capabilities.outlives_processes:
                pytest.fail("give the Backend of the suite set_crashes=, since tasks of this backend can crash")
            pytest.skip("no task of this backend crashes")
        task = self.insert(self.note(), **options)
        self.call(self._set_crashes, task.id, times)
        return self.row(task)

    def past_stats(self, pair: Pair, rows: Iterable[tuple[datetime, StatsRow]]) -> None:
        """Writes rows of history, each as a writer of its own, however long ago their minutes are."""
        if self._write_stats is None:
            pytest.skip("give the Backend of the suite write_stats=, to test how history is added up")
        for at, row in rows:
            self.call(self._write_stats, uuid4(), Flush(minute_of(at), {pair: row}))

    def backdate_live(self, client: Client, by: timedelta) -> None:
        """Moves a pool's report back in time by this span."""
        if self._backdate_live is None:
            pytest.skip("give the Backend of the suite backdate_live=, to test which pools count as silent")
        self.call(self._backdate_live, client.id, by)

    def reopen(self, **options: Any) -> None:
        """Replaces the queue by one with these options; the backend may be empty afterwards."""
        self.call(self.queue.close)
        self.queue = self._make_queue(**options)

    def drain(self, **options: Any) -> int:
        """Drains a pool with these options; returns how many tasks ran."""
        ran: int = self.call(self._make_pool(self.queue, **options).drain)
        return ran

    def drain_in_order(self, **options: Any) -> int:
        """Drains a pool of one worker that gives back no task it has claimed, so that its runs are in the order of its
        claims even if the machine stands still meanwhile; returns how many tasks ran. Takes options of the pool."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prefetch, "PATIENCE", inf)
            return self.drain(number_of_workers=1, **options)

    def client(self, **record: Any) -> Client:
        """Returns a pool without workers, registered with these fields of ``PoolRecord``."""
        client = self.stranger(**record)
        client.register()
        return client

    def stranger(self, **record: Any) -> Client:
        """Returns a pool without workers that is not registered."""
        options = {"kinds": (self.note.__fang_options__.kind,), **record}
        client = Client(self.call, self.call(self.queue.store), self.mode, **options)
        self._clients.append(client)
        return client

    @contextmanager
    def rolled_back(self) -> Iterator[Any]:
        """Begins a transaction of the caller's own, and rolls it back at its end."""
        with suppress(_RolledBack), self.transaction() as connection:
            yield connection
            raise _RolledBack

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Begins a transaction of the caller's own; the backend must have the capability."""
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
        """Closes the clients and the queue."""
        for client in self._clients:
            client.close()
        self.call(self.queue.close)
        self._loop.close()


async def _result(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def _gather(coroutines: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*coroutines))


def _drive(coroutine: Any) -> Any:
    """Runs a coroutine that blocks instead of suspending, as those of the threaded mode do."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a coroutine of the threaded mode suspended")
