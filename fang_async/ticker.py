"""Inserts the tasks of the schedules that a pool serves, each tick once however many pools do."""

import asyncio
import time
from datetime import datetime

from fang_async.completer import wait_for
from fang_core.errors import BackendError, FangError, is_refusal
from fang_core.logs import SafeLogger
from fang_core.outage import Outage
from fang_core.store import AsyncStore
from fang_core.ticking import Timetable

logger = SafeLogger("fang_async")


class Ticker:
    """One asyncio task, asleep until the next tick."""

    def __init__(self, store: AsyncStore, timetable: Timetable) -> None:
        self._store = store
        self._timetable = timetable
        self._outage = Outage(logger, "schedules tick again")
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Starts the task."""
        self._task = asyncio.create_task(self._loop(), name="fang-ticker")

    async def close(self, within: float) -> None:
        """Ends it, in so many seconds."""
        self._closing.set()
        await asyncio.wait([self._task], timeout=within)
        self._task.cancel()

    async def _loop(self) -> None:
        seconds = 0.0
        while not await wait_for(self._closing, seconds):
            try:
                seconds = await self._turn()
                self._outage.over(time.monotonic())
            except FangError as error:
                logger.warning("schedules could not tick and will be tried again: %s", error)
                seconds = self._outage.failed(time.monotonic())
            except Exception:
                logger.exception("schedules could not tick and will be tried again")
                seconds = self._outage.failed(time.monotonic())

    async def _turn(self) -> float:
        """Does what is due; seconds until there is something to do again."""
        timetable = self._timetable
        if timetable.must_look(time.monotonic()):
            sighting = await self._store.sight(timetable.names)
            timetable.saw(sighting, time.monotonic())
        for name, at in timetable.due(time.monotonic()):
            await self._tick(name, at)
        return timetable.seconds_until_next(time.monotonic())

    async def _tick(self, name: str, at: datetime) -> None:
        try:
            ticked = await self._store.tick(self._timetable.tick(name, at))
        except Exception as error:
            if isinstance(error, BackendError) and not is_refusal(error):
                raise
            # Its class does not build any more, or builds what the backend refuses: the other schedules go on.
            logger.exception("schedule %s could not tick for %s", name, at)
        else:
            if ticked:
                logger.info("schedule %s ticked for %s", name, at)
        self._timetable.ticked(name, at)
