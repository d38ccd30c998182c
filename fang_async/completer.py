"""Writes outcomes, in batches that gather while the last one is in flight.

So one idle task is written at once, and a busy pool writes hundreds in one statement. What others have locked is set
apart, and tried again while later ones go on.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from fang_core.apart import Apart
from fang_core.completion import MOST_IN_A_BATCH, Refused, Reply, Report, Written, plan, reply_of, without
from fang_core.errors import BackendError, RowsLocked, is_refusal
from fang_core.events import Dispatcher, Events
from fang_core.failurelog import log_lost, log_unstorable
from fang_core.lifecycle import Outcome
from fang_core.logs import SafeLogger
from fang_core.outage import Outage
from fang_core.record import ClaimedTask
from fang_core.store import AsyncStore

logger = SafeLogger("fang_async")


class _GivenUp(Exception):
    """The backend does not answer and the pool is stopping."""


class Completer:
    """One asyncio task that writes what workers put.

    Args:
        on_written: called after each batch, with the outcomes that are dealt with.
        on_locked: called with those that others have locked, and that are tried again.
        on_lost: called with each outcome that the fence refused; returns whether its run had started.
        task_of: what was claimed for an outcome, if it is known.
    """

    def __init__(
        self,
        store: AsyncStore,
        pool_id: UUID,
        events: Dispatcher,
        *,
        on_written: Callable[[list[Outcome]], None],
        on_locked: Callable[[list[Outcome]], None],
        on_lost: Callable[[Outcome], bool],
        task_of: Callable[[Outcome], ClaimedTask | None],
    ) -> None:
        self.pool_id = pool_id
        """Whose outcomes they are from now on."""
        self._store = store
        self._events = events
        self._on_written = on_written
        self._on_locked = on_locked
        self._on_lost = on_lost
        self._task_of = task_of
        self._outcomes: list[Outcome] = []
        self._outage: Final = Outage(logger, "pool %s writes outcomes again")
        self._ready = asyncio.Event()
        self._apart = Apart()
        self._closing = asyncio.Event()
        self._flushed: list[tuple[int, asyncio.Event]] = []
        self._put = 0
        self._has_given_up = False
        self.written = 0
        """Outcomes dealt with so far."""

    def start(self) -> None:
        """Starts the task."""
        self._task = asyncio.create_task(self._loop(), name="fang-completer")

    def put(self, outcome: Outcome) -> None:
        """Has it written."""
        self._put += 1
        self._outcomes.append(outcome)
        if len(self._outcomes) == 1:
            self._ready.set()

    async def flush(self, within: float) -> None:
        """Waits until all that was put so far is dealt with, for ``within`` seconds at most."""
        if self.written < self._put:
            flushed = asyncio.Event()
            self._flushed.append((self._put, flushed))
            self._hasten()
            await wait_for(flushed, within)

    async def close(self, within: float) -> bool:
        """Writes what is there while the backend answers, for ``within`` seconds at most; whether all was written.

        What others have locked even then stays held, for those who take this pool for dead.
        """
        self._apart.close_at = time.monotonic() + within
        self._closing.set()
        self._hasten()
        await asyncio.wait([self._task], timeout=within)
        is_over = self._task.done()
        if not is_over:
            logger.error("outcomes could not be written in time, as the backend does not answer")
            self._task.cancel()
        if self._apart:
            logger.error("outcomes that could not be written, as others have locked their tasks: %d", len(self._apart))
        return is_over and not self._has_given_up and not self._apart

    def _hasten(self) -> None:
        self._apart.hasten()
        self._ready.set()

    async def _loop(self) -> None:
        while self._outcomes or not self._closing.is_set() or self._apart.will_be_tried(time.monotonic()):
            batch = await self._gather()
            if batch:
                await self._deal_with(batch)
            for locked in self._apart.due(time.monotonic()):
                await self._deal_with(locked, again=True)
            if not self._apart:
                for put, flushed in self._flushed:
                    if self.written >= put:
                        flushed.set()

    async def _deal_with(self, batch: list[Outcome], *, again: bool = False) -> None:
        locked: list[Outcome] = []
        try:
            locked = await self._flush(batch, waits=not again)
        except _GivenUp:
            self._has_given_up = True
            logger.error("outcomes that could not be written, as the backend does not answer: %d", len(batch))
        except Exception:
            self._has_given_up = True
            logger.exception("outcomes that could not be written: %d", len(batch))
        if locked:
            level = logging.WARNING if again else logging.INFO
            logger.log(level, "outcomes that wait to be written, as others have locked their tasks: %d", len(locked))
            self._apart.put(locked, time.monotonic(), again=again)
            self._on_locked(locked)
            batch = without(batch, locked)
        if batch:
            self.written += len(batch)
            self._on_written(batch)

    async def _gather(self) -> list[Outcome]:
        """What has been put since. It waits until there is something, or what is apart is due."""
        if not self._outcomes:
            self._ready.clear()
            if self._apart:
                await wait_for(self._ready, self._apart.seconds(time.monotonic()))
            elif not self._closing.is_set():
                await self._ready.wait()
        batch, self._outcomes = self._outcomes[:MOST_IN_A_BATCH], self._outcomes[MOST_IN_A_BATCH:]
        return batch

    async def _flush(self, batch: list[Outcome], *, waits: bool) -> list[Outcome]:
        """Those that others have locked, to be tried again."""
        pool_id = self.pool_id
        writing = plan(batch)
        request = next(writing)
        while True:
            reply = await self._write(pool_id, request, waits)
            try:
                request = writing.send(reply)
            except StopIteration as end:
                report: Report = end.value
                self._report(report, len(batch) - len(report.locked))
                return report.locked

    async def _write(self, pool_id: UUID, request: list[Outcome], waits: bool) -> Reply:
        try:
            written = await self._store.complete(pool_id, request, waits=waits)
        except Exception as error:
            if isinstance(error, RowsLocked) and error.locked:
                self._outage.over(time.monotonic(), pool_id)
                return Written(error.written, error.locked)
            # Also what nobody expected: an outcome is kept until it is written, or refused for what it holds.
            self._events.emit(Events.backend_failed, pool_id, error)
            if is_refusal(error):
                logger.warning("a batch was refused, outcomes: %d: %s", len(request), error)
                return Refused()
            if self._closing.is_set():
                raise _GivenUp from error
            unexpected = None if isinstance(error, BackendError) else error
            logger.warning("outcomes that wait to be written: %d: %s", len(request), error, exc_info=unexpected)
            await wait_for(self._closing, self._outage.failed(time.monotonic()))
            return reply_of(error)
        self._outage.over(time.monotonic(), pool_id)
        return Written(written)

    def _report(self, report: Report, count: int) -> None:
        for outcome in report.unstorable:
            log_unstorable(logger, outcome, self._task_of(outcome))
        for outcome in report.lost:
            if self._on_lost(outcome):
                log_lost(logger, outcome, self._task_of(outcome))
            self._events.emit(Events.task_lost, self.pool_id, outcome)
        if count:
            self._events.emit(Events.outcomes_written, self.pool_id, count)


async def wait_for(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether the event was set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
