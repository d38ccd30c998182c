"""Puts together one lifetime of a pool, from a start until its last run has ended: its workers and its services."""

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import UUID, uuid4

from fang_core.backends.pools import PoolRecord, Rescued
from fang_core.backends.store import AsyncBackend, Backend, Store
from fang_core.backends.ticking import Timetable
from fang_core.claims.dispatch import Dispatch
from fang_core.claims.inflight import InFlight
from fang_core.config import PoolOptions
from fang_core.errors import DefinitionError, FangError
from fang_core.events import EventBus, Events
from fang_core.lifecycle import Outcome
from fang_core.monitoring.history import Totals
from fang_core.monitoring.tally import Tally
from fang_core.pool.claimer import NOTHING_FREED, Claimer
from fang_core.pool.completer import Completer
from fang_core.pool.control import PoolControl
from fang_core.pool.declaring import declarations, news, repeated
from fang_core.pool.heartbeat import Heartbeat
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.lifespan import Resources
from fang_core.pool.maintenance import Maintenance
from fang_core.pool.recorded_kinds import RecordedKinds
from fang_core.pool.runtime import Runtime
from fang_core.pool.telling.health import PoolHealth, Vitals, health
from fang_core.pool.telling.hung import HungRuns
from fang_core.pool.telling.live_reporter import LiveReporter
from fang_core.pool.telling.recorder import Recorder
from fang_core.pool.telling.stats import PoolStats
from fang_core.pool.ticker import Ticker
from fang_core.pool.workers import MakeWorkers
from fang_core.runs.interrupt import Interrupt
from fang_core.runs.isolation import Isolates
from fang_core.tasks.registry import Kinds

FLUSHING: Final = 1.0
"""The least time, in seconds, to write outcomes of ended runs at the end of the grace period."""


class PoolLifetime:
    """Each start of a pool makes one, and calls ``register``, ``start``, ``stop`` and ``leave``, in this order.

    Args:
        store: an open store; ``leave`` closes it.
        queue: passed to runs.
        make_workers: the mode's class of workers.
        on_stop: called, where the pool lives, when a message asks the pool to stop.
        on_resize: called, where the pool lives, with the number of workers that a message asks for.
        on_too_many_stuck: called when more runs are stuck than ``max_stuck`` allows.
        isolates: runs in child processes the tasks that need one.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        queue: Backend | AsyncBackend,
        options: PoolOptions,
        *,
        events: EventBus,
        make_workers: MakeWorkers,
        on_stop: Callable[[], None],
        on_resize: Callable[[int], None],
        on_too_many_stuck: Callable[[], None],
        isolates: Isolates,
    ) -> None:
        self.runtime = runtime
        self._on_too_many_stuck = on_too_many_stuck
        self._logger = runtime.logger
        self._options = options
        self.store = store
        self.events = runtime.event_bus(events)
        self.identity = PoolIdentity()
        self.stopping = runtime.event()
        """Set when the pool claims no more."""
        self.kinds = Kinds(runtime.mode)
        self._timetable = Timetable(options.task_types, queue.rules)
        self._isolates = isolates
        self._serve_kinds()
        self._has_left: bool | None = None  # whether all went well, once it has written what is left and deregistered
        self._tally = Tally() if options.stats else None
        self.in_flight = InFlight(
            options.retention_mode,
            self._is_cut_off,
            options.number_of_workers,
            lambda: isolates.kinds,
            self._tally,
            on_crashed=isolates.expect,
        )
        self.completer = self._make_completer()
        self.workers = make_workers(
            self.kinds, queue, options, identity=self.identity, events=self.events, isolates=isolates
        )
        self._hung = self._make_hung_runs()
        self._heartbeat = self._make_heartbeat(on_stop, on_resize)
        self.dispatch = Dispatch(
            options,
            self.kinds,
            self.in_flight,
            self.workers,
            self.completer,
            events=self.events,
            is_stopping=self.stopping.is_set,
            logger=runtime.logger,
            tally=self._tally,
        )
        self.claimer = self._make_claimer()
        self.maintenance = Maintenance(runtime, store, options, lambda: self.claimer.managed)
        self._ticker = Ticker(runtime, store, self._timetable)
        self._live = LiveReporter(runtime, store, self.identity, self.in_flight.live)
        self._recorder = None if self._tally is None else self._make_recorder(self._tally)
        self.resources = Resources(options.lifespan, runtime.mode)

    def _make_completer(self) -> Completer:
        return Completer(
            self.runtime,
            self.store,
            self.identity,
            self.events,
            on_written=self._on_written,
            on_locked=self._on_locked,
            on_lost=self._on_lost,
            task_of=self.in_flight.task_of,
        )

    def _make_hung_runs(self) -> HungRuns:
        warn_after = self._options.warn_after
        return HungRuns(
            self.runtime,
            self.in_flight,
            self.workers,
            self.kinds,
            identity=self.identity,
            events=self.events,
            warn_after=None if warn_after is None else warn_after.total_seconds(),
        )

    def _make_heartbeat(self, on_stop: Callable[[], None], on_resize: Callable[[int], None]) -> Heartbeat:
        return Heartbeat(
            self.runtime,
            self.store.heart(self._options.listen),
            self.identity,
            lease=self._options.lease.total_seconds(),
            max_crashes=self._options.max_crashes,
            events=self.events,
            on_declared_dead=self.declared_dead,
            on_rescued=self._on_rescued,
            control=PoolControl(
                self.runtime,
                self.in_flight,
                self.workers,
                self._hung,
                on_stop=on_stop,
                on_resize=on_resize,
                on_missing=self._refill,
            ),
        )

    def _make_claimer(self) -> Claimer:
        return Claimer(
            self.runtime,
            self.store,
            self.identity,
            self._options,
            kinds=RecordedKinds(
                self.kinds,
                self.store,
                self.identity,
                isolated=lambda: self._isolates.kinds,
                on_learnt=self._serve_kinds,
                declare=self._declare_again,
            ),
            in_flight=self.in_flight,
            dispatch=self.dispatch,
            events=self.events,
            stopping=self.stopping,
            is_cut_off=self._is_cut_off,
            rejoin=self._rejoin,
            on_told=self._on_told,
        )

    def _make_recorder(self, tally: Tally) -> Recorder:
        return Recorder(
            self.runtime,
            self.store,
            tally,
            self.in_flight.all,
            lambda: self.workers.size,
            claimed=lambda: self.in_flight.claimed,
        )

    @property
    def id(self) -> UUID:
        """Returns the id under which the pool claims now."""
        return self.identity.id

    @property
    def ended_runs(self) -> int:
        """Returns how many runs have ended, without tasks that expired or were cancelled before a worker began them."""
        return self.workers.ended_runs - self.dispatch.unrun

    # Called by the pool -----------------------------------------------------------------------------------------------

    async def register(self) -> None:
        """Registers the pool, and starts its heart.

        Raises ``MissingExtra`` or ``UsageError`` if tasks of its types are to be isolated, and cannot be, and
        ``DefinitionError`` if classes of one task type declare different limits.
        """
        self._declared = declarations(self.kinds.classes, self._options.task_types)
        await self._isolates.check(
            cls for cls in self.kinds.classes.values() if cls.__fang_options__.task_type in self._options.task_types
        )
        await self.store.register(self._record(self.id))
        try:
            await self._heartbeat.start()
        except BaseException:  # such as RuntimeError: can't start new thread
            with suppress(FangError):
                await self.store.unregister(self.id)
            raise

    async def start(self) -> None:
        """Enters the lifespan, and starts workers and services; if that fails, ``stop`` ends what has been started.

        First it writes the limits that the pool's classes declare.

        Raises what the lifespan raises, ``BackendError``, and ``RuntimeError`` if a service cannot be started.
        """
        await self.store.declare(self._declared)
        self.in_flight.state = await self.resources.enter()
        self.workers.start(
            on_taken=self.claimer.on_taken,
            on_ended=self.dispatch.ended,
            is_over=lambda: self.stopping.is_set() or self.claimer.is_over,
            held=self.in_flight.__len__,
            on_fewer=self._resized,
            on_too_many_stuck=self._on_too_many_stuck,
        )
        self.completer.start()
        self.maintenance.start()
        self._ticker.start()
        if self._recorder is not None:
            self._recorder.start()
        self.claimer.start()
        self._live.start()

    async def drain(self, before: int) -> int:
        """Waits until no due task is left and the pool's own runs have ended, or the pool stops.

        Returns how many runs have ended, minus ``before``.
        """
        await self.claimer.drained()
        return self.ended_runs - before

    def resize(self, number_of_workers: int) -> None:
        """Changes how many workers there are; any thread may call this.

        Raises ``RuntimeError`` if not all of them could be started.
        """
        self.runtime.call_soon(lambda: self._resize(number_of_workers))

    def _resize(self, number_of_workers: int) -> None:
        try:
            self.workers.resize(number_of_workers)
        finally:
            self._resized()

    def _refill(self) -> None:
        if self.workers.refill():
            self._resized()

    def _resized(self) -> None:
        self.dispatch.resize(self.workers.size)
        self.claimer.wake()
        self._heartbeat.beat_now()

    def stats(self) -> PoolStats:
        """Counts what the pool does; any thread may call this."""
        by_kind, unwritten = self.in_flight.counts()
        running = sum(running for running, _ in by_kind.values())
        ended = self.ended_runs
        return PoolStats(
            running=running,
            waiting=sum(waiting for _, waiting in by_kind.values()),
            unwritten=unwritten,
            stuck=self.workers.stuck,
            workers=self.workers.size,
            claims=self.claimer.claims,
            claimed=self.dispatch.claimed,
            started=ended + running,
            ended=ended,
            given_back=self.dispatch.given_back + self.dispatch.unrun,
            by_kind=by_kind,
        )

    def totals(self) -> Totals:
        """Counts what became of the runs of this lifetime, by task type and kind; any thread may call this."""
        return {} if self._tally is None else self._tally.totals(self.in_flight.all)

    def health(self) -> PoolHealth:
        """Says whether the pool lives and is ready; any thread may call this."""
        now = time.monotonic()
        return health(
            Vitals(
                heart=self._heartbeat.silent(now),
                loop=self._hung.loop_silent(now),
                cut_off=self._is_cut_off(),
                stopping=self.stopping.is_set(),
                claims=self.claimer.claims,
                failing=self.claimer.failing(now),
                claiming=self.claimer.claiming(now),
            )
        )

    def say_stopping(self, exit_at: float | None = None) -> None:
        """Tells other pools that this one stops, and sets when the process ends at the latest; see ``Heartbeat``."""
        self._heartbeat.say_stopping(exit_at)

    async def stop(self, deadline: float) -> int:
        """Stops claiming, ends the runs and writes their outcomes; returns how many runs had not ended in time."""
        self.say_stopping()
        await self._stop_claiming(deadline)
        left = await self.workers.stop(deadline)
        await self.completer.flush(max(FLUSHING, deadline - time.monotonic()))
        await self.claimer.tell_unused()
        await self.maintenance.close(FLUSHING)
        await self._ticker.close(FLUSHING)
        self.claimer.end_drains()
        return left

    async def leave(self, deadline: float) -> bool:
        """Leaves the lifespan, writes what is left, deregisters and closes the store; returns whether all succeeded.

        A warning says it if the lifespan has not ended at the deadline.

        If it is cancelled or interrupted, it can be called again, and goes on from there.
        """
        if self._has_left is None:
            try:
                await self._leave_lifespan(deadline)
                await self._live.close(FLUSHING)
                has_written = await self.completer.close(FLUSHING)
                if self._recorder is not None:
                    self._recorder.end()  # while the pool deregisters
                await self.claimer.tell_unused()
                has_deregistered = await self._deregister()
                if self._recorder is not None:
                    await self._recorder.close(FLUSHING)
                self._has_left = has_deregistered and has_written
            except Exception:
                self._has_left = False
                await self.close()
                raise
        await self.close()
        return self._has_left

    async def close(self) -> None:
        """Ends the child processes, closes the store and ends the heart, if that has not been done."""
        self._isolates.close()
        try:
            await self.store.close()
        finally:
            await self._heartbeat.close(FLUSHING)  # last, since it keeps the process' deadline

    async def _leave_lifespan(self, deadline: float) -> None:
        """Releases the resources of the runs, which have all ended; an error of theirs is logged and stops nothing."""
        try:
            await self.resources.leave(deadline, self._logger)
        except (Exception, SystemExit):  # KeyboardInterrupt may be that of the caller that waits for the stop
            self._logger.exception("pool %s: its lifespan failed at the end", self.id)

    async def _deregister(self) -> bool:
        try:
            await self.store.reconcile(self.id, self.in_flight.known())
            if not self.in_flight:
                await self.store.unregister(self.id)
        except FangError as error:  # tasks of a claim whose reply was lost may still be held under its id
            self._logger.warning("pool %s could not deregister: %s", self.id, error)
            return False
        return True

    def _record(self, pool_id: UUID) -> PoolRecord:
        return PoolRecord(
            pool_id,
            self.runtime.mode,
            platform.node(),
            os.getpid(),
            self._options.task_types,
            tuple(sorted(self.kinds.classes)),
            self.workers.size,
            self._options.lease,
            self._options.max_crashes,
            tuple(sorted(self._isolates.kinds)),
        )

    async def _stop_claiming(self, deadline: float) -> None:
        self.stopping.set()
        await self.claimer.close(max(FLUSHING, deadline - time.monotonic()))
        self.dispatch.give_back_unstarted(time.monotonic())

    # Called by the claimer --------------------------------------------------------------------------------------------

    def _is_cut_off(self) -> bool:
        """Whether the last answer is so long ago that other pools may take this one for dead; runs call this too."""
        return self._heartbeat.is_cut_off()

    async def _rejoin(self) -> None:
        """Goes on under another id: other pools have declared this one dead, and its runs are lost."""
        former, successor = self.id, uuid4()
        self.in_flight.mark_all_lost()
        self.dispatch.give_back_unstarted(time.monotonic())
        self.workers.interrupt_all(Interrupt.LOST)
        # The tasks of a claim that committed while other pools rescued this one's were not among the rescued.
        await self.store.reconcile(former, ())
        await self.store.register(self._record(successor))
        if again := repeated(self._declared):
            await self.store.declare(again)
        self.identity.id = successor  # the fence refuses outcomes not yet written, and they are reported as lost
        self._logger.warning("pool %s was taken for dead: its runs are lost, it goes on as %s", former, successor)
        self.events.emit(Events.pool_declared_dead, former, successor)

    def _on_told(self, told: UUID) -> None:
        """Is called when a pool, or all pools, have a message."""
        self._heartbeat.on_told(told)
        self._ticker.on_told(told)

    def _serve_kinds(self) -> None:
        self._timetable.serve(self.kinds.classes)
        self._isolates.serve(self.kinds.classes)

    async def _declare_again(self) -> None:
        """Declares the limits of new classes; those of classes that contradict each other are left out, and logged."""
        try:
            declared = declarations(self.kinds.classes, self._options.task_types)
        except DefinitionError as error:
            self._logger.error("%s; the pool's new classes change no limits", error)
        else:
            await self.store.declare(news(declared, self._declared))
            self._declared = declared

    # Called by the heartbeat, on its thread ---------------------------------------------------------------------------

    def declared_dead(self, pool_id: UUID) -> None:
        """Is called when other pools have taken this one for dead under this id."""
        self.identity.dead_id = pool_id
        self.runtime.call_soon(self._lose_or_rejoin)

    def _lose_or_rejoin(self) -> None:
        if self.stopping.is_set():  # a stopping pool does not rejoin: its runs are lost
            self.in_flight.mark_all_lost()
            self.workers.interrupt_all(Interrupt.LOST)
        self.claimer.wake()

    def _on_rescued(self, rescued: Rescued) -> None:
        if self._tally is not None:
            self._tally.rescued(rescued.task_type, rescued.kind)

    # Called by the completer ------------------------------------------------------------------------------------------

    def _on_written(self, outcomes: list[Outcome]) -> None:
        managed = self.claimer.managed
        freed = self.in_flight.count_by_type(outcomes, managed) if managed else NOTHING_FREED
        self.in_flight.remove(outcomes)
        self.claimer.on_outcomes(freed)

    def _on_lost(self, outcome: Outcome) -> bool:
        """Marks the run of an outcome that found no row; returns whether it had started."""
        had_started = self.in_flight.mark_lost(outcome)
        task = self.in_flight.task_of(outcome)
        if self._tally is not None and had_started and task is not None:
            self._tally.lost(task)
        return had_started

    def _on_locked(self, outcomes: list[Outcome]) -> None:
        self.in_flight.set_locked(outcomes)
        self.claimer.on_outcomes()  # one may have been of a suspect, during which the pool claims nothing
