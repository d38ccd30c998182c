"""A pool of async workers, with the asyncio task that claims for them and the one that writes their outcomes."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, Self
from uuid import UUID

from fang_async.home import HomeLoop
from fang_async.shift import Shift
from fang_async.signals import Signals
from fang_core.arguments import check_queue
from fang_core.config import (
    DEFAULT_LEASE,
    DEFAULT_MAX_CRASHES,
    EXIT_RUNS_LEFT,
    PoolOptions,
    RetentionMode,
    SleepParams,
    as_task_types,
)
from fang_core.copying import Uncopyable
from fang_core.errors import UsageError
from fang_core.events import Dispatcher, Events
from fang_core.forks import in_child
from fang_core.logs import SafeLogger
from fang_core.record import DEFAULT_TASK_TYPE
from fang_core.store import AsyncBackend

logger = SafeLogger("fang_async")

RUNS_ELSEWHERE: Final = (
    "this AsyncWorkerPool runs on another event loop: stop it there, or make one AsyncWorkerPool for each loop"
)

LAST_CALL: Final = 1.8
"""Seconds after the grace period at which the heartbeat ends a process that hangs."""


class AsyncWorkerPool(Uncopyable):
    """Runs tasks of some task types as asyncio tasks. It can be made where no loop runs.

    Args:
        queue: an ``AsyncQueue``, or an ``AsyncMemoryQueue``; opened by the pool where it is closed, and closed again.
        number_of_workers: tasks at once.
        task_type: one or several; with several, the first in line moves by one at every claim.
        retention_mode: what becomes of rows whose life ends.
        sleep_params: how an idle pool polls; more than 8 s only with ``listen=False``.
        grace_period: how long ``stop()`` waits for runs, before it cancels them.
        keep_finished, keep_failed: the age from which kept rows of these task types are pruned; None keeps them.
        listen: whether inserts wake the pool by NOTIFY; never where the queue is behind a pooler.
        lease: after so long without a sign of life a pool is taken for dead, and its tasks run elsewhere; longer than
            the longest call of C code that holds the GIL.
        max_crashes: how often the process may die under a task before that is failed as crashed; 1 and 2 fail
            innocent tasks with it.
        log_tracebacks: whether the line of a failed run has its traceback, whose text may quote payloads.
        events: who is told what happens.
    """

    def __init__(
        self,
        queue: AsyncBackend,
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
        log_tracebacks: bool = False,
        events: Sequence[Events] = (),
    ) -> None:
        check_queue(queue, "async")
        self.queue = queue
        self.options = PoolOptions(
            number_of_workers=number_of_workers,
            task_types=as_task_types(task_type),
            retention_mode=retention_mode,
            sleep_params=sleep_params or SleepParams(),
            grace_period=grace_period,
            keep_finished=keep_finished,
            keep_failed=keep_failed,
            listen=listen and queue.keeps_session,
            lease=lease,
            max_crashes=max_crashes,
            log_tracebacks=log_tracebacks,
        )
        self._events = Dispatcher(events)
        self._on_stop: list[Callable[[], None]] = []
        self._home = HomeLoop(RUNS_ELSEWHERE, moved=self._begin, is_busy=lambda: True)
        self._begin()
        in_child(self, AsyncWorkerPool._forget)
        self.is_clean = True
        """Whether nothing is left: no run goes on, and all that came of the last life's runs is written."""

    def _forget(self) -> None:
        """Not started, in a child, where nothing of the parent's pool goes on: to stop it there ends nothing."""
        self._begin()
        self._on_stop = []

    def _begin(self) -> None:
        """Not started; also where the event loop of its last life has ended before the pool was stopped."""
        self._changing = asyncio.Lock()
        self._shift: Shift | None = None  # the present one, or the last
        self._running = False
        self._deadline = 0.0  # of the last stop
        self._lingering: asyncio.Task[None] | None = None

    @property
    def id(self) -> UUID | None:
        """The pool's id while it runs, made anew by every start."""
        return None if self._shift is None else self._shift.id

    # Life -------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Registers the pool and starts its workers; returns when they run.

        Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable`` in one line that says what to do, and
        ``UsageError`` if it runs already.
        """
        self._home.enter()
        try:
            async with self._changing:
                self._home.enter()  # again: a stop for which this has waited has left it
                if self._is_alive:
                    raise UsageError("this pool is running already, or runs of its last life have not ended")
                shift = await self._begin_shift()
                shift.start()
                self._running = True
                self.is_clean = False
        finally:
            self._leave_if_over()
        types, workers = ", ".join(self.options.task_types), self.options.number_of_workers
        logger.info("pool %s started, workers: %d, for %s", shift.id, workers, types)
        self._events.emit(Events.pool_started, shift.id)

    async def stop(self) -> int:
        """Stops gracefully; how many runs had not ended in time. They go on and stay held until they end.

        Claims no more, gives back what was not started, waits for runs up to the grace period, then cancels them and
        gives them back, and writes what has ended. A run of the pool's own that calls it counts as one that has not
        ended.
        """
        self._home.check()
        if self._is_stopping_and_called_by_a_run():
            return 0
        async with self._changing:
            for wake in tuple(self._on_stop):
                wake()
            shift = self._shift
            if shift is None or not self._running:
                return 0
            deadline = self._deadline = time.monotonic() + self.options.grace_period.total_seconds()
            try:
                left = await shift.stop(deadline)
            except BaseException:  # a cancellation: whoever called this waits no more, the pool stops all the same
                self._linger(shift, deadline)
                raise
            finally:
                self._running = False
            if left:
                logger.warning("pool %s: runs not ended: %d; their tasks stay held until they do", shift.id, left)
                self._linger(shift, None)
            else:
                self.is_clean = await shift.leave()
                self._leave_if_over()
        logger.info("pool %s stopped, runs left: %d", shift.id, left)
        self._events.emit(Events.pool_stopped, shift.id)
        return left

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run(self) -> int:
        """Starts, and stops gracefully at SIGTERM or SIGINT, or when ``stop()`` is called; returns the exit code.

        It is for a process whose work is the pool. Inside of an application, such as a web server, use ``async with
        pool:``, or ``start()`` and ``stop()``, which leave signals alone.

        A second signal, a second or more after the first, ends the process at once. Signals are handled only if the
        loop runs in the main thread, and given back. If the application has a handler of its own, that is called too,
        and what becomes of the process is its decision.

        Returns:
            0 if every run has ended by the end of the grace period, and all is written; else 75. After a signal that
            the application does not handle it does not return 75: it ends the process with that code, by
            ``SystemExit`` if no run goes on, else at once. In all other cases the process goes on.

        The first cancellation during the stop waits for the end of that; a second one leaves it to the background.
        """
        signals = Signals(self.begin_last_call)
        self.on_stop(signals.wake)
        try:
            with signals:
                await self.start()
                try:
                    await signals.wait()
                    if signals.ends_process:
                        self.begin_last_call()  # it may have come while the pool started
                finally:
                    await self._stop_undisturbed()
                runs_go_on = await self.runs_go_on()
        finally:
            self._on_stop.remove(signals.wake)
        code = 0 if self.is_clean else EXIT_RUNS_LEFT
        if code and signals.ends_process:
            if runs_go_on:
                os._exit(code)  # an ordinary exit would wait for the runs that swallowed their cancellation
            raise SystemExit(code)
        return code

    def on_stop(self, wake: Callable[[], None]) -> None:
        """Has it called when ``stop()`` is, by whomever, on the thread that calls that; for who waits for it to end."""
        self._on_stop.append(wake)

    async def runs_go_on(self) -> bool:
        """Whether runs of the last life go on, past the end of its grace period.

        Until then a run of its own that has stopped the pool is waited for.
        """
        if self._lingering is None:
            return False
        await asyncio.wait([self._lingering], timeout=max(0.0, self._deadline - time.monotonic()))
        return not self._lingering.done()

    def begin_last_call(self) -> None:
        """Bounds the life of the process to the grace period, also where a run blocks the loop; for signal handlers."""
        if self._running and self._shift is not None:
            grace = self.options.grace_period.total_seconds()
            self._shift.say_stopping(exit_at=time.monotonic() + grace + LAST_CALL)

    async def drain(self) -> int:
        """Runs until no due task of the pool's types and kinds is left and its own runs have ended; how many ran.

        Starts the pool, and stops it again, where it was not running.
        """
        self._home.check()
        shift = self._shift
        if shift is not None and self._running:
            return await shift.drain(shift.crew.ended_runs)
        async with self:
            assert self._shift is not None
            return await self._shift.drain(0)  # runs that end before it is asked for count as well

    @property
    def _is_alive(self) -> bool:
        """Whether it runs, or runs of its last life go on."""
        return self._running or (self._lingering is not None and not self._lingering.done())

    def _leave_if_over(self) -> None:
        if not self._is_alive:
            self._home.leave()

    async def _begin_shift(self) -> Shift:
        """One that is registered, and whose heart beats."""
        store = await self.queue.store()
        try:
            shift = self._shift = Shift(store, self.queue, self.options, self._events)
            await shift.register()
        except BaseException:
            await store.close()
            raise
        return shift

    async def _stop_undisturbed(self) -> None:
        """Stops, and goes on with it when it is cancelled once.

        A server that ends by a signal cancels a task that has begun to stop by the same signal.
        """
        stopping = asyncio.create_task(self.stop(), name="fang-stopping")
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise

    def _linger(self, shift: Shift, stop_by: float | None) -> None:
        self._lingering = asyncio.create_task(self._end(shift, stop_by), name="fang-lingering")

    async def _end(self, shift: Shift, stop_by: float | None) -> None:
        """In a process that lives on: the heart beats, and outcomes are written, until the last run has ended.

        ``stop_by`` is the deadline of a stop that was interrupted, and is begun again.
        """
        if stop_by is not None:
            await shift.stop(stop_by)
        await shift.crew.join()
        self.is_clean = await shift.leave()
        self._home.leave()

    def _is_stopping_and_called_by_a_run(self) -> bool:
        """Whether the stop that is under way waits for the very run that asks for another."""
        shift = self._shift
        return shift is not None and self._running and shift.stopping.is_set() and shift.crew.is_caller()
