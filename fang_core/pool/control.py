"""Connects a pool's heart with its runs: what the heart reports of them, and what it learns about them and the pool."""

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from fang_core.claims.inflight import InFlight, goes_on
from fang_core.failurelog import about
from fang_core.logs import set_level
from fang_core.messages import Delivery, Resize, SetLogLevel, Stop
from fang_core.pool.runtime import Runtime
from fang_core.pool.telling.hung import HungRuns
from fang_core.pool.workers import Workers
from fang_core.runs.interrupt import Interrupt
from fang_core.runs.run import Run
from fang_core.words.texts import cut, printable

RUNNING_FOR: Final = 0.1
"""Seconds for which a run must have been going on before beats ask about it: short runs cost them nothing. With a beat
each second, a run hears within 1.2 s that its task is cancelled or was taken away, also if that is just after it began:
then it may be too young for the next beat, and the one after that comes when it is 1.1 s old."""


class Control:
    """Answers what a heart asks about its pool, and handles the answers to beats. This one has no runs, and does
    nothing.

    All methods are called on the heart's thread.
    """

    def look(self) -> None:
        """Is called before each beat: looks for what the pool is to be warned of."""

    def held(self, pool_id: UUID, *, every: bool) -> list[Run]:
        """Returns the runs that go on under this id and whose tasks the beat asks about.

        With ``every`` these include runs that began just now or have not begun: the pool has just got a message.
        """
        return []

    def runs(self, pool_id: UUID) -> str | None:
        """Returns an object of JSON with the notable runs under this id; see ``BeatRequest.runs``."""
        return None

    def workers(self) -> int | None:
        """Returns how many tasks the pool runs at once, for its record; see ``BeatRequest.workers``."""
        return None

    def on_lost(self, run: Run) -> None:
        """Is called when the pool no longer holds the task of this run."""

    def on_cancel(self, run: Run, reason: str, by: str) -> None:
        """Is called when the task of this run is to be cancelled; with each beat, until the request is answered."""

    def on_message(self, delivery: Delivery) -> None:
        """Is called once for each message."""


class PoolControl(Control):
    """Controls a pool with workers.

    Args:
        on_stop: called, where the pool lives, when a message asks the pool to stop.
        on_resize: called, where the pool lives, with the number of workers that a message asks for.
        on_missing: called, where the pool lives, before each beat at which workers are missing.
    """

    def __init__(
        self,
        runtime: Runtime,
        in_flight: InFlight,
        workers: Workers,
        hung: HungRuns,
        *,
        on_stop: Callable[[], None],
        on_resize: Callable[[int], None],
        on_missing: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._in_flight = in_flight
        self._workers = workers
        self._hung = hung
        self._on_stop = on_stop
        self._on_resize = on_resize
        self._on_missing = on_missing

    def look(self) -> None:
        """See ``Control.look``."""
        self._hung.look()
        self._workers.look()
        if self._workers.missing:
            self._runtime.call_soon(self._on_missing)

    def runs(self, pool_id: UUID) -> str:
        """See ``Control.runs``."""
        return self._hung.as_json(pool_id)

    def held(self, pool_id: UUID, *, every: bool) -> list[Run]:
        """See ``Control.held``."""
        if every:
            return self._in_flight.held(pool_id)
        return self._in_flight.running(pool_id, time.monotonic() - RUNNING_FOR)

    def workers(self) -> int:
        """See ``Control.workers``."""
        return self._workers.size

    def on_lost(self, run: Run) -> None:
        """See ``Control.on_lost``."""
        self._runtime.call_soon(lambda: self._lose(run))

    def on_cancel(self, run: Run, reason: str, by: str) -> None:
        """See ``Control.on_cancel``."""
        self._runtime.call_soon(lambda: self._cancel(run, reason))

    def on_message(self, delivery: Delivery) -> None:
        """See ``Control.on_message``."""
        self._runtime.call_soon(lambda: self._obey(delivery))

    # Called where the pool lives --------------------------------------------------------------------------------------

    def _lose(self, run: Run) -> None:
        # A run that has ended or completed its task has removed the row itself. If it has not begun, a later beat asks
        # about it again.
        if goes_on(run) and run.started:
            run.is_lost = True
            self._logger.warning("task %s was taken away from its run", run.task.id, extra=about(run.task))
            self._workers.interrupt(run, Interrupt.LOST)

    def _cancel(self, run: Run, reason: str) -> None:
        if goes_on(run):
            if run.started:
                self._workers.interrupt(run, Interrupt.CANCELLED, reason)
            else:  # if a worker takes it at this moment, a later beat asks about it again
                run.cancelled, run.expires = reason, 0.0

    def _obey(self, delivery: Delivery) -> None:
        message, sender = delivery.message, cut(printable(delivery.sender))
        if message is None:
            self._logger.debug(
                "a message by %s is ignored, since its kind or its fields are not known: %s",
                sender,
                cut(printable(delivery.kind)),
            )
            return
        self._logger.info("told by %s: %s", sender, message)
        if isinstance(message, Stop):
            self._on_stop()
        elif isinstance(message, Resize):
            self._on_resize(message.workers)
        elif isinstance(message, SetLogLevel):
            set_level(message.level)
