"""Beats for a pool, watches the others, and takes back what dead ones held; on a thread of its own.

A thread, so that a busy GIL or a slow claim does not stop the heart. C code that holds the GIL does: the lease must be
longer than the longest of it.
"""

import _thread
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from fang_core.config import EXIT_RUNS_LEFT
from fang_core.errors import FangError
from fang_core.events import Dispatcher, Events
from fang_core.failurelog import log_rescue
from fang_core.liveness import CUT_OFF_AFTER, EVERY, Pulse, Watch
from fang_core.logs import SafeLogger
from fang_core.outage import Outage
from fang_core.store import Heart, Rescued

logger = SafeLogger("fang_threaded")

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
        heart: Heart,
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
        self._stirred = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="fang-heartbeat", daemon=True)

    def start(self) -> None:
        """Beats once, so that the pool has its lock before it claims, and starts the thread."""
        try:
            self._try()
            self._thread.start()
        except BaseException:  # Ctrl-C, or no thread can be started
            self._heart.close()
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
        self._stirred.set()

    def close(self, within: float) -> None:
        """Ends it, in so many seconds, and lets the lock go."""
        self._closed.set()
        self._stirred.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(within)
        self._heart.close()

    def _loop(self) -> None:
        seconds = EVERY
        while True:
            self._stirred.wait(seconds)
            self._stirred.clear()
            if self._closed.is_set():
                return
            seconds = self._try()

    def _exit_late(self, exit_at: float) -> None:
        """On a thread of its own: a beat may wait for an answer."""
        if not self._closed.wait(max(0.0, exit_at - time.monotonic())):
            os._exit(EXIT_RUNS_LEFT)

    def _try(self) -> float:
        """One beat; seconds until the next."""
        try:
            self._beat()
        except Exception as error:  # noqa: BLE001 - a heart goes on whatever its database does
            self._failed(error)
            return min(EVERY, self._outage.failed(time.monotonic()))
        self._outage.over(time.monotonic(), self.pool_id)
        return EVERY

    def _beat(self) -> None:
        pool_id = self.pool_id  # the pool may get another meanwhile
        try:
            beat = self._heart.beat(pool_id, self._stopping)
        except BaseException:
            self._watch.missed()
            raise
        self._answered = time.monotonic()
        if not beat.registered:
            self._on_declared_dead(pool_id)
        dead = self._watch.dead(pool_id, beat, self._answered)
        try:
            self._rescue(dead)
            self._sweep()
        except BaseException:
            self._watch.rescue_failed()
            raise

    def _sweep(self) -> None:
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._tell(self._heart.rescue_orphans(self._max_crashes))
            self._until_sweep = SWEEP_EVERY

    def _rescue(self, dead: list[Pulse]) -> None:
        """One by one, each for good: where many have died at once the next beat comes first, and finds the others.

        In no order, so that one whose rescue fails does not stand before the others each time.
        """
        for pulse in random.sample(dead, len(dead)):
            self._tell(self._heart.rescue([pulse]))
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
