"""Inserts the tasks of the schedules that a pool serves: each tick once, however many pools serve its schedule."""

import logging
import time
from datetime import datetime
from typing import Final
from uuid import UUID

from fang_core.backends.store import ScheduleStore
from fang_core.backends.ticking import Timetable
from fang_core.backends.waking import SCHEDULES
from fang_core.errors import BackendError, FangError, is_refusal
from fang_core.pool.outage import Outage
from fang_core.pool.runtime import Runtime, Service
from fang_core.schedules.stored import Verdict

APART: Final = 0.02
"""Seconds between two turns at least, however often other processes tell of changed schedules."""


class Ticker:
    """A service that sleeps until the next tick, or until schedules have changed."""

    def __init__(self, runtime: Runtime, store: ScheduleStore, timetable: Timetable) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._store = store
        self._timetable = timetable
        self._outage = Outage(runtime.logger, "schedules tick again")
        self._closing = runtime.event()
        self._woken = runtime.event()
        self._service: Service | None = None

    def start(self) -> None:
        """Starts the service."""
        self._service = self._runtime.spawn(self._loop, "fang-ticker")

    async def close(self, within: float) -> None:
        """Ends the service, within ``within`` seconds."""
        self._closing.set()
        self._woken.set()
        if self._service is not None:
            await self._service.join(within)
            self._service.cancel()

    def on_told(self, told: UUID) -> None:
        """Reads the schedules again if a message says that they have changed; any thread may call this."""
        if told == SCHEDULES:
            self._runtime.call_soon(self._reread)

    def _reread(self) -> None:
        self._timetable.mark_stale()
        self._timetable.declare_again()
        self._woken.set()

    async def _loop(self) -> None:
        seconds = 0.0
        while not self._closing.is_set():
            if await self._runtime.wait(self._woken, seconds):
                self._woken.clear()
                await self._runtime.wait(self._closing, APART)
            if self._closing.is_set():
                return
            try:
                seconds = await self._turn()
                self._outage.over(time.monotonic())
            except Exception as error:
                if self._outage.is_to_tell(time.monotonic(), str(error)):
                    unexpected = None if isinstance(error, FangError) else error
                    self._logger.log(
                        logging.WARNING if unexpected is None else logging.ERROR,
                        "schedules could not tick and will be tried again: %s",
                        error,
                        exc_info=unexpected,
                    )
                seconds = self._outage.failed(time.monotonic())

    async def _turn(self) -> float:
        """Inserts the tasks of the ticks that are due; returns the seconds until there is something to do again."""
        timetable = self._timetable
        if timetable.undeclared or timetable.declares_again:
            await self._declare()
        if timetable.must_look(time.monotonic()):
            await self._look()
        left_out: set[str] = set()
        for name, at in timetable.due(time.monotonic()):
            if name not in left_out and not self._closing.is_set() and not await self._tick(name, at):
                left_out.add(name)
        return timetable.seconds_until_next(time.monotonic())

    async def _look(self) -> None:
        timetable = self._timetable
        timetable.begin_look()
        try:
            state = await self._store.read_schedules(timetable.names, timetable.task_types, timetable.version)
        except BaseException:
            timetable.mark_stale()
            raise
        for error in timetable.saw(state, time.monotonic()):
            self._logger.warning("a schedule is left out: %s", error)

    async def _declare(self) -> None:
        """Writes the schedules of the classes, for people who list them; pools tick by the classes themselves."""
        timetable = self._timetable
        changed = timetable.undeclared
        timetable.undeclared = timetable.declares_again = False
        try:
            dropped = timetable.dropped if changed else ()
            await self._store.declare_schedules(timetable.declared, dropped, not changed)
        except BaseException:
            timetable.undeclared |= changed
            timetable.declares_again |= not changed
            raise

    async def _tick(self, name: str, at: datetime) -> bool:
        """Makes a tick; returns whether later ones of its schedule may follow now."""
        timetable = self._timetable
        try:
            tick = timetable.tick(name, at)
            if timetable.is_stored(name):
                verdict = await self._store.tick_stored(tick)
            else:
                raised = await self._store.tick(tick)
                verdict = Verdict.WAITS if raised is None else Verdict.TICKED if raised else Verdict.DONE
        except Exception as error:
            if isinstance(error, BackendError) and not is_refusal(error):
                raise
            # Its class raises when a task is made, or the backend refuses the task: the other schedules go on.
            self._logger.exception("schedule %s could not tick for %s", name, at)
            timetable.refused(name, at)
            return True
        return self._note(name, at, verdict)

    def _note(self, name: str, at: datetime, verdict: Verdict) -> bool:
        timetable = self._timetable
        if verdict is Verdict.TICKED:
            self._logger.info("schedule %s ticked for %s", name, at)
        elif verdict is Verdict.SKIPPED:
            self._logger.info("schedule %s skipped %s: the task of its last tick has not ended", name, at)
        elif verdict is Verdict.PAUSED:
            self._logger.warning("schedule %s is paused: the task of its last tick has failed", name)
        if verdict is Verdict.WAITS:
            timetable.waits(name, time.monotonic())
        elif verdict in (Verdict.PAUSED, Verdict.STALE):
            timetable.mark_stale()
        else:
            timetable.ticked(name, at)
            return True
        return False
