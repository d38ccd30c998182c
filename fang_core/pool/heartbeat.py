"""Beats for a pool, watches the other pools, and takes back the tasks of dead ones; on a thread of its own.

A beat also brings messages of other processes to the pool, which tasks of its runs it no longer holds, and which of
them are to be cancelled: all of that goes to the pool's ``Control``.

Since the thread is its own, neither a run that blocks the application's event loop nor a slow claim stops the heart. C
code that holds the GIL does: the lease must be longer than the longest call into such code.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from fang_core.backends.pools import Rescued
from fang_core.backends.store import Heart
from fang_core.errors import FangError
from fang_core.events import EventBus, Events
from fang_core.failurelog import log_rescue
from fang_core.liveness import CUT_OFF_AFTER, EVERY, MOST_MESSAGES, Beat, BeatRequest, Pulse, Watch
from fang_core.pool.control import Control
from fang_core.pool.exit_deadline import ExitDeadline
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.outage import Outage
from fang_core.pool.runtime import Runtime, Service
from fang_core.runs.run import Run

SWEEP_EVERY: Final = 15
"""Beats between two looks for tasks whose holder has no record."""

APART: Final = 0.02
"""Seconds from one beat to the next at least, however often other processes tell the pool something, and however long
a beat takes."""


class Heartbeat:
    """A service that runs on a thread of its own.

    Args:
        lease: the pool's own lease, in seconds. Other pools are judged by theirs.
        max_crashes: how often a task's pool may die under it before the task is failed, if that pool has no record.
        on_declared_dead: called, on this thread, with the id under which other pools have declared the pool dead.
        on_rescued: called, on this thread, with each task that the pool takes back from a dead one.
        control: says what goes on in the pool, and hears what beats bring.
    """

    def __init__(
        self,
        runtime: Runtime,
        heart: Heart,
        identity: PoolIdentity,
        *,
        lease: float,
        max_crashes: int,
        events: EventBus,
        on_declared_dead: Callable[[UUID], None],
        on_rescued: Callable[[Rescued], None] = lambda _: None,
        control: Control | None = None,
    ) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._heart = heart
        self._identity = identity
        self._lease = lease
        self._max_crashes = max_crashes
        self._events = events
        self._on_declared_dead = on_declared_dead
        self._on_rescued = on_rescued
        self._control = control or Control()
        self._recorded: tuple[UUID, str | None] | None = None  # the notable runs in the record of the pool
        self._handled: set[int] = set()  # messages of the last answer; the next beat names them
        self._is_told = False  # by another process, since the last beat
        self._watch = Watch()
        self._outage = Outage(runtime.logger, "the heart of pool %s beats again")
        self._answered = self._tried = time.monotonic()
        self._until_sweep = SWEEP_EVERY
        self._is_stopping = False
        self._is_closed = False
        self._is_beating = False  # set after the first beat, or its failure
        self._exit_deadline = ExitDeadline()
        self._has_begun = runtime.event()
        self._woken = runtime.event()
        self._own_runtime: Runtime | None = None  # of the heart's thread, once that runs
        self._service: Service | None = None

    async def start(self) -> None:
        """Starts the thread, and returns after its first beat, so that the pool has its lock before it claims.

        Raises ``RuntimeError`` if the thread cannot be started, or ends before that beat.
        """
        try:
            self._service = self._runtime.spawn_thread(self._main, "fang-heartbeat", at_end=self._has_begun.set)
            await self._runtime.wait(self._has_begun)
        except BaseException:  # a cancellation, or Ctrl-C
            self.end()
            raise
        if not self._is_beating:  # such as one whose process has too many files open for another event loop
            raise RuntimeError("the thread of the pool's heart ended before its first beat")

    def is_cut_off(self) -> bool:
        """Returns whether the last answer is so long ago that other pools may take this one for dead."""
        return time.monotonic() - self._answered > self._lease * CUT_OFF_AFTER

    def silent(self, now: float) -> float:
        """Returns the seconds since it last tried to beat; any thread may call this."""
        return now - self._tried

    def say_stopping(self, exit_at: float | None = None) -> None:
        """Marks the pool as stopping, at once: tasks that it leaves behind are then rescued uncharged.

        The process ends at ``exit_at``, a time of the monotonic clock, unless the heartbeat is closed before. The first
        call that gives one counts. A signal handler may call this.
        """
        self._is_stopping = True
        if exit_at is not None:
            self._exit_deadline.arm(exit_at)
        self._wake()

    def on_told(self, pool_id: UUID) -> None:
        """Beats at once if this pool has a message; any thread may call this."""
        if pool_id == self._identity.id:
            self._is_told = True
            self._wake()

    def beat_now(self) -> None:
        """Beats at once, since the pool has something new to say; any thread may call this."""
        self._wake()

    async def close(self, within: float) -> None:
        """Ends the thread, within ``within`` seconds, and releases the lock."""
        self.end()
        if self._service is not None:
            await self._service.join(within)

    def end(self) -> None:
        """Asks the thread to end, and does not wait for it."""
        self._is_closed = True
        self._exit_deadline.disarm()
        self._wake()

    def _wake(self) -> None:
        if self._own_runtime is not None:
            self._own_runtime.call_soon(self._woken.set)

    async def _main(self, runtime: Runtime) -> None:
        self._own_runtime = runtime
        seconds = await self._try()
        self._is_beating = True
        self._runtime.call_soon(self._has_begun.set)
        never = runtime.event()
        # When the application's event loop is closed its runs have ended; a heart that went on would hold their tasks.
        while not self._is_closed and not self._runtime.is_closed:
            await runtime.wait(self._woken, seconds)
            rest = self._answered + APART - time.monotonic()
            if self._is_told and rest > 0:
                await runtime.wait(never, rest)
            self._woken.clear()
            if not self._is_closed:
                seconds = await self._try()
        await self._heart.close()

    async def _try(self) -> float:
        """Beats once; returns the seconds until the next beat, which begins a second after this one has begun.

        What a beat brings may have been written just after the one before had looked: however long that one took, or
        the rescues that followed it, must not come on top.
        """
        self._tried = time.monotonic()
        try:
            self._control.look()
        except Exception:  # such as a logging handler's, or a lack of memory
            self._logger.exception("the heart of pool %s could not look at its runs", self._identity.id)
        try:
            await self._beat()
        except Exception as error:  # noqa: BLE001 - a heart survives every error of its database
            self._failed(error)
            return min(EVERY, self._outage.failed(time.monotonic()))
        now = time.monotonic()
        self._outage.over(now, self._identity.id)
        return APART if self._is_told else max(APART, self._tried + EVERY - now)

    async def _beat(self) -> None:
        pool_id = self._identity.id  # it may change while this waits
        is_told, self._is_told = self._is_told, False
        runs = {run.task.id: run for run in self._control.held(pool_id, every=is_told)}
        # Once a second at most, however many messages the pool gets.
        recorded = self._recorded if is_told else (pool_id, self._control.runs(pool_id))
        request = BeatRequest(
            pool_id,
            self._is_stopping,
            [(run.task.id, run.task.attempt) for run in runs.values()],
            sorted(self._handled),
            None if recorded is None or recorded == self._recorded else recorded[1],
            self._control.workers(),
        )
        try:
            beat = await self._heart.beat(request)
        except BaseException:
            self._is_told |= is_told
            self._watch.missed()
            raise
        self._answered = time.monotonic()
        if beat.registered:
            self._recorded = recorded
            self._pass_on(beat, runs)
        else:
            self._on_declared_dead(pool_id)
        dead = self._watch.dead(pool_id, beat, self._answered)
        try:
            await self._rescue(dead)
            await self._sweep()
        except BaseException:
            self._watch.rescue_failed()
            raise

    def _pass_on(self, beat: Beat, runs: Mapping[UUID, Run]) -> None:
        for task_id in beat.lost:
            self._control.on_lost(runs[task_id])
        for cancel in beat.cancels:
            self._control.on_cancel(runs[cancel.task_id], cancel.reason, cancel.by)
        fresh = [delivery for delivery in beat.messages if delivery.id not in self._handled]
        self._handled = {delivery.id for delivery in beat.messages}
        self._is_told |= len(fresh) >= MOST_MESSAGES  # there may be more
        for delivery in fresh:
            try:
                self._control.on_message(delivery)
            except Exception:  # such as RuntimeError: can't start new thread
                self._logger.exception("the pool could not do what it was told by %s", delivery.sender)

    async def _sweep(self) -> None:
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._tell(await self._heart.rescue_orphans(self._max_crashes))
            self._until_sweep = SWEEP_EVERY

    async def _rescue(self, dead: list[Pulse]) -> None:
        """Rescues the tasks of dead pools, committing pool by pool, until the next beat is due.

        That beat finds the pools that are left. The order is random, so that a pool whose rescue fails does not hold up
        the rescue of the rest each time.
        """
        for pulse in random.sample(dead, len(dead)):
            self._tell(await self._heart.rescue([pulse]))
            if time.monotonic() - self._tried > EVERY:
                return

    def _tell(self, rescued: list[Rescued]) -> None:
        for task in rescued:
            self._on_rescued(task)
            log_rescue(self._logger, task)
            self._events.emit(Events.task_rescued, self._identity.id, task)

    def _failed(self, error: Exception) -> None:
        if self._outage.is_to_tell(time.monotonic(), str(error)):
            unexpected = None if isinstance(error, FangError) else error
            self._logger.warning("the heart of pool %s tries again: %s", self._identity.id, error, exc_info=unexpected)
        self._events.emit(Events.backend_failed, self._identity.id, error)
