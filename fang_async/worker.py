"""Defines a worker: one long-lived asyncio task that takes claimed tasks and runs each itself, see ``Execution``.

What simpler loops get wrong, and this one does not:

- A run sees context variables that the last one has set. Here every step of a run is taken inside its own context.
- A cancellation that a run leaves behind hits the next one. Here the worker absorbs one that the pool asked for; after
  any other it hands over the run's outcome and ends, and the pool replaces it.
- SystemExit, KeyboardInterrupt and the like would end the loop. Here they are outcomes.
"""

import asyncio
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from fang_async.worker_task import WorkerTask
from fang_core.claims.expiry import EXPIRED
from fang_core.events import Events
from fang_core.lifecycle import Result
from fang_core.pool.workers import Duties
from fang_core.runs.execution import Execution
from fang_core.runs.interrupt import Interrupt, Interruption
from fang_core.runs.location import frames_of_coroutine
from fang_core.runs.run import Run

if TYPE_CHECKING:
    from fang_async.workers import AsyncWorkers


class Worker:
    """Runs tasks until the pool stops. No exception of a run ends it; if anything else does, the pool replaces it."""

    def __init__(self, duties: Duties, number: int, *, workers: "AsyncWorkers") -> None:
        self._duties = duties
        self._workers = workers
        self._execution = Execution(
            duties.kinds.class_of,
            duties.queue,
            interruption=asyncio.CancelledError,
            on_suspended=workers.wake_one,
            middleware=duties.middleware,
            isolates=duties.isolates,
        )
        self._thread = threading.get_ident()
        self.number = number
        self.current: Run | None = None
        """The run that may be interrupted."""
        self._strikes = 0
        self.is_given_up = False
        """Whether the run counts as stuck: its outcome was written, and the worker has a successor."""
        self.task = WorkerTask(self._loop(), loop=asyncio.get_running_loop(), name=f"fang-worker-{number}")

    def frames(self) -> Iterable[FrameType]:
        """See ``Interruptible.frames``."""
        return frames_of_coroutine(self.task.get_coro())

    def interrupt(self, run: Run, why: Interrupt, reason: str = "") -> bool:
        """See ``Workers.interrupt``."""
        interruption, before = Interruption(why, reason, time.monotonic()), run.interrupt
        if self.current is not run or not interruption.applies_to(run):
            return False
        interruption.begin(run)
        if not run.held_back:
            self._strike(interruption)
        if before in {None, Interrupt.SHUTDOWN} and why is not Interrupt.SHUTDOWN:
            self._workers.give_up_later(self, run)
        return True

    def interrupt_current(self, why: Interrupt) -> None:
        """Interrupts the run that is under way, if there is one."""
        if self.current is not None:
            self.interrupt(self.current, why)

    def hold_back(self, run: Run) -> None:
        """See ``Interruptible.hold_back``."""
        if self._has(run):
            run.held_back += 1

    def let_through(self, run: Run, *, is_raising: bool) -> None:
        """See ``Interruptible.let_through``."""
        if not self._has(run):
            return
        run.held_back -= 1
        interruption = run.interruption
        if not run.held_back and interruption is not None and not interruption.is_struck:
            self._strike(interruption)

    def _has(self, run: Run) -> bool:
        return self.current is run and threading.get_ident() == self._thread

    def _strike(self, interruption: Interruption) -> None:
        interruption.is_struck = True
        self._strikes += 1
        self.task.cancel()

    async def _absorb(self, me: "asyncio.Task[Any]") -> None:
        """Clears the pool's cancellations for the next run: in the count, and if one is still to be delivered.

        Other requests stay in the count: one may come from a loop that is being closed, which waits for this task.
        """
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        while self._strikes:
            self._strikes -= 1
            me.uncancel()

    async def _loop(self) -> None:
        workers, waiting = self._workers, self._workers.waiting
        _, _, events, on_taken, on_ended, _, _ = self._duties
        perform = self._execution.perform_async
        me = asyncio.current_task()
        assert isinstance(me, WorkerTask)
        while True:
            while waiting and not workers.surplus:
                if time.monotonic() >= workers.slice_end:
                    await workers.yield_to_loop()
                    continue
                run = waiting.popleft()
                if run.expires is not None and time.monotonic() >= run.expires:
                    workers.ended_runs += 1
                    on_ended(run, EXPIRED, 0.0)
                    continue
                run.taken_by = self
                run.began = started = time.monotonic()
                result: Result | None = None
                try:
                    on_taken(len(waiting))
                    if events.listeners:
                        events.emit(Events.run_started, run.task)
                        started = time.monotonic()
                    timeout = run.task.timeout
                    timer = None if timeout is None else TimeLimit(self, run, timeout.total_seconds())
                    self.current = run
                    try:
                        result = await perform(run)
                    finally:
                        self.current = None
                        if timer is not None:
                            timer.cancel()
                    if self._strikes:
                        await self._absorb(me)
                finally:
                    # Even if this loop itself fails, no claimed task goes without an outcome.
                    if not self.is_given_up:
                        workers.ended_runs += 1
                        on_ended(run, result, time.monotonic() - started)
                    result = None  # a failure's exception would keep all frames of its run until the next run
                if self.is_given_up or me.is_cancelled():
                    workers.forget_stuck(self)
                    return
            on_taken(len(waiting))
            if workers.ends(self):
                return
            await workers.wait_for_run()


class TimeLimit:
    """Interrupts a run after ``seconds``, unless it is cancelled before.

    If the run goes to a child process, they count from when the child begins it.
    """

    def __init__(self, worker: Worker, run: Run, seconds: float) -> None:
        self._worker = worker
        self._run = run
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(seconds, self._look)

    def cancel(self) -> None:
        """Ends the limit: the run has ended in time."""
        self._handle.cancel()

    def _look(self) -> None:
        run, now = self._run, time.monotonic()
        if run.isolated and now < (deadline := run.limited_since(now) + self._seconds):
            self._handle = self._loop.call_later(deadline - now, self._look)
        else:
            self._worker.interrupt(run, Interrupt.TIME_LIMIT)
