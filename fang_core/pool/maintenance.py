"""Prunes old rows of a pool's task types once a minute, adds up the history, and logs what no pool serves.

More often, it looks for tasks of managed types that have no lane, which no claim finds: see ``FlowStore.adopt``.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Final, Protocol

from fang_core.backends.pools import PruneRequest
from fang_core.backends.store import FlowStore, HistoryStore, UpkeepStore
from fang_core.config import PoolOptions
from fang_core.errors import BackendUnavailable, FangError, NotConnected
from fang_core.pool.outage import Outage
from fang_core.pool.runtime import Runtime, Service

EVERY: Final = 60.0
"""Seconds between two rounds."""

BATCH: Final = 1_000

ADOPT_BATCH: Final = 5_000

ADOPT_EVERY: Final = 5.0
"""The fewest seconds between two looks for tasks without a lane, and the most until the first one for a type that has
become managed."""

SHARE: Final = 0.02
"""The largest part of the time that these looks may take."""

FOLDS: Final = 20
"""How many minutes and hours of the history are added up at once, so that a pool that stops need not wait long."""

NAME_AGAIN_AFTER: Final = 3_600.0
"""Seconds until a name is logged again if its tasks still wait."""

UNSERVED_FOR: Final = timedelta(minutes=1)
"""How long tasks of a type that no pool serves wait before that is logged: pools may be restarting."""


class MaintenanceStore(UpkeepStore, FlowStore, HistoryStore, Protocol):
    """The part of a backend that it uses."""


class Maintenance:
    """A service that prunes once a minute, and adopts every few seconds while the pool knows managed types.

    Args:
        managed: returns the pool's managed types.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: MaintenanceStore,
        options: PoolOptions,
        managed: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._store = store
        self._request = PruneRequest(options.task_types, options.keep_finished, options.keep_failed, BATCH)
        self._task_types = options.task_types
        self._has_stats, self._keep_stats = options.stats, options.keep_stats
        self._managed = managed
        self._round_at = time.monotonic() + EVERY
        self._named: dict[tuple[str, str], float] = {}
        self._failing: set[str] = set()  # parts that did not work when they were last tried
        self._outage = Outage(runtime.logger, "maintenance works again")
        self._closing = runtime.event()
        self._service: Service | None = None

    def start(self) -> None:
        """Starts the service."""
        self._service = self._runtime.spawn(self._loop, "fang-maintenance")

    async def close(self, within: float) -> None:
        """Ends the service, within ``within`` seconds."""
        self._closing.set()
        if self._service is not None:
            await self._service.join(within)
            self._service.cancel()

    async def _loop(self) -> None:
        seconds = ADOPT_EVERY
        while not await self._runtime.wait(self._closing, seconds):
            seconds = await self._turn()

    async def _turn(self) -> float:
        """Does what is due; returns the seconds until the next turn."""
        if time.monotonic() >= self._round_at:
            self._round_at = time.monotonic() + EVERY
            parts = (self.prune, self.name_unknown_kinds, self.name_unserved_types, self.fold_stats)
            for part in parts:
                if not await self._try(part.__name__, part()):
                    break
        began = time.monotonic()
        managed = tuple(self._managed())
        if managed:
            await self._try("adopt", self.adopt(managed))
        now = time.monotonic()
        # Also while no type is managed: when one becomes so, the tasks that wait in it have no lane.
        return min(max(0.0, self._round_at - now), max(ADOPT_EVERY, (now - began) / SHARE))

    async def _try(self, name: str, part: Awaitable[object]) -> bool:
        """Does one part; returns whether the next ones can be tried. A part whose table is locked or missing does not
        hold up other parts, least of all ``adopt``, without which no claim finds some tasks. Logs a failure once, until
        the part works again."""
        try:
            await part
        except Exception as error:
            if name not in self._failing:
                unexpected = None if isinstance(error, FangError) else error
                self._logger.warning("maintenance failed and will be tried again: %s", error, exc_info=unexpected)
            self._failing.add(name)
            self._outage.failed(time.monotonic())
            return not isinstance(error, NotConnected | BackendUnavailable)
        self._failing.discard(name)
        if not self._failing:
            self._outage.over(time.monotonic())
        return True

    async def adopt(self, managed: Sequence[str]) -> None:
        """Gives lanes to tasks of managed types that have none, so that claims find them."""
        while not self._closing.is_set() and not await self._store.adopt(managed, ADOPT_BATCH):
            pass

    async def fold_stats(self) -> None:
        """Adds up the history and removes its old rows, until nothing is left to do or another pool does it."""
        while self._has_stats and not self._closing.is_set():
            if await self._store.fold_stats(self._keep_stats, FOLDS) < FOLDS:
                break

    async def name_unknown_kinds(self) -> None:
        """Logs the kinds of due tasks that no registered pool knows, each once an hour."""
        kinds = await self._store.unknown_kinds(self._task_types)
        self._name("due tasks wait for a pool that knows their kinds", kinds)

    async def name_unserved_types(self) -> None:
        """Logs the task types of due tasks that no registered pool serves, each once an hour."""
        task_types = await self._store.unserved_types(UNSERVED_FOR)
        self._name("due tasks wait for a pool that serves their task types", task_types)

    def _name(self, what: str, names: Sequence[str]) -> None:
        """Logs the names that were not logged within the last hour."""
        now = time.monotonic()
        self._named = {named: since for named, since in self._named.items() if now - since < NAME_AGAIN_AFTER}
        names = [name for name in names if (what, name) not in self._named]
        self._named.update(dict.fromkeys(((what, name) for name in names), now))
        if names:
            self._logger.warning("%s: %s", what, ", ".join(f"{name!a:.100}" for name in names))

    async def prune(self) -> int:
        """Deletes batch after batch until one is not full; returns how many rows it deleted."""
        total = 0
        while not self._closing.is_set():
            count = await self._store.prune(self._request)
            total += count
            if count < BATCH:
                break
        return total
