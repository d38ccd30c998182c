"""Manages the workers of one lifetime of a pool, asyncio tasks, and the runs that wait for one of them."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from fang_async.worker import Worker
from fang_core.logs import SafeLogger
from fang_core.pool.workers import BaseWorkers
from fang_core.runs.interrupt import Interrupt
from fang_core.runs.run import Run

SLICE: Final = 0.002
"""Seconds that all workers of a pool together may run before they yield to the loop. One slice for each worker
instead made a ticker 300 ms late with 50 workers."""

UNWINDING: Final = 0.5
"""Seconds that cancelled runs have to end."""


class AsyncWorkers(BaseWorkers):
    """Implements ``Workers`` with asyncio tasks. Replaces those that cannot go on."""

    _logger: ClassVar = SafeLogger("fang_async")

    def _set_up(self) -> None:
        self._workers: dict[int, Worker] = {}
        self._idle: deque[asyncio.Future[None]] = deque()
        self._slice_renewing = False
        self.waiting: deque[Run] = deque()
        """Runs that wait for a worker, first in first out."""
        self.slice_end = 0.0
        """When a worker must ``yield_to_loop`` before it takes another run, as a time of the monotonic clock."""
        self.ended_runs = 0
        """See ``RunQueue.ended_runs``; workers count them."""

    def _by_number(self) -> Mapping[int, Worker]:
        return self._workers

    def _add(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._spawn(number)

    def _wake_idle(self, count: int) -> None:
        for _ in range(count):
            self._wake_next()

    @property
    def backlog(self) -> int:
        """See ``RunQueue.backlog``."""
        return len(self.waiting)

    def put(self, runs: list[Run]) -> None:
        """See ``RunQueue.put``."""
        self.waiting.extend(runs)
        self._begin_slice()
        # One is enough: it goes on while runs never suspend, and wakes another as soon as one suspends.
        self.wake_one()

    def take_back(self, count: int) -> Iterator[Run]:
        """See ``RunQueue.take_back``."""
        for _ in range(count):
            yield self.waiting.popleft()

    def interrupt(self, run: Run, why: Interrupt, reason: str = "") -> bool:
        """See ``Workers.interrupt``."""
        return isinstance(run.taken_by, Worker) and run.taken_by.interrupt(run, why, reason)

    def interrupt_all(self, why: Interrupt) -> None:
        """See ``Workers.interrupt_all``."""
        for worker in self._workers.values():
            worker.interrupt_current(why)

    def executing(self) -> Run | None:
        """See ``Workers.executing``."""
        workers = self._all()
        executed = asyncio.current_task(workers[0].task.get_loop()) if workers else None
        return next((worker.current for worker in workers if worker.task is executed), None)

    def is_caller(self) -> bool:
        """See ``Workers.is_caller``."""
        return any(worker.task is asyncio.current_task() for worker in self._all())

    async def stop(self, deadline: float) -> int:
        """See ``Workers.stop``; it cancels runs at the deadline, and counts those that do not end even then."""
        self.is_stopping = True
        self._wake_all()
        me = asyncio.current_task()
        others = [worker for worker in self._workers.values() if worker.task is not me and not worker.task.done()]
        if others:
            await asyncio.wait([worker.task for worker in others], timeout=max(0.0, deadline - time.monotonic()))
        late = [worker for worker in others if not worker.task.done()]
        if late:
            for worker in late:
                worker.interrupt_current(Interrupt.SHUTDOWN)
            await asyncio.wait([worker.task for worker in late], timeout=UNWINDING)
        return sum(not worker.task.done() for worker in self._all())

    async def join(self) -> None:
        """See ``Workers.join``."""
        tasks = [worker.task for worker in self._all()]
        if tasks:  # a pool whose start failed may have none
            await asyncio.wait(tasks)

    def _all(self) -> list[Worker]:
        """Returns the workers, and those whose runs are stuck."""
        return [*self._workers.values(), *self._stuck]

    def _spawn(self, number: int) -> None:
        worker = Worker(self._duties, number, workers=self)
        self._workers[number] = worker
        worker.task.add_done_callback(lambda task: self._replace(number, task))

    def _replace(self, number: int, task: "asyncio.Task[None]") -> None:
        """Replaces a worker whose task ended, if the pool goes on."""
        error = None if task.cancelled() else task.exception()
        worker = self._workers.get(number)
        if self._is_over() or worker is None or worker.task is not task:
            return  # the pool stops, or the whole loop is being torn down, or the worker was let go or has a successor
        reason = "a cancellation left behind" if error is None else type(error).__name__
        self._spawn(number)
        self._tell_of_replacement(reason, error)

    # Called by workers ------------------------------------------------------------------------------------------------

    def give_up_later(self, worker: Worker, run: Run) -> None:
        """Replaces a worker whose run has been interrupted now, if it has not ended ``stuck_after`` later."""
        seconds = self._options.stuck_after.total_seconds()
        asyncio.get_running_loop().call_later(seconds, self._replace_stuck, worker, run)

    def _replace_stuck(self, worker: Worker, run: Run) -> None:
        if worker.current is not run:
            return
        worker.is_given_up = True
        self.ended_runs += 1
        self._spawn(worker.number)
        self._give_up(worker, run)

    async def wait_for_run(self) -> None:
        """Waits until a run waits, or the pool stops."""
        woken = asyncio.get_running_loop().create_future()
        self._idle.append(woken)
        await woken

    def wake_one(self) -> None:
        """Wakes one idle worker, if a run waits."""
        if self.waiting:
            self._wake_next()

    def ends(self, worker: Worker) -> bool:
        """Returns whether a worker that takes no run must end: the pool stops, or has become smaller."""
        if not self.surplus:
            return self.is_stopping
        self.surplus -= 1
        del self._workers[worker.number]
        self.wake_one()  # it may have been woken for a run
        return True

    def _wake_next(self) -> None:
        while self._idle:
            woken = self._idle.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._idle:
            self._wake_next()

    async def yield_to_loop(self) -> None:
        """Lets the loop run other tasks; the first worker that calls it renews the slice for all."""
        if not self._slice_renewing:
            self._slice_renewing = True
            asyncio.get_running_loop().call_soon(self._renew_slice)
        await asyncio.sleep(0)

    def _begin_slice(self) -> None:
        """Begins a slice if the last one is over.

        A worker that was idle would yield first, to a claimer that goes on to its next claim. Between two claims the
        loop runs other tasks, so that this makes no turn of the loop longer than two slices.
        """
        now = time.monotonic()
        if now >= self.slice_end:
            self.slice_end = now + SLICE

    def _renew_slice(self) -> None:
        self.slice_end = time.monotonic() + SLICE
        self._slice_renewing = False
