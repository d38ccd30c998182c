"""Makes changes that may outlive their request: those of many tasks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fang_core.errors import FangError
from fang_core.failure import describe, origin
from fang_core.logs import SafeLogger

logger: Final = SafeLogger("fang_web")

Make = Callable[["LastingChange"], Awaitable[object]]


class LastingChange:
    """A change that goes on.

    Attributes:
        so_far: how many tasks it has changed.
        task: what makes it.
    """

    def __init__(self, make: Make) -> None:
        self.so_far = 0
        self._began: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Future[object] = asyncio.ensure_future(make(self))

    def begin(self, entry: int) -> None:
        """Says the id of the change's row in the audit: what makes it calls this before it changes anything."""
        self._began.set_result(entry)

    def note(self, number: int) -> None:
        """Says how many tasks have been changed so far."""
        self.so_far = number

    async def entry(self) -> int:
        """Waits for the id of its row in the audit, and returns it. Raises what keeps that from being written."""
        either: set[asyncio.Future[Any]] = {self.task, self._began}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._began.done():
            await self.task
        return await self._began

    async def wait(self, patience: float) -> None:
        """Waits for its end, at most this many seconds. Raises what the change raised."""
        await asyncio.wait({self.task}, timeout=patience)
        if self.task.done():
            await self.task


class LastingChanges:
    """Holds the changes of one page that go on."""

    def __init__(self) -> None:
        self._all: set[LastingChange] = set()
        self._by_entry: dict[int, LastingChange] = {}

    async def start(self, make: Make) -> tuple[int, LastingChange]:
        """Starts a change; returns the id of its row in the audit, and the change. Raises what hinders the first."""
        change = LastingChange(make)
        self._all.add(change)
        change.task.add_done_callback(lambda _: self._forget(change))
        entry = await change.entry()
        if change in self._all:
            self._by_entry[entry] = change
        return entry, change

    def find(self, entry: int) -> LastingChange | None:
        """Returns the change with this id in the audit, if it goes on here."""
        return self._by_entry.get(entry)

    async def stop(self) -> None:
        """Stops all changes: finished batches stay, and the audit says that the changes were stopped."""
        going_on = [change.task for change in self._all]
        for task in going_on:
            task.cancel()
        await asyncio.gather(*going_on, return_exceptions=True)

    def _forget(self, change: LastingChange) -> None:
        self._all.discard(change)
        for entry in [entry for entry, each in self._by_entry.items() if each is change]:
            del self._by_entry[entry]
        error = None if change.task.cancelled() else change.task.exception()
        if isinstance(error, FangError):
            logger.error("a change of many tasks ended early: %s", error)
        elif isinstance(error, Exception):
            logger.error("a change of many tasks ended early: %s", origin(describe(error, "fang_web")))
