"""A worker: one thread that takes claimed tasks and runs them, each in a context of its own."""

import os
import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING

from fang_core.codec import decode
from fang_core.events import Events
from fang_core.forks import end_if_child
from fang_core.lifecycle import SUCCESS, Result, result_of
from fang_core.logs import SafeLogger
from fang_core.run import CURRENT_RUN, Run
from fang_core.runnable import Runnable

if TYPE_CHECKING:
    from fang_threaded.crew import Crew
    from fang_threaded.shift import Shift

logger = SafeLogger("fang_threaded")


class Worker:
    """Runs tasks until it is handed None. No exception of a run ends it; whatever else does has it replaced."""

    def __init__(self, shift: "Shift", crew: "Crew", number: int) -> None:
        self._shift = shift
        self._crew = crew
        self._kinds = shift.kinds
        self._queue = shift.queue
        self._process = os.getpid()
        self.ended = 0
        """Runs that have ended; only this thread counts them."""
        self.thread = threading.Thread(target=self._main, name=f"fang-worker-{number}", daemon=True)

    def join(self, deadline: float | None = None) -> None:
        """Until it has ended, if it was started; at once where it is itself that calls this."""
        if self.thread.ident is not None and self.thread is not threading.current_thread():
            self.thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _main(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the pool must hear of it
            self._crew.replace(self, error)

    def _loop(self) -> None:
        waiting, feed, ended = self._crew.waiting, self._shift.claimer.feed, self._shift.supply.ended
        events = self._shift.events
        while True:
            feed(waiting.qsize())
            run = waiting.get()
            if run is None:
                return
            run.started = True
            started = time.monotonic()
            result: Result | None = None
            try:
                if events:
                    events.emit(Events.run_started, run.task)
                    started = time.monotonic()
                result = self._run(run)
            finally:
                # Also where this very loop fails: no claimed task goes without an outcome.
                self.ended += 1  # before its outcome can be written, and a drain be over
                ended(run, result, time.monotonic() - started)
                result = None  # a failure's exception keeps all frames of its run, until the next run

    def _run(self, run: Run) -> Result:
        try:
            runnable = decode(self._kinds.classes[run.task.kind], run.task.payload)
            assert isinstance(runnable, Runnable)
            context = copy_context()
            context.run(CURRENT_RUN.set, run)
            context.run(runnable.run, self._queue)
        except BaseException as error:  # noqa: BLE001 - every exception of a run is an outcome
            end_if_child(self._process, error)
            return result_of(error, self._kinds.module_of(run.task.kind))
        finally:
            run.over = True
        end_if_child(self._process)
        return SUCCESS
