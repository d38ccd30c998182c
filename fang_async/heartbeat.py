"""Beats for a pool, watches the others, and takes back what dead ones held; on a thread of its own.

A thread with an event loop of its own, so that a run that blocks the application's loop does not stop the heart. C code
that holds the GIL does: the lease must be longer than the longest of it.
"""

import _thread
import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

from fang_async.completer import wait_for
from fang_core.config import EXIT_RUNS_LEFT
from fang_core.errors import FangError
from fang_core.events import Dispatcher, Events
from fang_core.failurelog import log_rescue
from fang_core.liveness import CUT_OFF_AFTER, EVERY, Pulse, Watch
from fang_core.logs import SafeLogger
from fang_core.outage import Outage
from fang_core.store import AsyncHeart, Rescued

logger = SafeLogger("fang_async")

SWEEP_EVERY: Final = 15
"""Beats between two looks for tasks whose holder has no record."""


class Heartbeat:
    """One thread.

    Args:
        lease: the pool's own, in seconds. Others are judged by theirs.
        max_crashes: how often a task's pool may die under it before the task is failed, where that pool has no record.
        on_declared_dead: called, on this thread, with the id under which others have taken the pool for dead.
    """

    def __init__(
        self,
        heart: AsyncHeart,
        pool_id: UUID,
        *,
        lease: float,
        max_crashes: int,
        events: Dispatcher,
        on_declared_dead: Callable[[UUID], None],
    ) -> None:
        self.pool_id = pool_id
        self._heart = heart
        self._lease = lease
        self._max_crashes = max_crashes
        self._events = events
        self._on_declared_dead = on_declared_dead
        self._watch = Watch()
        self._outage = Outage(logger, "the heart of pool %s beats again")
        self._answered = time.monotonic()
        self._until_sweep = SWEEP_EVERY
        self._stopping = False
        self._is_last_call = False
        self._closed = threading.Event()
        self._stirred = asyncio.Event()  # of the thread's loop
        self._begun = asyncio.Event()  # of the application's, as the next one
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, name="fang-heartbeat", daemon=True)

    async def start(self) -> None:
        """Starts the thread, which beats once before this returns, so that the pool has its lock before it claims."""
        self._application = asyncio.get_running_loop()
        self._thread.start()
        try:
            await self._begun.wait()
        except BaseException:
            self._closed.set()
            self._stir()
            raise

    def is_cut_off(self) -> bool:
        """Whether the last answer is so long ago that others may take the pool for dead."""
        return time.monotonic() - self._answered > self._lease * CUT_OFF_AFTER

    def say_stopping(self, exit_at: float | None = None) -> None:
        """Has the pool marked as stopping, at once: what it leaves behind is then rescued uncharged.

        At ``exit_at``, a time of the monotonic clock of which the first counts, the process ends unless this is closed
        before: the last means of one whose own threads hang. May be called by a signal's handler.
        """
        self._stopping = True
        if exit_at is not None and not self._is_last_call:
            self._is_last_call = True
            # Not threading.Thread: its start takes a lock that the interrupted code may hold.
            _thread.start_new_thread(self._exit_late, (exit_at,))
        self._stir()

    async def close(self, within: float) -> None:
        """Ends it, in so many seconds, and lets the lock go."""
        self.end()
        await wait_for(self._ended, within)

    def end(self) -> None:
        """Has it end soon, and does not wait for it."""
        self._closed.set()
        self._stir()

    def _stir(self) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._stirred.set)

    def _main(self) -> None:
        # asyncio's own loop, also where the application runs another; nothing of asyncpg is shared between the two.
        try:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(self._beat_on())
        finally:
            self._say(self._begun)
            self._say(self._ended)

    def _say(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the application's loop has ended before
            self._application.call_soon_threadsafe(event.set)

    async def _beat_on(self) -> None:
        self._loop = asyncio.get_running_loop()
        seconds = await self._try()
        self._say(self._begun)
        # With the application's loop its runs have ended; a heart that went on would keep their tasks held.
        while not self._closed.is_set() and not self._application.is_closed():
            await wait_for(self._stirred, seconds)
            self._stirred.clear()
            if not self._closed.is_set():
                seconds = await self._try()
        await self._heart.close()

    def _exit_late(self, exit_at: float) -> None:
        """On a thread of its own: a beat may wait for an answer."""
        if not self._closed.wait(max(0.0, exit_at - time.monotonic())):
            os._exit(EXIT_RUNS_LEFT)

    async def _try(self) -> float:
        """One beat; seconds until the next."""
        try:
            await self._beat()
        except Exception as error:  # noqa: BLE001 - a heart goes on whatever its database does
            self._failed(error)
            return min(EVERY, self._outage.failed(time.monotonic()))
        self._outage.over(time.monotonic(), self.pool_id)
        return EVERY

    async def _beat(self) -> None:
        pool_id = self.pool_id  # the pool may get another meanwhile
        try:
            beat = await self._heart.beat(pool_id, self._stopping)
        except BaseException:
            self._watch.missed()
            raise
        self._answered = time.monotonic()
        if not beat.registered:
            self._on_declared_dead(pool_id)
        dead = self._watch.dead(pool_id, beat, self._answered)
        try:
            await self._rescue(dead)
            await self._sweep()
        except BaseException:
            self._watch.rescue_failed()
            raise

    async def _sweep(self) -> None:
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._tell(await self._heart.rescue_orphans(self._max_crashes))
            self._until_sweep = SWEEP_EVERY

    async def _rescue(self, dead: list[Pulse]) -> None:
        """One by one, each for good: where many have died at once the next beat comes first, and finds the others.

        In no order, so that one whose rescue fails does not stand before the others each time.
        """
        for pulse in random.sample(dead, len(dead)):
            self._tell(await self._heart.rescue([pulse]))
            if time.monotonic() - self._answered > EVERY:
                return

    def _tell(self, rescued: list[Rescued]) -> None:
        for task in rescued:
            log_rescue(logger, task)
            self._events.emit(Events.task_rescued, self.pool_id, task)

    def _failed(self, error: Exception) -> None:
        unexpected = None if isinstance(error, FangError) else error
        logger.warning("the heart of pool %s tries again: %s", self.pool_id, error, exc_info=unexpected)
        self._events.emit(Events.backend_failed, self.pool_id, error)
