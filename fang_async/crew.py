"""The workers of one life of a pool, and the runs that wait for one of them."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from fang_async.worker import Worker
from fang_core.events import Events
from fang_core.logs import SafeLogger
from fang_core.run import Run

if TYPE_CHECKING:
    from fang_async.shift import Shift

logger = SafeLogger("fang_async")

SLICE: Final = 0.002
"""Seconds that all workers of a pool together may run on before the loop serves others. One slice for each worker
instead made a ticker 300 ms late with 50 workers."""

UNWINDING: Final = 0.5
"""Seconds that cancelled runs have to end."""


class Crew:
    """Hands waiting runs to workers, and replaces those that cannot go on."""

    def __init__(self, shift: "Shift") -> None:
        self._shift = shift
        self._workers: dict[int, Worker] = {}
        self._resting: deque[asyncio.Future[None]] = deque()
        self._slice_renewing = False
        self.waiting: deque[Run] = deque()
        """Runs that wait for a worker, first in first out."""
        self.slice_end = 0.0
        """When a worker must ``breathe`` before it takes another run, as a time of the monotonic clock."""
        self.ended_runs = 0
        """How many runs have ended since the start; workers count them."""

    def start(self) -> None:
        """Starts the workers."""
        for number in range(self._shift.options.number_of_workers):
            self._hire(number)

    @property
    def backlog(self) -> int:
        """How many runs wait for a worker."""
        return len(self.waiting)

    def put(self, runs: list[Run]) -> None:
        """Has workers run them, after those that wait."""
        self.waiting.extend(runs)
        # One is enough: it drains what never suspends, and wakes another as soon as a run suspends.
        self.wake_one()

    def take_back(self, count: int) -> Iterator[Run]:
        """The first in line."""
        for _ in range(count):
            yield self.waiting.popleft()

    def cut_short(self) -> None:
        """Cancels what is being run."""
        for worker in self._workers.values():
            worker.cut_short()

    def is_caller(self) -> bool:
        """Whether it is one of its runs that calls this."""
        return any(worker.task is asyncio.current_task() for worker in self._workers.values())

    async def dismiss(self, deadline: float) -> int:
        """Has each worker end when its run has, cancelled at the deadline; how many had not ended even so."""
        self._wake_all()
        me = asyncio.current_task()
        others = [worker for worker in self._workers.values() if worker.task is not me and not worker.task.done()]
        if others:
            await asyncio.wait([worker.task for worker in others], timeout=max(0.0, deadline - time.monotonic()))
        late = [worker for worker in others if not worker.task.done()]
        if late:
            for worker in late:
                worker.cut_short()
            await asyncio.wait([worker.task for worker in late], timeout=UNWINDING)
        return sum(not worker.task.done() for worker in self._workers.values())

    async def join(self) -> None:
        """Until the last worker has ended."""
        await asyncio.wait([worker.task for worker in self._workers.values()])

    def _hire(self, number: int) -> None:
        worker = Worker(self._shift, self, number)
        self._workers[number] = worker
        worker.task.add_done_callback(lambda task: self._replace(number, task))

    def _replace(self, number: int, task: "asyncio.Task[None]") -> None:
        """A worker's asyncio task ended: where the pool goes on, another takes its place."""
        error = None if task.cancelled() else task.exception()
        if self._shift.stopping.is_set() or self._shift.claimer.is_over:
            return  # the pool stops, or the whole loop is being torn down
        reason = "a cancellation left behind" if error is None else type(error).__name__
        self._hire(number)
        logger.warning("a worker could not go on (%s) and is replaced", reason, exc_info=error)
        self._shift.events.emit(Events.worker_replaced, self._shift.id, reason)

    # Called by workers ------------------------------------------------------------------------------------------------

    async def rest(self) -> None:
        """Until there is something to run, or the pool stops."""
        woken = asyncio.get_running_loop().create_future()
        self._resting.append(woken)
        await woken

    def wake_one(self) -> None:
        """Ends one worker's rest, where a run waits."""
        while self.waiting and self._resting:
            woken = self._resting.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._resting:
            woken = self._resting.popleft()
            if not woken.done():
                woken.set_result(None)

    async def breathe(self) -> None:
        """Lets the loop serve others; the first to come here renews the slice for all."""
        if not self._slice_renewing:
            self._slice_renewing = True
            asyncio.get_running_loop().call_soon(self._renew_slice)
        await asyncio.sleep(0)

    def _renew_slice(self) -> None:
        self.slice_end = time.monotonic() + SLICE
        self._slice_renewing = False
