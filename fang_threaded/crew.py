"""The workers of one life of a pool, and the runs that wait for one of them."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from fang_core.events import Events
from fang_core.logs import SafeLogger
from fang_core.run import Run
from fang_threaded.worker import Worker

if TYPE_CHECKING:
    from fang_threaded.shift import Shift

logger = SafeLogger("fang_threaded")

UNWINDING: Final = 0.2
"""Seconds that threads have to end which run nothing, where the grace period is over."""


class Crew:
    """Hands waiting runs to workers, and replaces those that cannot go on."""

    def __init__(self, shift: "Shift") -> None:
        self._shift = shift
        self._workers: list[Worker] = []
        self.waiting: SimpleQueue[Run | None] = SimpleQueue()
        """Runs that wait for a worker, first in first out; None ends the worker that takes it."""

    def start(self) -> None:
        """Starts the workers."""
        shift = self._shift
        self._workers = [Worker(shift, self, number) for number in range(shift.options.number_of_workers)]
        for worker in self._workers:
            worker.thread.start()

    @property
    def backlog(self) -> int:
        """How many runs wait for a worker."""
        return self.waiting.qsize()

    @property
    def ended_runs(self) -> int:
        """How many runs have ended since the start."""
        return sum(worker.ended for worker in self._workers)

    def put(self, runs: list[Run]) -> None:
        """Has workers run them, after those that wait."""
        for run in runs:
            self.waiting.put(run)

    def take_back(self, count: int) -> Iterator[Run]:
        """The first in line; workers may be faster, and then it is those behind."""
        with suppress(Empty):
            for _ in range(count):
                run = self.waiting.get_nowait()
                if run is not None:
                    yield run

    def replace(self, worker: Worker, error: BaseException) -> None:
        """A worker's thread ended on its own: another takes its place."""
        place = self._workers.index(worker)
        successor = Worker(self._shift, self, place)
        successor.ended = worker.ended
        self._workers[place] = successor  # before it starts: it may fail at once, and be replaced in turn
        try:
            successor.thread.start()
        except RuntimeError as refused:  # the limit of threads is reached
            logger.error("a worker could not go on, nor be replaced (%s)", refused, exc_info=error)
            return
        logger.error("a worker could not go on and is replaced", exc_info=error)
        self._shift.events.emit(Events.worker_replaced, self._shift.id, type(error).__name__)

    def is_caller(self) -> bool:
        """Whether it is one of its runs that calls this."""
        return any(worker.thread is threading.current_thread() for worker in self._workers)

    def dismiss(self, deadline: float) -> int:
        """Has each worker end when its run has; how many had not at the deadline."""
        for _ in self._workers:
            self.waiting.put(None)
        deadline = max(deadline, time.monotonic() + UNWINDING)
        for worker in self._workers:
            worker.join(deadline)
        return sum(worker.thread.is_alive() for worker in self._workers)

    def join(self) -> None:
        """Until the last worker has ended."""
        for worker in self._workers:
            worker.join()
