"""Manages the worker threads of one lifetime of a pool, and the runs that wait for one of them."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import ClassVar, Final, NamedTuple

from fang_core.logs import SafeLogger
from fang_core.pool.workers import BaseWorkers
from fang_core.runs.interrupt import Interrupt
from fang_core.runs.run import Run
from fang_threaded.interrupting import Interrupter
from fang_threaded.worker import Worker

UNWINDING: Final = 0.2
"""Seconds that idle threads have to end once the grace period is over."""

CHILDREN_ENDING: Final = 0.5
"""Seconds that threads have to notice that their child processes were killed."""


class WorkerSet(NamedTuple):
    """Holds the workers by their numbers, and how many runs have ended in workers that the pool has let go.

    It is replaced as a whole, so that both can be read at once without a lock.
    """

    workers: dict[int, Worker]
    ended: int


class ThreadWorkers(BaseWorkers):
    """Implements ``Workers`` with threads. Replaces those that cannot go on."""

    _logger: ClassVar = SafeLogger("fang_threaded")

    def _set_up(self) -> None:
        self._worker_set = WorkerSet({}, 0)
        self._waiting: SimpleQueue[Run | None] = SimpleQueue()  # a worker that takes a None looks if it must end
        self._wakes = 0  # how many of them are None, while the pool goes on
        self._interrupter = Interrupter(self._all, self._options.stuck_after.total_seconds(), self._replace_stuck)

    def _by_number(self) -> Mapping[int, Worker]:
        return self._worker_set.workers

    def _all(self) -> tuple[Worker, ...]:
        """Returns the workers, and those whose runs are stuck."""
        return (*self._worker_set.workers.values(), *self._stuck)

    def _add(self, numbers: Sequence[int]) -> None:
        added = {number: self._make(number) for number in numbers}
        self._worker_set = WorkerSet(
            {**self._worker_set.workers, **added}, self._worker_set.ended
        )  # first: one may fail at once
        try:
            for worker in added.values():
                worker.thread.start()
        except RuntimeError:
            unstarted = {number for number, worker in added.items() if worker.thread.ident is None}
            there = {number: worker for number, worker in self._worker_set.workers.items() if number not in unstarted}
            self._worker_set = WorkerSet(there, self._worker_set.ended)
            raise

    def _wake_idle(self, count: int) -> None:
        self._wakes += count
        for _ in range(count):
            self._waiting.put(None)

    @property
    def backlog(self) -> int:
        """See ``RunQueue.backlog``."""
        return max(0, self._waiting.qsize() - self._wakes)

    @property
    def ended_runs(self) -> int:
        """See ``RunQueue.ended_runs``."""
        workers, before = self._worker_set
        # A list takes a third less than a generator.
        return before + sum([worker.ended for worker in workers.values()])

    def put(self, runs: list[Run]) -> None:
        """See ``RunQueue.put``."""
        for run in runs:
            self._waiting.put(run)

    def take_back(self, count: int) -> Iterator[Run]:
        """See ``RunQueue.take_back``; if workers are faster, it takes later runs."""
        wakes = 0
        try:
            while count > 0:
                run = self._waiting.get_nowait()
                if run is None:
                    wakes += 1
                else:
                    count -= 1
                    yield run
        except Empty:
            pass
        finally:
            for _ in range(wakes):
                self._waiting.put(None)

    def interrupt(self, run: Run, why: Interrupt, reason: str = "") -> bool:
        """See ``Workers.interrupt``."""
        may_be = why is not Interrupt.SHUTDOWN or run.child is not None
        return may_be and self._interrupter.interrupt(run, why, reason)

    def interrupt_all(self, why: Interrupt) -> None:
        """See ``Workers.interrupt_all``."""
        for worker in self._worker_set.workers.values():
            if (run := worker.current) is not None:
                self.interrupt(run, why)

    def look(self) -> None:
        """See ``Workers.look``."""
        self._interrupter.try_again()

    def is_caller(self) -> bool:
        """See ``Workers.is_caller``."""
        return any(worker.thread is threading.current_thread() for worker in self._all())

    async def stop(self, deadline: float) -> int:
        """See ``Workers.stop``."""
        with self._changing:
            self.is_stopping = True
            self.surplus = len(self._worker_set.workers)
            self._wake_idle(self.surplus)
        deadline = max(deadline, time.monotonic() + UNWINDING)
        self._join_all(deadline)
        if self._interrupt_children():
            self._join_all(time.monotonic() + CHILDREN_ENDING)
        left = self._going_on() + self.stuck
        if not left:
            self._interrupter.close()
        return left

    def _going_on(self) -> int:
        """Counts the workers whose run goes on. An idle one may end late, on a busy machine, and holds nothing."""
        workers = [worker for worker in self._worker_set.workers.values() if worker.thread.is_alive()]
        busy = sum(worker.current is not None for worker in workers)
        # A worker may just have taken a run, or have one whose outcome it is about to pass on.
        return min(len(workers), busy + self._held())

    def _join_all(self, deadline: float) -> None:
        for number in tuple(self._worker_set.workers):
            worker = self._worker_set.workers.get(number)  # the present one: it may have been replaced meanwhile
            if worker is not None:
                worker.join(deadline)

    def _interrupt_children(self) -> bool:
        """Kills the children of runs that go on; returns whether there are any."""
        runs = [worker.current for worker in self._worker_set.workers.values()]
        interrupted = [run for run in runs if run is not None and self.interrupt(run, Interrupt.SHUTDOWN)]
        return bool(interrupted)

    async def join(self) -> None:
        """See ``Workers.join``."""
        for worker in self._all():
            worker.join()
        self._interrupter.close()

    def _make(self, number: int) -> Worker:
        return Worker(
            self._duties,
            number,
            waiting=self._waiting,
            workers=self,
            watch=self._interrupter.watch,
            on_failed=self._replace,
            on_late=self.forget_stuck,
        )

    def _replace(self, worker: Worker, error: BaseException) -> None:
        """Replaces a worker whose thread ended on its own."""
        if self._start_successor(worker, worker.ended, error):
            self._tell_of_replacement(type(error).__name__, error)

    def _replace_stuck(self, worker: Worker, run: Run) -> None:
        """Replaces a worker whose run does not end; the run's outcome is written now."""
        self._start_successor(worker, worker.ended + 1, None)
        self._stuck[worker] = run
        # On a thread of its own: the backoff of the task and hooks of the application may hang, too.
        giving_up = threading.Thread(target=self._let_go_of, args=(worker, run), name="fang-giving-up", daemon=True)
        try:
            giving_up.start()
        except RuntimeError:  # the limit of threads is reached
            self._let_go_of(worker, run)

    def _let_go_of(self, worker: Worker, run: Run) -> None:
        self._give_up(worker, run)
        if worker.current is None:
            self.forget_stuck(worker)  # it has ended meanwhile, and was not among the stuck ones then

    def _start_successor(self, worker: Worker, ended: int, error: BaseException | None) -> bool:
        """Has another worker take the place of one, and go on with its count; returns whether it could be started."""
        with self._changing:
            workers, before = self._worker_set
            successor = self._make(worker.number)
            successor.ended = ended
            # Before it starts: it may fail at once, and be replaced in turn.
            self._worker_set = WorkerSet({**workers, worker.number: successor}, before)
        try:
            successor.thread.start()
        except RuntimeError as refused:  # the limit of threads is reached
            self._logger.error("a worker could not go on, nor be replaced yet (%s)", refused, exc_info=error)
            self._do_without(successor)
            return False
        return True

    def _do_without(self, unstarted: Worker) -> None:
        """Counts a worker no longer that could not be started."""
        with self._changing:
            self._forget(unstarted)
            if self.surplus:
                self.surplus -= 1
            else:
                self.size -= 1
                self.missing += 1
        self._on_fewer()

    def _forget(self, worker: Worker) -> None:
        workers, before = self._worker_set
        others = {number: other for number, other in workers.items() if other is not worker}
        self._worker_set = WorkerSet(others, before + worker.ended)

    # Called by workers ------------------------------------------------------------------------------------------------

    def woke(self) -> None:
        """Is called by a worker that has taken a None from the queue."""
        with self._changing:
            self._wakes = max(0, self._wakes - 1)

    def lets_go(self, worker: Worker) -> bool:
        """Returns whether the worker must end now: the pool stops, or has become smaller and forgets this worker."""
        with self._changing:
            if self.is_stopping or not self.surplus:
                return self.is_stopping
            self.surplus -= 1
            self._forget(worker)
            return True
