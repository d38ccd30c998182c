"""Writes what a pool does now, once a second, for observers: ``queue.pools()``, ``queue.explain()``, the page.

It is no part of the beat, which must stay short, and whose row every pool reads: here a statement may wait for a
connection, or for the disk. Nothing acts on what it writes, and what is lost with a process is of no use then.
"""

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from fang_core.backends.pools import Live
from fang_core.backends.store import PoolStore
from fang_core.errors import FangError, StatementRefused
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.runtime import Runtime, Service

EVERY: Final = 1.0
"""Seconds between two looks."""

AGAIN_AFTER: Final = 10.0
"""Seconds after which it writes although nothing has changed, so that readers see that the pool is there."""


class LiveReporter:
    """A service that looks once a second at what the pool does, and writes that if it has changed.

    Args:
        live: returns what the pool does at a time of the monotonic clock.
    """

    def __init__(
        self, runtime: Runtime, store: PoolStore, identity: PoolIdentity, live: Callable[[float], Live]
    ) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._store = store
        self._identity = identity
        self._live = live
        self._told: tuple[UUID, Live] | None = None
        self._told_at = 0.0
        self._has_texts = True
        self._closing = runtime.event()
        self._service: Service | None = None

    def start(self) -> None:
        """Starts the service."""
        self._service = self._runtime.spawn(self._loop, "fang-live")

    async def close(self, within: float) -> None:
        """Ends the service, within ``within`` seconds."""
        self._closing.set()
        if self._service is not None:
            await self._service.join(within)
            self._service.cancel()

    async def _loop(self) -> None:
        seconds = EVERY  # not at once: a pool that drains for a moment needs no row, nor a connection for it
        while not await self._runtime.wait(self._closing, seconds):
            seconds = EVERY
            try:
                await self.look(time.monotonic())
            except FangError as error:  # other services warn of an outage
                self._logger.debug("what the pool does could not be written: %s", error)
                seconds = AGAIN_AFTER
            except Exception:
                self._logger.exception("what the pool does could not be written")
                seconds = AGAIN_AFTER

    async def look(self, now: float) -> None:
        """Writes what the pool does at this time of the monotonic clock, if it has changed."""
        pool_id, live = self._identity.id, self._live(now)
        known = (pool_id, _without_seconds(live))
        if known == self._told and now - self._told_at < AGAIN_AFTER:
            return
        try:
            await self._store.tell_live(pool_id, live if self._has_texts else _without_texts(live))
        except StatementRefused:  # the database lacks a character of a run's report
            if not self._has_texts:
                raise
            self._has_texts = False
            await self._store.tell_live(pool_id, _without_texts(live))
        self._told, self._told_at = known, now


def _without_seconds(live: Live) -> Live:
    """Returns what makes a difference: readers know how the seconds go on."""
    return live._replace(runs=tuple(run._replace(seconds=0.0) for run in live.runs))


def _without_texts(live: Live) -> Live:
    told = (run if run.progress is None else run._replace(progress=run.progress._replace(text="")) for run in live.runs)
    return live._replace(runs=tuple(told))
