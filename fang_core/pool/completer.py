"""Writes outcomes, in batches that gather while the last batch is in flight.

An idle pool therefore writes its one outcome at once, and a busy pool writes hundreds in one statement. Outcomes whose
rows another session has locked are set aside and tried again; later outcomes do not wait for them.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias
from uuid import UUID

from fang_core.backends.store import OutcomeStore
from fang_core.errors import BackendError, RowsLocked, is_refusal
from fang_core.events import EventBus, Events
from fang_core.failurelog import log_lost, log_unstorable
from fang_core.lifecycle import Outcome
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.outage import Outage
from fang_core.pool.runtime import Event, Runtime, Service
from fang_core.record import ClaimedTask
from fang_core.runs.completion import MOST_IN_A_BATCH, Refused, Reply, Report, Written, plan, reply_of, without
from fang_core.runs.locked_outcomes import LockedOutcomes

TRIED_FOR: Final = 0.7
"""The part of the time to close for which locked outcomes are tried again; the rest is for the last try to end."""

Item: TypeAlias = Outcome | Event
"""An outcome, or the event of a flush: the completer sets it when it has dealt with everything put before it."""


class _GivenUp(Exception):
    """Raised when the backend does not answer and the pool is stopping."""


class Completer:
    """A service that writes the outcomes that workers put.

    Args:
        on_written: called after each batch, with the outcomes that are dealt with.
        on_locked: called with the outcomes whose rows other transactions have locked; they will be tried again.
        on_lost: called with each outcome that the fence refused; returns whether its run had started.
        task_of: returns the claimed task of an outcome, if it is known.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: OutcomeStore,
        identity: PoolIdentity,
        events: EventBus,
        *,
        on_written: Callable[[list[Outcome]], None],
        on_locked: Callable[[list[Outcome]], None],
        on_lost: Callable[[Outcome], bool],
        task_of: Callable[[Outcome], ClaimedTask | None],
    ) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._store = store
        self._identity = identity
        self._events = events
        self._on_written = on_written
        self._on_locked = on_locked
        self._on_lost = on_lost
        self._task_of = task_of
        self._items: deque[Item] = deque()
        self._outage: Final = Outage(runtime.logger, "pool %s writes outcomes again")
        self._ready = runtime.event()
        self._is_waiting = False  # whether an item must set it
        self._ends: deque[Event] = deque()  # the events among the items
        self._locked = LockedOutcomes()
        self._flushes: list[Event] = []  # to be set once no outcome waits for a lock any more
        self._closing = runtime.event()
        self._service: Service | None = None
        self._has_given_up = False
        self.written = 0
        """How many outcomes it has dealt with; only the service writes this."""

    def start(self) -> None:
        """Starts the service."""
        self._service = self._runtime.spawn(self._loop, "fang-completer")

    def put(self, item: Item) -> None:
        """Queues an outcome to be written; any worker may call this."""
        self._items.append(item)
        if self._is_waiting:  # after the item is there: see _gather
            self._ready.set()

    def _put_end(self, event: Event) -> None:
        """Queues an event. ``_gather`` tells events from outcomes only while ``_ends`` holds some."""
        self._ends.append(event)
        self.put(event)

    async def flush(self, within: float) -> None:
        """Waits until everything put so far is dealt with, for ``within`` seconds at most."""
        if self._service is None:
            return  # the pool could not start: nothing was put
        flushed = self._runtime.event()
        self._put_end(flushed)
        await self._runtime.wait(flushed, within)

    async def close(self, within: float) -> bool:
        """Writes what is left while the backend answers, for ``within`` seconds at most.

        Returns whether everything was written. A task whose row is locked even then stays held, until another pool
        takes this one for dead and rescues it.
        """
        self._locked.close_at = time.monotonic() + TRIED_FOR * within
        self._closing.set()
        self._put_end(self._runtime.event())
        is_over = self._service is None or await self._service.join(within)
        if self._service is not None and not is_over:
            self._logger.error("outcomes not written in time: the database does not answer")
            self._service.cancel()
        if self._locked:
            self._logger.error("%d outcomes not written: other transactions have locked their tasks", len(self._locked))
        return is_over and not self._has_given_up and not self._locked

    async def _loop(self) -> None:
        while self._items or not self._closing.is_set() or self._locked.will_be_tried(time.monotonic()):
            batch, flushed = await self._gather()
            if batch:
                await self._deal_with(batch)
            if flushed is not None:
                self._flushes.append(flushed)
                self._locked.hasten()
            for locked in self._locked.due(time.monotonic()):
                await self._deal_with(locked, again=True)
            if not self._locked:
                while self._flushes:
                    self._flushes.pop().set()

    async def _deal_with(self, batch: list[Outcome], *, again: bool = False) -> None:
        locked: list[Outcome] = []
        try:
            locked = await self._flush(batch, waits=not again)
        except _GivenUp:
            self._has_given_up = True
            self._logger.error("%d outcomes not written: the database does not answer", len(batch))
        except Exception:
            self._has_given_up = True
            self._logger.exception("%d outcomes not written", len(batch))
        if locked:
            level = logging.WARNING if again else logging.INFO
            self._logger.log(
                level,
                "%d outcomes wait to be written: other transactions, or slow claims, lock their tasks",
                len(locked),
            )
            self._locked.put(locked, time.monotonic(), again=again)
            self._on_locked(locked)
            batch = without(batch, locked)
        if batch:
            self.written += len(batch)
            self._on_written(batch)

    async def _gather(self) -> tuple[list[Outcome], Event | None]:
        """Returns the outcomes put since the last call, up to a flush, and the event of that flush.

        It waits until there is something, or until locked outcomes are due.
        """
        items = self._items
        if not items:
            self._ready.clear()
            self._is_waiting = True
            if not items:  # again: something may just have been put
                await self._runtime.wait(self._ready, self._locked.seconds(time.monotonic()))
            self._is_waiting = False
        batch: list[Outcome] = []
        for _ in range(min(len(items), MOST_IN_A_BATCH)):
            item = items.popleft()
            if self._ends and not isinstance(item, Outcome):
                self._ends.popleft()
                return batch, item
            batch.append(item)  # type: ignore[arg-type]
        return batch, None

    async def _flush(self, batch: list[Outcome], *, waits: bool) -> list[Outcome]:
        """Writes a batch; returns the outcomes whose rows other transactions have locked, to be tried again."""
        pool_id = self._identity.id
        began = time.monotonic()
        writing = plan(batch)
        request = next(writing)
        while True:
            reply = await self._write(pool_id, request, waits)
            try:
                request = writing.send(reply)
            except StopIteration as end:
                report: Report = end.value
                self._report(report, len(batch) - len(report.locked), time.monotonic() - began)
                return report.locked

    async def _write(self, pool_id: UUID, request: list[Outcome], waits: bool) -> Reply:
        try:
            written = await self._store.complete(pool_id, request, waits=waits)
        except Exception as error:
            if isinstance(error, RowsLocked) and error.locked:
                self._outage.over(time.monotonic(), pool_id)
                return Written(error.written, error.locked)
            # Unexpected errors as well: an outcome is kept until it is written, or refused for its values.
            self._events.emit(Events.backend_failed, pool_id, error)
            if is_refusal(error):
                self._logger.warning("a batch of %d outcomes was refused: %s", len(request), error)
                return Refused()
            if self._closing.is_set():
                raise _GivenUp from error
            if self._outage.is_to_tell(time.monotonic(), str(error)):
                unexpected = None if isinstance(error, BackendError) else error
                self._logger.warning("%d outcomes wait to be written: %s", len(request), error, exc_info=unexpected)
            await self._runtime.wait(self._closing, self._outage.failed(time.monotonic()))
            return reply_of(error)
        self._outage.over(time.monotonic(), pool_id)
        return Written(written)

    def _report(self, report: Report, count: int, seconds: float) -> None:
        for outcome in report.unstorable:
            log_unstorable(self._logger, outcome, self._task_of(outcome))
        for outcome in report.lost:
            if self._on_lost(outcome):
                log_lost(self._logger, outcome, self._task_of(outcome))
            self._events.emit(Events.task_lost, self._identity.id, outcome)
        if count:
            self._events.emit(Events.outcomes_written, self._identity.id, count, seconds)
