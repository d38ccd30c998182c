"""Defines a worker: one thread that takes claimed tasks and runs them, see ``Execution``."""

import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

from fang_core.claims.expiry import EXPIRED
from fang_core.events import Events
from fang_core.lifecycle import Result
from fang_core.monitoring.tally import Timing
from fang_core.pool.workers import Duties
from fang_core.runs.execution import Execution
from fang_core.runs.interrupt import Interrupted
from fang_core.runs.location import frames_of_thread
from fang_core.runs.run import Run
from fang_threaded.interrupting import Interruptee

if TYPE_CHECKING:
    from fang_threaded.workers import ThreadWorkers


class Worker(Interruptee):
    """Runs tasks until the pool stops or lets it go.

    No exception of a run ends it; if anything else does, the pool replaces it.
    """

    def __init__(
        self,
        duties: Duties,
        number: int,
        *,
        waiting: SimpleQueue[Run | None],
        workers: "ThreadWorkers",
        watch: Callable[[float], None],
        on_failed: "Callable[[Worker, BaseException], None]",
        on_late: "Callable[[Worker], None]",
    ) -> None:
        super().__init__(number)
        self._execution = Execution(
            duties.kinds.class_of, duties.queue, middleware=duties.middleware, isolates=duties.isolates
        )
        self._waiting = waiting
        self._workers = workers
        self._watch = watch
        self._on_failed = on_failed
        self._on_late = on_late
        self.ended = 0
        """Runs that have ended; only this thread counts them."""
        self.thread = threading.Thread(target=self._main, args=(duties,), name=f"fang-worker-{number}", daemon=True)

    def frames(self) -> Iterable[FrameType]:
        """See ``Interruptible.frames``."""
        return frames_of_thread(self.thread.ident)

    def join(self, deadline: float | None = None) -> None:
        """Waits until the worker has ended, if it was started. Returns at once if the worker calls it itself."""
        if self.thread.ident is not None and self.thread is not threading.current_thread():
            self.thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _main(self, duties: Duties) -> None:
        try:
            self._loop(duties)
        except BaseException as error:  # noqa: BLE001 - the pool must hear of every error
            self._on_failed(self, error)

    def _loop(self, duties: Duties) -> None:
        _, _, events, on_taken, on_ended, _, _ = duties
        waiting, workers, perform = self._waiting, self._workers, self._execution.perform
        while not (workers.surplus and workers.lets_go(self)):
            on_taken(waiting.qsize())
            run = waiting.get()
            if run is None:
                workers.woke()
                continue
            if run.expires is not None and time.monotonic() >= run.expires:
                self.ended += 1
                on_ended(run, EXPIRED, 0.0)
                continue
            run.taken_by = self
            run.began = started = time.monotonic()
            result: Result | None = None
            try:
                if events.listeners:
                    events.emit(Events.run_started, run.task)
                    started = time.monotonic()
                try:
                    self.current = run
                    if run.task.timeout is not None:
                        self._watch(run.began + run.task.timeout.total_seconds())
                    result = perform(run) if run.timing is None else _timed(perform, run, run.timing)
                finally:
                    self.current = None
                    if self.is_sending or run.interruption is not None:
                        self.settle()
            except Interrupted as struck:  # outside the task's own code
                self.settle()
                if result is None:
                    result = self._execution.interrupted(run, struck)
            finally:
                # Even if this loop itself fails, no claimed task goes without an outcome.
                if not self.is_given_up:
                    self.ended += 1  # first: once its outcome is written, a drain may end and read this
                    on_ended(run, result, time.monotonic() - started)
                result = None  # a failure's exception would keep all frames of its run until the next run
            if self.is_given_up:
                self._on_late(self)
                return


def _timed(perform: Callable[[Run], Result], run: Run, timing: Timing) -> Result:
    """Runs a task, and notes what CPU time its thread has spent. Reading that clock is a system call."""
    began = time.thread_time()
    try:
        return perform(run)
    finally:
        if not run.isolated:
            timing.cpu = time.thread_time() - began
