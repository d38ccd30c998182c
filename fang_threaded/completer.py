"""Writes outcomes, in batches that gather while the last one is in flight.

So one idle task is written at once, and a busy pool writes hundreds in one statement.
"""

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final
from uuid import UUID

from fang_core.completion import MOST_IN_A_BATCH, Refused, Reply, Report, Unanswered, Written, plan
from fang_core.demand import Retry
from fang_core.errors import BackendError, is_refusal
from fang_core.events import Dispatcher, Events
from fang_core.lifecycle import Outcome
from fang_core.store import Store

logger = logging.getLogger("fang_threaded")


class _GivenUp(Exception):
    """The backend does not answer and the pool is stopping."""


class Completer:
    """One thread that writes what workers put.

    Args:
        on_written: called after each batch.
    """

    def __init__(self, store: Store, pool_id: UUID, events: Dispatcher, on_written: Callable[[], None]) -> None:
        self._store = store
        self._pool_id = pool_id
        self._events = events
        self._on_written = on_written
        self._outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        self._retry: Final = Retry()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="fang-completer", daemon=True)
        self.written = 0
        """Outcomes dealt with so far; only this thread counts them."""

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, outcome: Outcome) -> None:
        """Has it written."""
        self._outcomes.put(outcome)

    def close(self, within: float) -> None:
        """Writes what is there while the backend answers, for ``within`` seconds at most."""
        self._closing.set()
        self._outcomes.put(None)
        self._thread.join(within)

    def _loop(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            if batch:
                try:
                    self._flush(batch)
                except _GivenUp:
                    logger.error("%d outcomes could not be written: the backend does not answer", len(batch))
                except Exception:
                    logger.exception("%d outcomes could not be written", len(batch))
                self.written += len(batch)
                self._on_written()

    def _gather(self) -> tuple[list[Outcome], bool]:
        """What has been put since, at least one; and whether there will be more."""
        batch: list[Outcome] = []
        try:
            outcome = self._outcomes.get()
            while outcome is not None:
                batch.append(outcome)
                if len(batch) >= MOST_IN_A_BATCH:
                    return batch, True
                outcome = self._outcomes.get_nowait()
        except Empty:
            return batch, True
        return batch, False

    def _flush(self, batch: list[Outcome]) -> None:
        writing = plan(batch)
        request = next(writing)
        while True:
            reply = self._write(request)
            try:
                request = writing.send(reply)
            except StopIteration as end:
                self._report(end.value, len(batch))
                return

    def _write(self, request: list[Outcome]) -> Reply:
        try:
            written = self._store.complete(self._pool_id, request)
        except Exception as error:
            # Also what nobody expected: an outcome is kept until it is written, or refused for what it holds.
            self._events.emit(Events.backend_failed, self._pool_id, error)
            if is_refusal(error):
                logger.warning("a batch of %d outcomes was refused: %s", len(request), error)
                return Refused()
            if self._closing.is_set():
                raise _GivenUp from error
            unexpected = None if isinstance(error, BackendError) else error
            logger.warning("%d outcomes wait to be written: %s", len(request), error, exc_info=unexpected)
            self._closing.wait(self._retry.sleep())
            return Unanswered()
        self._retry.succeeded()
        return Written(written)

    def _report(self, report: Report, count: int) -> None:
        for outcome in report.unstorable:
            logger.error("task %s: its outcome could not be stored; it was failed instead", outcome.id)
        for outcome in report.lost:
            logger.warning("task %s was lost: attempt %d is no longer ours", outcome.id, outcome.attempt)
            self._events.emit(Events.task_lost, self._pool_id, outcome)
        self._events.emit(Events.outcomes_written, self._pool_id, count)
