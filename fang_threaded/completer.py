"""Writes outcomes, in batches that gather while the last one is in flight.

So one idle task is written at once, and a busy pool writes hundreds in one statement. What others have locked is set
apart, and tried again while later ones go on.
"""

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
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
from fang_core.store import Store

logger = SafeLogger("fang_threaded")


class _GivenUp(Exception):
    """The backend does not answer and the pool is stopping."""


class Completer:
    """One thread that writes what workers put.

    Args:
        on_written: called after each batch, with the outcomes that are dealt with.
        on_locked: called with those that others have locked, and that are tried again.
        on_lost: called with each outcome that the fence refused; returns whether its run had started.
        task_of: what was claimed for an outcome, if it is known.
    """

    def __init__(
        self,
        store: Store,
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
        # Beside outcomes: an event to set when all before it are dealt with, and None to end.
        self._outcomes: SimpleQueue[Outcome | threading.Event | None] = SimpleQueue()
        self._outage: Final = Outage(logger, "pool %s writes outcomes again")
        self._apart = Apart()
        self._flushes: list[threading.Event] = []  # to be set when nothing is apart any more
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="fang-completer", daemon=True)
        self._has_given_up = False
        self.written = 0
        """Outcomes dealt with so far; only this thread counts them."""

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, outcome: Outcome) -> None:
        """Has it written."""
        self._outcomes.put(outcome)

    def flush(self, within: float) -> None:
        """Waits until all that was put so far is dealt with, for ``within`` seconds at most."""
        flushed = threading.Event()
        self._outcomes.put(flushed)
        flushed.wait(within)

    def close(self, within: float) -> bool:
        """Writes what is there while the backend answers, for ``within`` seconds at most; whether all was written.

        What others have locked even then stays held, for those who take this pool for dead.
        """
        self._apart.close_at = time.monotonic() + within
        self._closing.set()
        self._outcomes.put(None)
        if self._thread.ident is not None:  # it was started
            self._thread.join(within)
        is_over = not self._thread.is_alive()
        if not is_over:
            logger.error("outcomes could not be written in time, as the backend does not answer")
        if self._apart:
            logger.error("outcomes that could not be written, as others have locked their tasks: %d", len(self._apart))
        return is_over and not self._has_given_up and not self._apart

    def _loop(self) -> None:
        more = True
        while more or self._apart.will_be_tried(time.monotonic()):
            batch, flushed, goes_on = self._gather()
            if batch:
                self._deal_with(batch)
            if flushed is not None:
                self._flushes.append(flushed)
            if flushed is not None or not goes_on:
                self._apart.hasten()
            more = more and goes_on
            for locked in self._apart.due(time.monotonic()):
                self._deal_with(locked, again=True)
            if not self._apart:
                while self._flushes:
                    self._flushes.pop().set()

    def _deal_with(self, batch: list[Outcome], *, again: bool = False) -> None:
        locked: list[Outcome] = []
        try:
            locked = self._flush(batch, waits=not again)
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

    def _gather(self) -> tuple[list[Outcome], threading.Event | None, bool]:
        """What has been put since; who waits for just that; and whether there will be more.

        It waits until there is something, or what is apart is due.
        """
        batch: list[Outcome] = []
        try:
            item = self._outcomes.get(timeout=self._apart.seconds(time.monotonic()))
            while item is not None:
                if isinstance(item, threading.Event):
                    return batch, item, True
                batch.append(item)
                if len(batch) >= MOST_IN_A_BATCH:
                    return batch, None, True
                item = self._outcomes.get_nowait()
        except Empty:
            return batch, None, True
        return batch, None, False

    def _flush(self, batch: list[Outcome], *, waits: bool) -> list[Outcome]:
        """Those that others have locked, to be tried again."""
        pool_id = self.pool_id
        writing = plan(batch)
        request = next(writing)
        while True:
            reply = self._write(pool_id, request, waits)
            try:
                request = writing.send(reply)
            except StopIteration as end:
                report: Report = end.value
                self._report(report, len(batch) - len(report.locked))
                return report.locked

    def _write(self, pool_id: UUID, request: list[Outcome], waits: bool) -> Reply:
        try:
            written = self._store.complete(pool_id, request, waits=waits)
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
            self._closing.wait(self._outage.failed(time.monotonic()))
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
