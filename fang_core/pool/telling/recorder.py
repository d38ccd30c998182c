"""Writes a pool's counts into the backend, every few seconds and when the pool ends: its history.

Nothing of the pool waits for it. If the backend does not answer, the counts stay here and are written later.
"""

import random
import time
from collections.abc import Callable, Collection
from typing import Final
from uuid import uuid4

from fang_core.backends.store import HistoryStore
from fang_core.claims.expiry import ClaimTime
from fang_core.errors import FangError
from fang_core.monitoring.history import POOL, Minutes, Pair, StatsRow
from fang_core.monitoring.tally import Tally
from fang_core.pool.outage import Outage
from fang_core.pool.runtime import Runtime, Service
from fang_core.runs.run import Run

EVERY: Final = 5.0
"""Seconds between two flushes, about: a killed process loses what it has counted since the last one."""

IDLE: Final = 50.0
"""Seconds between two flushes of a pool that only has its workers' time to tell of."""


class Recorder:
    """A service that flushes the tally of a pool.

    Args:
        held: returns the runs that the pool holds.
        workers: returns how many workers the pool has.
        claimed: returns when the pool claimed last; None if it has not.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: HistoryStore,
        tally: Tally,
        held: Callable[[], Collection[Run]],
        workers: Callable[[], int],
        *,
        claimed: Callable[[], ClaimTime | None] = lambda: None,
    ) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._store = store
        self._tally = tally
        self._held = held
        self._workers = workers
        self._claimed = claimed
        self._writer = uuid4()
        self._minutes = Minutes()
        self._worker_s = 0.0
        self._counted_at = time.monotonic()
        self._flushed_at = float("-inf")
        self._has_failed = False
        self._outage = Outage(runtime.logger, "the pool's history is written again")
        self._closing = runtime.event()
        self._service: Service | None = None

    def start(self) -> None:
        """Starts the service."""
        self._counted_at = time.monotonic()
        self._service = self._runtime.spawn(self._loop, "fang-recorder")

    def end(self) -> None:
        """Makes the service flush once more and end; ``close`` waits for it. All outcomes are written by now."""
        self._closing.set()

    async def close(self, within: float) -> None:
        """Ends the service, within ``within`` seconds."""
        self.end()
        if self._service is not None:
            if not await self._service.join(within):
                self._logger.warning("the last seconds of the pool's history were not written in time")
            self._service.cancel()

    async def _loop(self) -> None:
        seconds = self._jittered()
        while not await self._runtime.wait(self._closing, seconds):
            seconds = await self._try()
        await self._try(is_last=True)

    async def _try(self, *, is_last: bool = False) -> float:
        """Flushes; returns the seconds until the next time."""
        try:
            await self.flush(is_last=is_last)
        except Exception as error:
            if not self._has_failed or is_last:
                unexpected = None if isinstance(error, FangError) else error
                self._logger.warning(
                    "the pool's history could not be written and will be: %s", error, exc_info=unexpected
                )
            self._has_failed = True
            return max(EVERY, self._outage.failed(time.monotonic()))
        self._has_failed = False
        self._outage.over(time.monotonic())
        return self._jittered()

    async def flush(self, *, is_last: bool = False) -> None:
        """Writes what was counted since the last time."""
        now = time.monotonic()
        totals = self._totals(now)
        if not self._minutes.is_known:
            if is_last and len(totals) == 1:
                return  # a pool that was there for a moment, and found nothing to do
            claimed = self._claimed()
            self._minutes.heard(*(claimed or (await self._store.tell_time(), now)))
        may_wait = not is_last and not self._minutes.is_unanswered and now - self._flushed_at < IDLE
        for _ in range(2):  # once more if the first one comes too late for its minute
            flush = self._minutes.flush(totals, now)
            if not flush.rows or (may_wait and set(flush.rows) == {POOL}):
                self._minutes.skipped()
                return
            reply = await self._store.flush_stats(self._writer, flush)
            self._minutes.answered(reply, now := time.monotonic())
            if reply.is_written:
                break
        self._flushed_at = now
        self._tally.adapt()

    def _totals(self, now: float) -> dict[Pair, StatsRow]:
        """Returns the totals of all kinds, and those of the pool: the seconds that its workers were there, and busy."""
        held: Collection[Run] = ()

        def read() -> Collection[Run]:
            nonlocal held
            held = self._held()
            return held

        totals = self._tally.totals(read)
        self._worker_s += self._workers() * (now - self._counted_at)
        self._counted_at = now
        busy = sum(row.run_s for row in totals.values())
        busy += sum(max(0.0, now - run.began) for run in held if run.began and not run.over)
        totals[POOL] = StatsRow(run_s=busy, worker_s=self._worker_s)
        return totals

    def _jittered(self) -> float:
        # So that pools that were started together do not flush together.
        return EVERY * random.uniform(0.8, 1.2)
