"""Defines what pools of both modes share: options, and a life from start to stop, written as coroutines.

The modes' public classes derive from it. ``WorkerPool`` drives the coroutines on the thread that calls it, and
``AsyncWorkerPool`` awaits them.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from threading import Lock
from typing import ClassVar, Final, Generic, TypeVar
from uuid import UUID

from fang_core.backends.store import AsyncBackend, Backend, Store
from fang_core.config import (
    DEFAULT_LEASE,
    DEFAULT_MAX_CRASHES,
    DEFAULT_STUCK_AFTER,
    DEFAULT_WARN_AFTER,
    EXIT_RUNS_LEFT,
    EXIT_STUCK,
    PoolOptions,
    RetentionMode,
    SleepParams,
    as_task_types,
    check_workers,
)
from fang_core.copying import Uncopyable
from fang_core.errors import UsageError
from fang_core.events import EventBus, Events
from fang_core.interpreter.forks import imports_main, in_child
from fang_core.monitoring.history import Pair, StatsRow
from fang_core.monitoring.lasting import LastingTotals
from fang_core.pool.lifespan import Lifespan, bound_lifespan
from fang_core.pool.lifetime import PoolLifetime
from fang_core.pool.runtime import Lock as ModeLock
from fang_core.pool.runtime import Runtime, Service
from fang_core.pool.signals import StopSignals
from fang_core.pool.telling.health import NOT_RUNNING, PoolHealth
from fang_core.pool.telling.stats import PoolStats
from fang_core.pool.workers import MakeWorkers
from fang_core.record import DEFAULT_TASK_TYPE
from fang_core.runs.isolation import Isolates, Isolation, takes_suspects
from fang_core.tasks.middleware import Middleware, checked_middleware

EXIT_LATE: Final = 1.8
"""Seconds after the grace period at which the heartbeat ends a process that hangs."""

Q = TypeVar("Q", bound=Backend | AsyncBackend)


class PoolBase(Uncopyable, ABC, Generic[Q]):
    """See ``WorkerPool`` and ``AsyncWorkerPool``."""

    def __init__(
        self,
        queue: Q,
        /,
        *,
        number_of_workers: int = 1,
        task_type: str | Sequence[str] = DEFAULT_TASK_TYPE,
        retention_mode: RetentionMode = RetentionMode.REMOVE_FINISHED,
        sleep_params: SleepParams | None = None,
        grace_period: timedelta = timedelta(seconds=25),
        keep_finished: timedelta | None = timedelta(days=7),
        keep_failed: timedelta | None = None,
        listen: bool = True,
        lease: timedelta = DEFAULT_LEASE,
        max_crashes: int = DEFAULT_MAX_CRASHES,
        stuck_after: timedelta = DEFAULT_STUCK_AFTER,
        max_stuck: int | None = None,
        warn_after: timedelta | None = DEFAULT_WARN_AFTER,
        log_tracebacks: bool = False,
        middleware: Sequence[Middleware] = (),
        lifespan: Lifespan | None = None,
        max_tasks_per_child: int | None = None,
        isolate_suspects: bool = True,
        retries_first: bool = False,
        stats: bool = True,
        keep_stats: timedelta | None = timedelta(days=90),
        events: Sequence[Events] = (),
    ) -> None:
        self._set_up(queue)
        self.queue = queue
        self.options = PoolOptions(
            number_of_workers=number_of_workers,
            task_types=as_task_types(task_type),
            retention_mode=retention_mode,
            sleep_params=sleep_params or SleepParams(),
            grace_period=grace_period,
            keep_finished=keep_finished,
            keep_failed=keep_failed,
            listen=queue.capabilities.wakes and listen,
            lease=lease,
            max_crashes=max_crashes,
            stuck_after=stuck_after,
            max_stuck=max_stuck,
            warn_after=warn_after,
            log_tracebacks=log_tracebacks,
            middleware=checked_middleware(middleware),
            lifespan=bound_lifespan(lifespan, self),
            max_tasks_per_child=max_tasks_per_child,
            isolate_suspects=isolate_suspects,
            retries_first=retries_first,
            stats=stats,
            keep_stats=keep_stats,
        )
        self._events = EventBus(events)
        self._on_stop: list[Callable[[], None]] = []
        self._on_too_many_stuck: list[Callable[[], None]] = []
        self._begin()
        in_child(self, PoolBase._forget)
        self.is_clean = True
        """Whether nothing is left of the last life: all its runs have ended, and their outcomes are written."""

    def _forget(self) -> None:
        """Resets the pool in a forked child to one that is not started: nothing of the parent's pool runs there."""
        self._begin()
        self._on_stop = []
        self._on_too_many_stuck = []

    def _begin(self) -> None:
        """Resets it to a pool that is not started."""
        self._resizing = Lock()
        self._counting = Lock()
        self._totals = LastingTotals()
        self._changing = self._make_lock()
        self._lifetime: PoolLifetime | None = None  # the present one, or the last
        self._running = False
        self._deadline = 0.0  # of the last stop
        self._lingering: Service | None = None
        self._told_to_stop: Service | None = None  # kept here: asyncio forgets tasks without a reference
        self.has_too_many_stuck = False
        """Whether more runs were stuck in this life, or the last, than ``max_stuck`` allows: the process should end."""

    @property
    def id(self) -> UUID | None:
        """Returns the pool's id; every start makes a new one. None before the first start."""
        return None if self._lifetime is None else self._lifetime.id

    @property
    def ended_runs(self) -> int:
        """Returns how many runs have ended since the last start."""
        return 0 if self._lifetime is None else self._lifetime.ended_runs

    def stats(self) -> PoolStats:
        """Counts what the pool does now and what it has done since the last start; any thread may call this."""
        lifetime = self._lifetime
        return PoolStats(workers=self.options.number_of_workers) if lifetime is None else lifetime.stats()

    def totals(self) -> Mapping[Pair, StatsRow]:
        """Counts what became of the pool's runs since it was made, by task type and kind; nothing with ``stats=False``.

        No count ever goes down. Any thread may call this.
        """
        with self._counting:
            lifetime = self._lifetime
            return self._totals.with_life(lifetime, {} if lifetime is None else lifetime.totals())

    def health(self) -> PoolHealth:
        """Says whether the pool lives and is ready, for the probes of a supervisor; any thread may call this.

        It asks no database: it says what the pool's heart and its claimer know.
        """
        lifetime = self._lifetime
        return lifetime.health() if lifetime is not None and self._running else NOT_RUNNING

    def resize(self, number_of_workers: int) -> None:
        """Changes how many tasks the pool runs at once, now and after later starts; it waits for nothing.

        New workers begin at once. Surplus workers end: idle ones at once, busy ones when their run has ended. Any
        thread may call this, but no signal handler.

        Raises ``UsageError`` unless the number is between 1 and 10,000, and ``RuntimeError`` if the process can have no
        more threads: the pool then goes on with the workers that it has.
        """
        check_workers("number_of_workers", number_of_workers)
        with self._resizing:
            lifetime = self._lifetime
            try:
                if lifetime is not None:
                    lifetime.resize(number_of_workers)
            except RuntimeError:
                assert lifetime is not None
                number_of_workers = lifetime.workers.size
                raise
            finally:
                self.options = replace(self.options, number_of_workers=number_of_workers)

    # What the modes do differently ------------------------------------------------------------------------------------

    _make_workers: ClassVar[MakeWorkers]

    @abstractmethod
    def _set_up(self, queue: Q) -> None:
        """Prepares what the pool keeps over all its lifetimes. Raises ``UsageError`` if it cannot run on this queue."""

    @abstractmethod
    def _make_lock(self) -> ModeLock:
        """Makes one of the mode's locks."""

    @abstractmethod
    def _make_runtime(self) -> Runtime:
        """Makes the runtime of one lifetime."""

    @abstractmethod
    async def _open_store(self) -> Store:
        """Opens the store of one lifetime."""

    @abstractmethod
    def _make_isolation(self) -> Isolation:
        """Makes what runs tasks in child processes. Raises ``MissingExtra`` or ``UsageError`` if that cannot be had."""

    @abstractmethod
    def _make_signals(self) -> StopSignals:
        """Makes the signals that ``run`` waits for; the first signal calls ``begin_last_call``."""

    def _enter(self) -> None:
        """Is called before a start changes anything."""

    def _left(self) -> None:
        """Is called when everything of a lifetime has ended."""

    @abstractmethod
    async def _call_start(self) -> None:
        """Calls the public ``start``, which a subclass may have overridden."""

    @abstractmethod
    async def _call_stop(self) -> int:
        """Calls the public ``stop``, which a subclass may have overridden."""

    async def _stop_undisturbed(self) -> int:
        """Stops at the end of ``run``."""
        return await self._call_stop()

    # Life -------------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if imports_main():
            raise UsageError(
                "a child process imports the main module, which starts a pool: do it under if __name__ == '__main__':"
            )
        self._refuse_own("start")
        self._enter()
        try:
            lifetime = await self._changing.hold(self._start_anew)
        finally:
            self._left_if_over()
        types, workers = ", ".join(self.options.task_types), self.options.number_of_workers
        lifetime.runtime.logger.info("pool %s started, workers: %d, for %s", lifetime.id, workers, types)
        self._events.emit(Events.pool_started, lifetime.id)

    async def _start_anew(self) -> PoolLifetime:
        """Returns a new lifetime that has started. No other start or stop is under way."""
        self._enter()  # again: the stop that this may have waited for has called _left
        if self._is_alive:
            raise UsageError("this pool is running already, or runs of its last life have not ended")
        lifetime = await self._make_lifetime()
        try:
            await lifetime.register()
            self._running = True  # already here: whenever this is interrupted, a pool that works can be stopped
            self.is_clean = False
            self.has_too_many_stuck = False
            await lifetime.start()
        except BaseException:  # such as RuntimeError: can't start new thread
            if self._running:
                await self._end_lifetime(lifetime, time.monotonic())
            else:
                await lifetime.close()
            raise
        return lifetime

    async def _make_lifetime(self) -> PoolLifetime:
        """Makes a lifetime with an open store, which nothing knows of yet."""
        store = await self._open_store()
        self.totals()  # those of the last lifetime, which ends to be known here
        try:
            with self._resizing:  # a call of ``resize`` changes either the options before that, or the lifetime
                runtime = self._make_runtime()
                lifetime = self._lifetime = PoolLifetime(
                    runtime,
                    store,
                    self.queue,
                    self.options,
                    events=self._events,
                    make_workers=self._make_workers,
                    on_stop=self._stop_in_background,
                    on_resize=self.resize,
                    on_too_many_stuck=self._end_process,
                    isolates=Isolates(
                        self._make_isolation,
                        runtime.aside,
                        takes_suspects=takes_suspects(self.queue, self.options),
                    ),
                )
        except BaseException:
            await store.close()
            raise
        return lifetime

    async def _stop(self) -> int:
        if self._would_wait_for_itself():
            return 0
        lifetime, left = await self._changing.hold(self._end_running)
        if lifetime is not None:
            lifetime.runtime.logger.info("pool %s stopped, runs left: %d", lifetime.id, left)
            self._events.emit(Events.pool_stopped, lifetime.id)
        return left

    async def _end_running(self) -> tuple[PoolLifetime | None, int]:
        """Returns the lifetime that has stopped, if there was one, and how many of its runs had not ended in time.

        No other start or stop is under way.
        """
        for wake in tuple(self._on_stop):
            wake()
        lifetime = self._lifetime
        if lifetime is None or not self._running:
            return None, 0
        deadline = time.monotonic() + self.options.grace_period.total_seconds()
        return lifetime, await self._end_lifetime(lifetime, deadline)

    async def _end_lifetime(self, lifetime: PoolLifetime, deadline: float) -> int:
        """Stops the lifetime; returns how many runs had not ended at the deadline.

        If there are any, or if this is interrupted, what is left to do goes on in the background.
        """
        self._deadline = deadline
        stop_by: float | None = deadline
        try:
            left = await lifetime.stop(deadline)
            stop_by = None
            if left:
                # The outcome of a stuck run is written: its task is not held.
                rest = "all of them stuck" if lifetime.workers.stuck == left else "their tasks stay held until they do"
                lifetime.runtime.logger.warning(f"pool %s: runs not ended: %d; {rest}", lifetime.id, left)
                self._linger(lifetime, None)
            else:
                self.is_clean = await lifetime.leave(deadline)
        except BaseException:  # a cancellation, or Ctrl-C: the caller no longer waits, the pool stops nevertheless
            self._linger(lifetime, stop_by)
            raise
        finally:
            self._running = False
        self._left_if_over()
        return left

    async def _run(self) -> int:
        signals = self._make_signals()
        self.on_stop(signals.wake)
        self.on_too_many_stuck(signals.wake)
        try:
            with signals:
                await self._call_start()
                try:
                    await signals.wait()
                    if signals.ends_process or self.has_too_many_stuck:
                        self.begin_last_call()  # a signal may have come while the pool started
                finally:
                    await self._stop_undisturbed()
                runs_go_on = await self._runs_go_on()
        finally:
            self._on_stop.remove(signals.wake)
            self._on_too_many_stuck.remove(signals.wake)
        code = self.exit_code
        if code and (signals.ends_process or self.has_too_many_stuck):
            if runs_go_on:
                os._exit(code)  # an ordinary exit would wait for these runs, or run user code's finalizers under them
            raise SystemExit(code)
        return code

    async def _runs_go_on(self) -> bool:
        lingering = self._lingering
        if lingering is None:
            return False
        is_stuck = self._lifetime is not None and self._lifetime.workers.stuck > 0  # it would wait in vain
        return not await lingering.join(0.0 if is_stuck else max(0.0, self._deadline - time.monotonic()))

    async def _drain(self) -> int:
        self._refuse_own("drain")
        lifetime = self._lifetime
        if lifetime is not None and self._running:
            return await lifetime.drain(lifetime.ended_runs)
        await self._call_start()
        try:
            assert self._lifetime is not None
            return await self._lifetime.drain(0)  # runs that end before it is asked for count as well
        finally:
            await self._call_stop()

    def on_stop(self, wake: Callable[[], None]) -> None:
        """Makes each ``stop()`` call ``wake``, on its caller's thread, for code that waits for the pool to end."""
        self._on_stop.append(wake)

    def on_too_many_stuck(self, wake: Callable[[], None]) -> None:
        """Makes the pool call ``wake`` when more runs are stuck than ``max_stuck`` allows, for code that then ends the
        process."""
        self._on_too_many_stuck.append(wake)

    def _end_process(self) -> None:
        self.has_too_many_stuck = True
        for wake in tuple(self._on_too_many_stuck):
            wake()

    @property
    def exit_code(self) -> int:
        """The code with which a process ends whose pool has stopped; see ``run``."""
        if self.has_too_many_stuck:
            return EXIT_STUCK
        return 0 if self.is_clean else EXIT_RUNS_LEFT

    def begin_last_call(self) -> None:
        """Makes the process end soon after the grace period, even if a run hangs; for signal handlers."""
        if self._running and self._lifetime is not None:
            grace = self.options.grace_period.total_seconds()
            self._lifetime.say_stopping(exit_at=time.monotonic() + grace + EXIT_LATE)

    def _stop_in_background(self) -> None:
        """Stops in the background, at the request of another process. A start ends before that."""
        assert self._lifetime is not None
        self._told_to_stop = self._lifetime.runtime.spawn(self._stop_as_told, "fang-stop")

    async def _stop_as_told(self) -> None:
        try:
            await self._call_stop()
        except Exception:
            assert self._lifetime is not None
            self._lifetime.runtime.logger.exception("the pool was told to stop, and failed to")

    @property
    def _is_alive(self) -> bool:
        """Returns whether the pool runs, or runs of its last life go on."""
        return self._running or (self._lingering is not None and not self._lingering.has_ended)

    def _left_if_over(self) -> None:
        if not self._is_alive:
            self._left()

    def _linger(self, lifetime: PoolLifetime, stop_by: float | None) -> None:
        self._lingering = lifetime.runtime.spawn(lambda: self._end(lifetime, stop_by), "fang-lingering")

    async def _end(self, lifetime: PoolLifetime, stop_by: float | None) -> None:
        """Keeps the heart beating and writes outcomes until the last run has ended, in a process that lives on.

        ``stop_by`` is the deadline of a stop that was interrupted and is now begun again; None if it was not.
        """
        if stop_by is not None:
            await lifetime.stop(stop_by)
        await lifetime.workers.join()
        try:
            self.is_clean = await lifetime.leave(self._deadline)
        finally:  # also if the event loop ends
            await lifetime.close()
        self._left()

    def _would_wait_for_itself(self) -> bool:
        """Returns whether the caller is a run, or the lifespan, that the stop under way waits for.

        Raises ``UsageError`` if it is the lifespan that the start under way waits for.
        """
        lifetime = self._lifetime
        if lifetime is None or not self._running:
            return False
        if lifetime.stopping.is_set():
            return lifetime.resources.is_caller or lifetime.workers.is_caller()
        if lifetime.resources.is_caller:
            raise UsageError("a lifespan cannot stop its own pool before that has started: raise an exception instead")
        return False

    def _refuse_own(self, verb: str) -> None:
        """Raises ``UsageError`` if the caller is a run or the lifespan of this pool, for which that would wait."""
        lifetime = self._lifetime
        if lifetime is None:
            return
        if lifetime.resources.is_caller:
            raise UsageError(f"a lifespan cannot {verb} its own pool")
        if lifetime.workers.is_caller():
            raise UsageError(f"a run cannot {verb} its own pool")
