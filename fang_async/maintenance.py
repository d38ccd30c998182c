"""What a pool does once in a while for its task types: it prunes old rows, and names what waits in vain."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from fang_async.completer import wait_for
from fang_core.config import PoolOptions
from fang_core.errors import FangError
from fang_core.logs import SafeLogger
from fang_core.outage import Outage
from fang_core.store import AsyncStore, PruneRequest

logger = SafeLogger("fang_async")

EVERY: Final = 60.0
"""Seconds between two rounds."""

BATCH: Final = 1_000

NAME_AGAIN_AFTER: Final = 3_600.0
"""Seconds until a name whose tasks still wait is named again."""

UNSERVED_FOR: Final = timedelta(minutes=1)
"""For so long tasks wait whose type nobody serves before that is named: pools may be restarting."""


class Maintenance:
    """One asyncio task, asleep nearly always."""

    def __init__(self, store: AsyncStore, options: PoolOptions) -> None:
        self._store = store
        self._request = PruneRequest(options.task_types, options.keep_finished, options.keep_failed, BATCH)
        self._task_types = options.task_types
        self._named: dict[tuple[str, str], float] = {}
        self._outage = Outage(logger, "maintenance works again")
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Starts the task."""
        self._task = asyncio.create_task(self._loop(), name="fang-maintenance")

    async def close(self, within: float) -> None:
        """Ends it, in so many seconds."""
        self._closing.set()
        await asyncio.wait([self._task], timeout=within)
        self._task.cancel()

    async def _loop(self) -> None:
        while not await wait_for(self._closing, EVERY):
            try:
                await self.prune()
                await self.name_unknown_kinds()
                await self.name_unserved_types()
                self._outage.over(time.monotonic())
            except FangError as error:
                logger.warning("maintenance failed and will be tried again: %s", error)
                self._outage.failed(time.monotonic())
            except Exception:
                logger.exception("maintenance failed and will be tried again")
                self._outage.failed(time.monotonic())

    async def name_unknown_kinds(self) -> None:
        """Logs the kinds of due tasks that no registered pool knows, each once an hour."""
        kinds = await self._store.unknown_kinds(self._task_types)
        self._name("due tasks wait for a pool that knows their kinds", kinds)

    async def name_unserved_types(self) -> None:
        """Logs the task types of due tasks that no registered pool serves, each once an hour."""
        task_types = await self._store.unserved_types(UNSERVED_FOR)
        self._name("due tasks wait for a pool that serves their task types", task_types)

    def _name(self, what: str, names: Sequence[str]) -> None:
        """Logs those that were not named within the hour."""
        now = time.monotonic()
        self._named = {named: since for named, since in self._named.items() if now - since < NAME_AGAIN_AFTER}
        names = [name for name in names if (what, name) not in self._named]
        self._named.update(dict.fromkeys(((what, name) for name in names), now))
        if names:
            logger.warning("%s: %s", what, ", ".join(f"{name!a:.100}" for name in names))

    async def prune(self) -> int:
        """Deletes batch after batch until none is full; how many rows."""
        total = 0
        while not self._closing.is_set():
            count = await self._store.prune(self._request)
            total += count
            if count < BATCH:
                break
        return total
