"""A pool of worker threads, with the thread that claims for them and the one that writes their outcomes."""

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Final, Self
from uuid import UUID, uuid4

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
from fang_core.demand import Demand
from fang_core.errors import FangError, UsageError
from fang_core.events import Dispatcher, Events
from fang_core.failure import ErrorReport
from fang_core.failurelog import log_failure
from fang_core.holdings import Holdings
from fang_core.lifecycle import NOT_RUN, Failure, Outcome, Result, decide
from fang_core.record import DEFAULT_TASK_TYPE, ClaimedTask
from fang_core.registry import REGISTRY
from fang_core.run import Run
from fang_core.runnable import BaseRunnable
from fang_core.stock import Stock
from fang_core.store import Backend, PoolRecord, Store
from fang_core.ticking import Timetable
from fang_threaded.claimer import Claimer
from fang_threaded.completer import Completer
from fang_threaded.heartbeat import Heartbeat
from fang_threaded.maintenance import Maintenance
from fang_threaded.signals import Signals
from fang_threaded.ticker import Ticker
from fang_threaded.worker import Worker

logger = logging.getLogger("fang_threaded")

UNWINDING: Final = 0.2
"""Seconds that threads have to end which run nothing, where the grace period is over."""

FLUSHING: Final = 1.0
"""Seconds at least to write what has ended, at the end of the grace period."""

LAST_CALL: Final = 1.8
"""Seconds after the grace period at which the heartbeat ends a process that hangs."""


class WorkerPool:
    """Runs tasks of some task types in threads.

    Args:
        queue: a ``Queue``, or a ``MemoryQueue``; opened by the pool where it is closed, and then closed again.
        number_of_workers: threads, and so tasks at once.
        task_type: one or several; with several, the first in line moves by one at every claim.
        retention_mode: what becomes of rows whose life ends.
        sleep_params: how an idle pool polls.
        grace_period: how long ``stop()`` waits for runs.
        keep_finished, keep_failed: the age from which kept rows are pruned; None keeps them.
        listen: whether inserts wake the pool by NOTIFY; False where connections go through a transaction pooler.
        lease: after so long without a sign of life a pool is taken for dead, and its tasks run elsewhere; longer than
            the longest call of C code that holds the GIL.
        max_crashes: how often the process may die under a task before that is failed as crashed.
        events: who is told what happens.
    """

    def __init__(
        self,
        queue: Backend,
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
        events: Sequence[Events] = (),
    ) -> None:
        check_queue(queue, "threaded")
        self.queue = queue
        self.options = PoolOptions(
            number_of_workers=number_of_workers,
            task_types=as_task_types(task_type),
            retention_mode=retention_mode,
            sleep_params=sleep_params or SleepParams(),
            grace_period=grace_period,
            keep_finished=keep_finished,
            keep_failed=keep_failed,
            listen=listen,
            lease=lease,
            max_crashes=max_crashes,
        )
        self.id: UUID | None = None
        """The pool's id while it runs, made anew by every start."""
        self._events = Dispatcher(events)
        self._changing = threading.Lock()
        self._running = False
        self._lingering: threading.Thread | None = None

    # Life -------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Registers the pool and starts its threads; returns when they run.

        Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable`` in one line that says what to do.
        """
        with self._changing:
            if self._running or (self._lingering is not None and self._lingering.is_alive()):
                raise UsageError("this pool is running already, or runs of its last life have not ended")
            self._store: Store = self.queue.store()
            self._prepare()
            for worker in self._workers:
                worker.thread.start()
            self._completer.start()
            self._maintenance.start()
            self._ticker.start()
            self._claimer.start()
            self._running = True
        types = ", ".join(self.options.task_types)
        logger.info("pool %s started, threads: %d, for %s", self.id, len(self._workers), types)
        self._events.emit(Events.pool_started, self.id)

    def stop(self) -> int:
        """Stops gracefully; how many runs had not ended in time. They go on and stay held until they end.

        Claims no more, gives back what was not started, waits for runs up to the grace period, writes what has ended.
        """
        if self._is_stopping_and_called_by_a_run():
            return 0
        with self._changing:
            if not self._running:
                return 0
            deadline = time.monotonic() + self.options.grace_period.total_seconds()
            self._say_stopping()
            self._stop_claiming(deadline)
            left = self._wait_for_workers(deadline)
            self._completer.flush(max(FLUSHING, deadline - time.monotonic()))
            self._maintenance.close(FLUSHING)
            self._ticker.close(FLUSHING)
            self._end_drains()
            self._running = False
            if left:
                logger.warning("pool %s: runs not ended: %d; their tasks stay held until they do", self.id, left)
                self._lingering = threading.Thread(target=self._linger, name="fang-lingering", daemon=True)
                self._lingering.start()
            else:
                self._leave()
        logger.info("pool %s stopped, runs left: %d", self.id, left)
        self._events.emit(Events.pool_stopped, self.id)
        return left

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """Starts, and stops gracefully at SIGTERM or SIGINT; a second signal ends the process at once.

        Signals are handled only where this is called in the main thread, and given back. Where runs have not ended at
        the end of the grace period the process ends with exit code 75.
        """
        signals = Signals(self.begin_last_call)
        with signals:
            self.start()
            try:
                signals.wait()
                self.begin_last_call()  # the signal may have come while the pool started
            finally:
                left = self.stop()
        if left:
            os._exit(EXIT_RUNS_LEFT)  # an ordinary exit would run user code's finalizers under running threads

    def begin_last_call(self) -> None:
        """Bounds the life of the process to the grace period, also where a thread hangs; for signal handlers."""
        if self._running and self._heartbeat is not None:
            grace = self.options.grace_period.total_seconds()
            self._heartbeat.say_stopping(exit_at=time.monotonic() + grace + LAST_CALL)

    def drain(self) -> int:
        """Runs until no due task of the pool's types and kinds is left and its own runs have ended; how many ran.

        Starts the pool, and stops it again, where it was not running.
        """
        if not self._running:
            with self:
                return self._drain(0)  # runs that end before it is asked for count as well
        return self._drain(self._ended_runs())

    def _drain(self, before: int) -> int:
        drained = threading.Event()
        self._drains.append(drained)
        try:
            self._claimer.wake()
            if not self._stopping.is_set():
                drained.wait()
        finally:
            self._drains.remove(drained)
        return self._ended_runs() - before

    # Setting up and leaving -------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Makes everything that one life of the pool needs, registers it, and has its heart beat."""
        try:
            self._make_parts()
            self._store.register(self._record())
            if self._heartbeat is not None:
                self._heartbeat.start()
        except BaseException:
            self._store.close()
            raise

    def _make_parts(self) -> None:
        self.id = uuid4()
        self._registry_version = -1
        self._timetable = Timetable(self.options.task_types, self.queue.rules)
        self._learn_kinds()
        self._demand = Demand(self.options.number_of_workers)
        self._stock = Stock()
        self._waiting: SimpleQueue[Run | None] = SimpleQueue()
        self._claimed = 0
        self._given_back = 0
        self._stopping = threading.Event()
        self._drains: list[threading.Event] = []
        self._heartbeat = self._make_heartbeat()
        self._holdings = Holdings(self.options.retention_mode, self._is_cut_off)
        self._dead_id: UUID | None = None
        self._completer = Completer(self._store, self.id, self._events, self._written, self._holdings.lose)
        self._maintenance = Maintenance(self._store, self.options)
        self._ticker = Ticker(self._store, self._timetable)
        self._claimer = Claimer(self)
        self._workers = [Worker(self, number) for number in range(self.options.number_of_workers)]

    def _make_heartbeat(self) -> Heartbeat | None:
        assert self.id is not None
        heart = self._store.heart(self.options.listen)
        if heart is None:
            return None
        return Heartbeat(
            heart,
            self.id,
            lease=self.options.lease.total_seconds(),
            max_crashes=self.options.max_crashes,
            events=self._events,
            on_declared_dead=self._declared_dead,
        )

    def _is_cut_off(self) -> bool:
        return self._heartbeat is not None and self._heartbeat.is_cut_off()

    def _record(self) -> PoolRecord:
        assert self.id is not None
        kinds = tuple(sorted(self._classes))
        workers = self.options.number_of_workers
        types = self.options.task_types
        return PoolRecord(self.id, "threaded", socket.gethostname(), os.getpid(), types, kinds, workers)

    def _is_stopping_and_called_by_a_run(self) -> bool:
        """Whether the stop that is under way waits for the very run that asks for another."""
        if not self._running or not self._stopping.is_set():
            return False
        return any(worker.thread is threading.current_thread() for worker in self._workers)

    def _say_stopping(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.say_stopping()

    def _stop_claiming(self, deadline: float) -> None:
        self._stopping.set()
        self._claimer.close(max(FLUSHING, deadline - time.monotonic()))
        self._give_back_unstarted()

    def _give_back_unstarted(self) -> None:
        self._give_back_waiting(self._waiting.qsize())
        self._give_up_suspect()

    def _give_back_waiting(self, count: int) -> None:
        """The first in line; workers may be faster, and then it is those behind."""
        with suppress(Empty):
            for _ in range(count):
                run = self._waiting.get_nowait()
                if run is not None:
                    self._give_back(run)
        self._stock.went_back(self._waiting.qsize(), time.monotonic())

    def _give_back(self, run: Run) -> None:
        """It was claimed and not started: nothing is charged."""
        self._given_back += 1
        self._completer.put(self._outcome(run, NOT_RUN))

    def _wait_for_workers(self, deadline: float) -> int:
        """How many had not ended at the deadline."""
        for _ in self._workers:
            self._waiting.put(None)
        others = [worker for worker in self._workers if worker.thread is not threading.current_thread()]
        deadline = max(deadline, time.monotonic() + UNWINDING)
        for worker in others:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        return sum(worker.thread.is_alive() for worker in self._workers)

    def _linger(self) -> None:
        """In a process that lives on: the heart beats, and outcomes are written, until the last run has ended."""
        for worker in self._workers:
            worker.thread.join()
        self._leave()

    def _leave(self) -> None:
        """Nothing is held any more."""
        self._completer.close(FLUSHING)
        try:
            assert self.id is not None
            self._store.reconcile(self.id, self._holdings.known())
            if not self._holdings:
                self._store.unregister(self.id)
        except FangError as error:
            logger.warning("pool %s could not sign off: %s", self.id, error)
        self._store.close()
        if self._heartbeat is not None:
            self._heartbeat.close(FLUSHING)  # last of all, since it keeps the deadline of the process

    # Called by the claimer, on its thread -----------------------------------------------------------------------------

    def _learn_kinds(self) -> bool:
        """Reads the registry again where it has changed; whether it has."""
        if self._registry_version == REGISTRY.version:
            return False
        self._registry_version = REGISTRY.version
        self._classes: Mapping[str, type[BaseRunnable]] = REGISTRY.runnable_kinds("threaded")
        self._timetable.serve(self._classes)
        return True

    def _wanted(self) -> int:
        if self._holdings.has_suspect:
            return 0
        waiting = self._waiting.qsize()
        self._stock.measure(waiting, time.monotonic())
        ended = self._ended_runs()
        running = self._claimed - self._given_back - ended - waiting
        return self._demand.wanted(
            free=max(0, self.options.number_of_workers - running),
            waiting=waiting,
            unwritten=ended + self._given_back - self._completer.written,
            pace=self._stock.pace,
        )

    def _low_stock(self) -> int:
        """So few waiting tasks are few enough to claim again."""
        return self._demand.ahead(self._stock.pace) // 2

    def _patience(self) -> float:
        """Seconds until a waiting task has waited too long; infinite where none waits."""
        return self._stock.patience(self._waiting.qsize(), time.monotonic())

    def _give_back_overdue(self) -> None:
        """Gives back what has waited for too long: another process may have a free worker."""
        overdue = self._stock.overdue(self._waiting.qsize(), time.monotonic())
        if overdue and not self._holdings.suspect_began:
            logger.debug("pool %s gives back %d tasks that waited too long for a worker", self.id, overdue)
            self._give_back_waiting(overdue)

    def _ended_runs(self) -> int:
        return sum(worker.ended for worker in self._workers)

    def _drains_at_their_end(self) -> tuple[threading.Event, ...]:
        """Those that are over when nothing is claimed now."""
        return () if self._holdings else tuple(self._drains)

    def _end_drains(self) -> None:
        for drained in tuple(self._drains):
            drained.set()

    def _begin_suspect(self) -> bool:
        """Has the suspect run, once it is alone; whether it now does."""
        suspect = self._holdings.begin_suspect()
        if suspect is not None:
            self._put_waiting([suspect])
        return suspect is not None

    def _give_up_suspect(self) -> None:
        """Gives the suspect back, where it has not begun."""
        suspect = self._holdings.give_up_suspect()
        if suspect is not None:
            self._give_back(suspect)

    def _be_reborn(self) -> None:
        """Others took the pool for dead: its runs are lost, and it goes on under another id."""
        former, successor = self.id, uuid4()
        assert former is not None
        self._holdings.lose_all()
        self._give_back_unstarted()
        # A claim that was committed while others took the pool's tasks back was not among them.
        self._store.reconcile(former, ())
        self._store.register(self._record()._replace(id=successor))
        self.id = self._completer.pool_id = successor  # the fence refuses what was not written, and it is told as lost
        if self._heartbeat is not None:
            self._heartbeat.pool_id = successor
        logger.warning("pool %s was taken for dead: its runs are lost, it goes on as %s", former, successor)
        self._events.emit(Events.pool_declared_dead, former, successor)

    def _hand_out(self, tasks: list[ClaimedTask]) -> None:
        self._claimed += len(tasks)
        assert self.id is not None
        taken = self._holdings.take(tasks, self.id)
        for run in taken.lost:
            logger.warning("task %s was claimed anew: attempt %d is lost", run.task.id, run.task.attempt)
        for run in taken.unwanted:
            self._give_back(run)
        if self._stopping.is_set():
            for run in taken.ready:  # too late: nobody would run them
                self._give_back(run)
            self._give_up_suspect()
            return
        self._put_waiting(taken.ready)
        self._events.emit(Events.tasks_claimed, self.id, len(tasks))

    def _put_waiting(self, runs: list[Run]) -> None:
        self._stock.hand_out(len(runs), self._waiting.qsize(), time.monotonic())
        for run in runs:
            self._waiting.put(run)

    # Called by workers, each on its thread, and by the completer on its own -------------------------------------------

    def _feed(self) -> None:
        self._claimer.feed(self._waiting.qsize())

    def _starting(self, task: ClaimedTask) -> None:
        if self._events:
            self._events.emit(Events.run_started, task)

    def _ended(self, run: Run, result: Result | None, seconds: float) -> None:
        if result is None:
            result = Failure(ErrorReport("FangError: the worker failed beside the run", None))
        outcome = self._outcome(run, result)
        if isinstance(result, Failure):
            log_failure(logger, run.task, result, outcome)
        self._completer.put(outcome)
        self._demand.observe(seconds)
        if self._events:
            self._events.emit(Events.run_ended, run.task, result, seconds)

    def _outcome(self, run: Run, result: Result) -> Outcome:
        backoff = self._classes[run.task.kind].__fang_options__.backoff
        outcome = decide(run.task, result, retention=self.options.retention_mode, backoff=backoff)
        return outcome._replace(completed_by_run=True) if run.completed else outcome

    def _replace(self, worker: Worker, error: BaseException) -> None:
        """A worker's thread ended on its own: another takes its place."""
        logger.error("a worker could not go on and is replaced", exc_info=error)
        place = self._workers.index(worker)
        successor = Worker(self, place)
        successor.ended = worker.ended
        self._workers[place] = successor
        successor.thread.start()
        self._events.emit(Events.worker_replaced, self.id, type(error).__name__)

    def _declared_dead(self, pool_id: UUID) -> None:
        """On the heartbeat's thread: others have taken this pool for dead, under this id and no later one."""
        self._dead_id = pool_id
        self._claimer.wake()

    def _written(self, outcomes: list[Outcome]) -> None:
        """The completer dealt with a batch."""
        self._holdings.wrote(outcomes)
        if not self._holdings and (self._drains or self._claimer.abstains):
            self._claimer.wake()
        else:
            self._claimer.wake_if_hungry()
