"""One life of a pool, from its start until its last run has ended: its workers, its services, and what they share."""

import asyncio
import os
import socket
import time
from contextlib import AsyncExitStack, suppress
from typing import Final
from uuid import UUID, uuid4

from fang_async.claimer import Claimer
from fang_async.completer import Completer
from fang_async.crew import Crew
from fang_async.heartbeat import Heartbeat
from fang_async.loopevents import LoopDispatcher
from fang_async.maintenance import Maintenance
from fang_async.ticker import Ticker
from fang_core.config import PoolOptions
from fang_core.errors import FangError
from fang_core.events import Dispatcher, Events
from fang_core.holdings import Holdings
from fang_core.lifecycle import Outcome
from fang_core.logs import SafeLogger
from fang_core.registry import Kinds
from fang_core.store import AsyncBackend, AsyncStore, PoolRecord
from fang_core.supply import Supply
from fang_core.ticking import Timetable

logger = SafeLogger("fang_async")

FLUSHING: Final = 1.0
"""Seconds at least to write what has ended, at the end of the grace period."""


class Shift:
    """Made anew by every start of a pool: ``register``, ``start``, ``stop`` and ``leave``, in this order.

    Args:
        store: an open one; ``leave`` closes it.
        queue: what runs are given.
    """

    def __init__(self, store: AsyncStore, queue: AsyncBackend, options: PoolOptions, events: Dispatcher) -> None:
        self._loop = asyncio.get_running_loop()
        self.store = store
        self.queue = queue
        self.options = options
        self.events = LoopDispatcher(events)
        self.id = uuid4()
        """Under which it claims. Another one after each time that it was taken for dead."""
        self.dead_id: UUID | None = None
        """Under which others have taken it for dead, no later one."""
        self.stopping = asyncio.Event()
        """Set from when on nothing is claimed."""
        self.kinds = Kinds("async")
        self._timetable = Timetable(options.task_types, queue.rules)
        self._timetable.serve(self.kinds.classes)
        self._drains: list[asyncio.Event] = []
        self._heartbeat = self._make_heartbeat()
        self.holdings = Holdings(options.retention_mode, self.is_cut_off)
        self.completer = Completer(
            store,
            self.id,
            self.events,
            on_written=self._written,
            on_locked=self._locked,
            on_lost=self.holdings.lose,
            task_of=self.holdings.task_of,
        )
        self.crew = Crew(self)
        self.supply = Supply(
            options,
            self.kinds,
            self.holdings,
            self.crew,
            self.completer,
            events=self.events,
            is_stopping=self.stopping.is_set,
            logger=logger,
        )
        self.claimer = Claimer(self)
        self._maintenance = Maintenance(store, options)
        self._ticker = Ticker(store, self._timetable)

    def _make_heartbeat(self) -> Heartbeat | None:
        heart = self.store.heart(self.options.listen)
        if heart is None:
            return None
        return Heartbeat(
            heart,
            self.id,
            lease=self.options.lease.total_seconds(),
            max_crashes=self.options.max_crashes,
            events=self.events,
            on_declared_dead=self._declared_dead,
        )

    # Called by the pool -----------------------------------------------------------------------------------------------

    async def register(self) -> None:
        """Registers, and has its heart beat."""
        await self.store.register(self._record(self.id))
        if self._heartbeat is not None:
            await self._heartbeat.start()

    def start(self) -> None:
        """Starts workers and services."""
        self.crew.start()
        self.completer.start()
        self._maintenance.start()
        self._ticker.start()
        self.claimer.start()

    async def drain(self, before: int) -> int:
        """Until no due task is left and its own runs have ended, or it stops; how many have ended, less ``before``."""
        drained = asyncio.Event()
        self._drains.append(drained)
        try:
            self.claimer.wake()
            if not self.stopping.is_set():
                await drained.wait()
        finally:
            self._drains.remove(drained)
        return self.crew.ended_runs - before

    def say_stopping(self, exit_at: float | None = None) -> None:
        """Tells others that it stops, and may bound the life of the process: see ``Heartbeat.say_stopping``."""
        if self._heartbeat is not None:
            self._heartbeat.say_stopping(exit_at)

    async def stop(self, deadline: float) -> int:
        """Ends claims and runs, and writes what has ended; how many runs had not ended in time."""
        self.say_stopping()
        await self._stop_claiming(deadline)
        left = await self.crew.dismiss(deadline)
        await self.completer.flush(max(FLUSHING, deadline - time.monotonic()))
        await self._maintenance.close(FLUSHING)
        await self._ticker.close(FLUSHING)
        self._end_drains()
        return left

    async def leave(self) -> bool:
        """Writes what is left, signs off and closes the store: nothing is held any more. Whether all went well."""
        async with AsyncExitStack() as last:  # whatever fails or is interrupted before
            if self._heartbeat is not None:
                last.push_async_callback(self._heartbeat.close, FLUSHING)  # since it keeps the process' deadline
            last.push_async_callback(self.store.close)
            has_written = await self.completer.close(FLUSHING)
            has_signed_off = await self._sign_off()
        return has_written and has_signed_off

    async def _sign_off(self) -> bool:
        try:
            await self.store.reconcile(self.id, self.holdings.known())
            if not self.holdings:
                await self.store.unregister(self.id)
        except FangError as error:  # a claim whose reply was lost may be held in its name
            logger.warning("pool %s could not sign off: %s", self.id, error)
            return False
        return True

    def _record(self, pool_id: UUID) -> PoolRecord:
        kinds = tuple(sorted(self.kinds.classes))
        return PoolRecord(
            pool_id,
            "async",
            socket.gethostname(),
            os.getpid(),
            self.options.task_types,
            kinds,
            self.options.number_of_workers,
            self.options.lease,
            self.options.max_crashes,
        )

    async def _stop_claiming(self, deadline: float) -> None:
        self.stopping.set()
        await self.claimer.close(max(FLUSHING, deadline - time.monotonic()))
        self.supply.give_back_unstarted(time.monotonic())

    def _end_drains(self) -> None:
        for drained in tuple(self._drains):
            drained.set()

    # Called by the claimer --------------------------------------------------------------------------------------------

    def is_cut_off(self) -> bool:
        """Whether the last answer is so long ago that others may take it for dead; also for runs, on any thread."""
        return self._heartbeat is not None and self._heartbeat.is_cut_off()

    async def be_reborn(self) -> None:
        """Others took it for dead: its runs are lost, and it goes on under another id."""
        former, successor = self.id, uuid4()
        self.holdings.lose_all()
        self.supply.give_back_unstarted(time.monotonic())
        self.crew.cut_short()
        # A claim that was committed while others took the pool's tasks back was not among them.
        await self.store.reconcile(former, ())
        await self.store.register(self._record(successor))
        self.id = self.completer.pool_id = successor  # the fence refuses what was not written, and it is told as lost
        if self._heartbeat is not None:
            self._heartbeat.pool_id = successor
        logger.warning("pool %s was taken for dead: its runs are lost, it goes on as %s", former, successor)
        self.events.emit(Events.pool_declared_dead, former, successor)

    def learn_kinds(self) -> bool:
        """Reads the registry again where it has changed; whether other classes came of it."""
        if not self.kinds.learn(time.monotonic()):
            return False
        self._timetable.serve(self.kinds.classes)
        return True

    def drains_at_their_end(self) -> tuple[asyncio.Event, ...]:
        """Those that are over when nothing is claimed now."""
        return () if self.holdings else tuple(self._drains)

    # Called by the heartbeat, on its thread, and by the completer -----------------------------------------------------

    def _declared_dead(self, pool_id: UUID) -> None:
        self.dead_id = pool_id
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._is_declared_dead)

    def _is_declared_dead(self) -> None:
        if self.stopping.is_set():  # it is not reborn: what goes on here does so in vain
            self.holdings.lose_all()
            self.crew.cut_short()
        self.claimer.wake()

    def _written(self, outcomes: list[Outcome]) -> None:
        self.holdings.wrote(outcomes)
        if not self.holdings and (self._drains or self.claimer.abstains):
            self.claimer.wake()
        else:
            self.claimer.wake_if_hungry()

    def _locked(self, outcomes: list[Outcome]) -> None:
        self.holdings.set_apart(outcomes)
        self.claimer.wake_if_hungry()  # it may have been a suspect, in whose way nothing was claimed
