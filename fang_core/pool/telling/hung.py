"""Watches a pool's runs from the thread of its heart: those that go on for long, and an event loop that stands still.

It costs runs nothing: with each beat it looks once at the runs that go on, and asks the event loop for an answer.
"""

import json
import time
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from fang_core.claims.inflight import InFlight
from fang_core.events import EventBus, Events
from fang_core.failure import clean
from fang_core.failurelog import about, run_number
from fang_core.interpreter.places import place_in
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.runtime import Runtime
from fang_core.pool.workers import Workers
from fang_core.runs.location import place_of
from fang_core.runs.run import LONGEST_TEXT, Run
from fang_core.tasks.registry import Kinds

MOST_RUNS: Final = 1_000
"""Runs that a pool's record tells of; hung ones come first."""


class HungRuns:
    """Warns once of each run that goes on for longer than ``warn_after`` and its own timeout, and says where it stands.

    All methods but ``loop_silent`` are called on the heart's thread.

    Args:
        warn_after: in seconds; None warns of nothing.
    """

    def __init__(
        self,
        runtime: Runtime,
        in_flight: InFlight,
        workers: Workers,
        kinds: Kinds,
        *,
        identity: PoolIdentity,
        events: EventBus,
        warn_after: float | None,
    ) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._in_flight = in_flight
        self._workers = workers
        self._kinds = kinds
        self._identity = identity
        self._events = events
        self._warn_after = warn_after
        self._told: dict[Run, str | None] = {}  # the hung runs, and where they stand; added to where the pool lives
        self._blocking: tuple[Run, str | None] | None = None  # the run that blocks the event loop, and where
        self._is_blocked = False
        self._is_asked = False  # whether the event loop was asked, and has not answered
        self._asked_at = 0.0
        self._since: dict[Run, str] = {}

    def look(self) -> None:
        """Looks at the runs and at the event loop, and warns."""
        now = time.monotonic()
        self._look_at_loop(now, self._warn_after)
        if self._warn_after is None:
            return
        for run in [run for run in list(self._told) if run.over]:
            self._told.pop(run, None)
        late = [run for run in self._in_flight.begun(now - self._warn_after) if self._is_news(run, now)]
        if late:
            self._runtime.call_soon(lambda: self._tell(late))

    def as_json(self, pool_id: UUID) -> str:
        """Returns the hung runs, and those that have reported their progress, for the pool's record."""
        runs = {run: self._entry(run, pool_id, hung) for run, hung in self._notable(pool_id)}
        self._since = {run: since for run, since in self._since.items() if run in runs}
        return json.dumps({str(run.task.id): entry for run, entry in runs.items()})

    # Hung runs --------------------------------------------------------------------------------------------------------

    def _is_news(self, run: Run, now: float) -> bool:
        limit = run.task.timeout
        return run not in self._told and (limit is None or now - run.limited_since(now) >= limit.total_seconds())

    def _tell(self, late: list[Run]) -> None:
        """Is called where the pool lives: on the event loop, its runs stand still meanwhile."""
        for run in late:
            place = place_of(run, self._module_of(run))
            if run.over or run in self._told:
                continue
            self._told[run] = place
            seconds = time.monotonic() - run.began
            stands = "in its" if run.isolated else "and stands at"
            self._logger.warning(
                "task %s (%s): run %d has been going on for %.1f s%s",
                run.task.id,
                run.task.kind,
                run_number(run.task),
                seconds,
                f", {stands} {place}" if place else "",
                extra={**about(run.task), "seconds": seconds},
            )
            self._events.emit(Events.run_hung, self._identity.id, run.task, seconds, place)

    def _module_of(self, run: Run | None) -> str:
        cls = None if run is None else self._kinds.classes.get(run.task.kind)
        return "" if cls is None else cls.__module__

    # The event loop ---------------------------------------------------------------------------------------------------

    def loop_silent(self, now: float) -> float:
        """Returns for how many seconds the event loop has owed an answer; any thread may call this."""
        asked_at = self._asked_at
        return now - asked_at if self._is_asked else 0.0

    def _look_at_loop(self, now: float, warn_after: float | None) -> None:
        if not self._is_asked:
            if self._is_blocked:
                self._is_blocked, self._blocking = False, None
                self._logger.info("the event loop of pool %s goes on", self._identity.id)
            self._asked_at = now  # first: probes read this on other threads
            self._is_asked = True
            self._runtime.call_soon(self._answer)
            return
        seconds = now - self._asked_at
        if warn_after is not None and seconds >= warn_after and not self._is_blocked:
            self._is_blocked = True
            self._tell_of_blocked(seconds)

    def _answer(self) -> None:
        """Is called where the pool lives."""
        self._is_asked = False

    def _tell_of_blocked(self, seconds: float) -> None:
        run = self._workers.executing()
        place = place_in(self._runtime.frames(), self._module_of(run))
        if run is not None:
            self._blocking = (run, place)
        self._logger.warning(
            "the event loop has been blocked for %.1f s%s%s",
            seconds,
            f", at {place}" if place else "",
            f", by task {run.task.id} ({run.task.kind})" if run is not None else "",
            extra={"seconds": seconds, **(about(run.task) if run is not None else {})},
        )
        self._events.emit(Events.loop_blocked, self._identity.id, seconds, place)

    # The pool's record ------------------------------------------------------------------------------------------------

    def _notable(self, pool_id: UUID) -> Iterator[tuple[Run, dict[str, Any]]]:
        """Yields runs under this id, hung ones first, ``MOST_RUNS`` at most, each with what is to be said of that."""
        hung = {run: {"hung": place} for run, place in list(self._told.items())}
        if self._blocking is not None:
            run, place = self._blocking
            hung[run] = {"hung": place}
        left = MOST_RUNS
        for run in (*hung, *(run for run in self._in_flight.reporting() if run not in hung)):
            if run.pool_id == pool_id and not run.over and left:
                left -= 1
                yield run, hung.get(run, {})

    def _entry(self, run: Run, pool_id: UUID, hung: dict[str, Any]) -> dict[str, Any]:
        entry = {"kind": run.task.kind, "attempt": run.task.attempt, "since": self._began(run), **hung}
        if run.reported is not None:
            done, total, text = run.reported
            entry["progress"] = {"done": done, "total": total, "text": clean(text[:LONGEST_TEXT], 4 * LONGEST_TEXT)}
        return entry

    def _began(self, run: Run) -> str:
        """Returns when the run began, by the backend's clock; always the same, although the clocks go apart."""
        if run not in self._since:
            claimed = self._in_flight.claimed
            assert claimed is not None
            self._since[run] = claimed.on_backend_clock(run.began).isoformat()
        return self._since[run]
