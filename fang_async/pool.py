"""A pool of async workers, with the asyncio task that claims for them and the one that writes their outcomes."""

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, Self
from uuid import UUID, uuid4

from fang_async.completer import Completer, wait_for
from fang_async.maintenance import Maintenance
from fang_async.signals import Signals
from fang_async.worker import Worker
from fang_core.config import PoolOptions, RetentionMode, SleepParams, as_task_types
from fang_core.demand import Demand, Poll, Retry
from fang_core.errors import FangError, UsageError
from fang_core.events import Dispatcher, Events
from fang_core.lifecycle import NOT_RUN, Outcome, Result, decide
from fang_core.record import DEFAULT_TASK_TYPE, ClaimedTask
from fang_core.registry import REGISTRY
from fang_core.runnable import BaseRunnable
from fang_core.store import AsyncBackend, AsyncStore, Claim, ClaimRequest, PoolRecord

logger = logging.getLogger("fang_async")

EXIT_RUNS_LEFT: Final = 75
"""The process' exit code where runs had not ended at the end of the grace period (sysexits' EX_TEMPFAIL)."""

SLICE: Final = 0.002
"""Seconds that all workers of a pool together may run on before the loop serves others. One slice for each worker
instead made a ticker 300 ms late with 50 workers."""

UNWINDING: Final = 1.0
"""Seconds that cancelled runs have to end."""


class AsyncWorkerPool:
    """Runs tasks of some task types as asyncio tasks. It can be made where no loop runs.

    Args:
        queue: an ``AsyncQueue``, or an ``AsyncMemoryQueue``; opened by the pool where it is closed, and closed again.
        number_of_workers: tasks at once.
        task_type: one or several; with several, the first in line moves by one at every claim.
        retention_mode: what becomes of rows whose life ends.
        sleep_params: how an idle pool polls.
        grace_period: how long ``stop()`` waits for runs, before it cancels them.
        keep_finished, keep_failed: the age from which kept rows are pruned; None keeps them.
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
        events: Sequence[Events] = (),
    ) -> None:
        self.queue = queue
        self.options = PoolOptions(
            number_of_workers=number_of_workers,
            task_types=as_task_types(task_type),
            retention_mode=retention_mode,
            sleep_params=sleep_params or SleepParams(),
            grace_period=grace_period,
            keep_finished=keep_finished,
            keep_failed=keep_failed,
        )
        self.id: UUID | None = None
        """The pool's id while it runs, made anew by every start."""
        self._events = Dispatcher(events)
        self._running = False

    # Life -------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Registers the pool and starts its workers; returns when they run.

        Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable`` in one line that says what to do.
        """
        if self._running:
            raise UsageError("this pool is running already")
        self._running = True
        self._opened_queue = not self.queue.is_open
        try:
            await self._prepare()
            await self._store.register(self._record())
        except BaseException:
            self._running = False
            if self._opened_queue:
                await self.queue.close()
            raise
        for number in range(self.options.number_of_workers):
            self._hire(number)
        self._completer.start()
        self._maintenance.start()
        self._claimer = asyncio.create_task(self._claim_loop(), name="fang-claimer")
        logger.info("pool %s started: %d workers for %s", self.id, len(self._workers), ", ".join(self._types))
        self._events.emit(Events.pool_started, self.id)

    async def stop(self) -> int:
        """Stops gracefully; how many runs had not ended in time. They go on, and their rows stay held.

        Claims no more, gives back what was not started, waits for runs up to the grace period, then cancels them and
        gives them back, and writes what has ended.
        """
        if not self._running or self._stopping.is_set():
            return 0
        deadline = time.monotonic() + self.options.grace_period.total_seconds()
        await self._stop_claiming(deadline)
        left = await self._wait_for_workers(deadline)
        await self._completer.close(max(2.0, deadline - time.monotonic()))
        await self._maintenance.close(2.0)
        await self._leave(left)
        self._running = False
        logger.info("pool %s stopped, %d runs left", self.id, left)
        self._events.emit(Events.pool_stopped, self.id)
        return left

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run(self) -> None:
        """Starts, and stops gracefully at SIGTERM or SIGINT; a second signal ends the process at once.

        Signals are handled only where the loop runs in the main thread, and given back. Where runs have not ended at
        the end of the grace period the process ends with exit code 75.
        """
        signals = Signals()
        with signals:
            await self.start()
            try:
                await signals.wait()
            finally:
                left = await self.stop()
        if left:
            os._exit(EXIT_RUNS_LEFT)  # an ordinary exit would wait for the runs that swallowed their cancellation

    async def drain(self) -> int:
        """Runs until no due task of the pool's types and kinds is left and its own runs have ended; how many ran.

        Starts the pool, and stops it again, where it was not running.
        """
        if not self._running:
            async with self:
                return await self._drain(0)  # runs that end before it is asked for count as well
        return await self._drain(self._ended_runs)

    async def _drain(self, before: int) -> int:
        self._drained.clear()
        self._draining = True
        self._wake.set()
        await self._drained.wait()
        self._draining = False
        return self._ended_runs - before

    # Setting up and leaving -------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        await self.queue.open()
        self.id = uuid4()
        self._types = self.options.task_types
        self._store: AsyncStore = self.queue.store()
        self._learn_kinds()
        self._demand = Demand(self.options.number_of_workers)
        self._waiting: deque[ClaimedTask] = deque()
        self._resting: deque[asyncio.Future[None]] = deque()
        self._claimed = 0
        self._ended_runs = 0
        self._hungry = asyncio.Event()
        self._claimer_waits = False
        self._low = 0
        self._slice_end = 0.0
        self._slice_renewing = False
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._draining = False
        self._drained: asyncio.Event = asyncio.Event()
        self._completer: Completer = Completer(self._store, self.id, self._events, self._written)
        self._maintenance: Maintenance = Maintenance(self._store, self.options)
        self._workers: dict[int, Worker] = {}

    def _learn_kinds(self) -> None:
        self._registry_version = REGISTRY.version
        self._classes: Mapping[str, type[BaseRunnable]] = REGISTRY.runnable_kinds("async")

    def _record(self) -> PoolRecord:
        assert self.id is not None
        kinds = tuple(sorted(self._classes))
        workers = self.options.number_of_workers
        return PoolRecord(self.id, "async", socket.gethostname(), os.getpid(), self._types, kinds, workers)

    async def _stop_claiming(self, deadline: float) -> None:
        self._stopping.set()
        self._wake.set()
        self._hungry.set()
        await asyncio.wait([self._claimer], timeout=max(0.0, deadline - time.monotonic()))
        while self._waiting:
            self._completer.put(self._outcome(self._waiting.popleft(), NOT_RUN))

    async def _wait_for_workers(self, deadline: float) -> int:
        """How many had not ended, neither by themselves nor by cancellation."""
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

    async def _leave(self, left: int) -> None:
        self._drained.set()
        if left:
            logger.warning("pool %s: %d runs have not ended; their tasks stay held", self.id, left)
            return
        try:
            assert self.id is not None
            await self._store.unregister(self.id)
        except FangError as error:
            logger.warning("pool %s could not sign off: %s", self.id, error)
        await self._store.close()
        if self._opened_queue:
            await self.queue.close()

    # Claiming: in the claimer's asyncio task --------------------------------------------------------------------------

    async def _claim_loop(self) -> None:
        poll, retry = Poll(self.options.sleep_params), Retry()
        while not self._stopping.is_set():
            try:
                wanted = self._wanted()
                if not wanted:
                    await self._wait_for_hunger()
                    continue
                nothing_held = self._held() == 0
                claim = await self._claim(wanted)
                retry.succeeded()
            except Exception as error:  # noqa: BLE001 - a claimer outlives whatever its backend does
                self._claim_failed(error)
                await self._sleep(retry.sleep())
                continue
            if claim.tasks:
                poll.found()
                self._hand_out(claim.tasks)
            elif self._draining and nothing_held:
                self._drained.set()
                await self._sleep(poll.sleep())
            else:
                await self._sleep(poll.sleep())

    async def _claim(self, wanted: int) -> Claim:
        if self._registry_version != REGISTRY.version:
            self._learn_kinds()
        assert self.id is not None
        claim = await self._store.claim(ClaimRequest(self.id, self._types, tuple(self._classes), wanted))
        self._types = (*self._types[1:], self._types[0])  # so that no task type starves
        if not claim.registered:
            logger.warning("pool %s was not registered any more; it registers again", self.id)
            await self._store.register(self._record())
        return claim

    def _hand_out(self, tasks: list[ClaimedTask]) -> None:
        self._claimed += len(tasks)
        self._waiting.extend(tasks)
        # One is enough: it drains what never suspends, and wakes another as soon as a run suspends.
        self._wake_one()
        self._events.emit(Events.tasks_claimed, self.id, len(tasks))

    def _wanted(self) -> int:
        waiting = len(self._waiting)
        running = self._claimed - self._ended_runs - waiting
        return self._demand.wanted(
            free=max(0, self.options.number_of_workers - running),
            waiting=waiting,
            unwritten=self._ended_runs - self._completer.written,
        )

    async def _wait_for_hunger(self) -> None:
        """Until a worker finds little left; see ``_feed``."""
        self._hungry.clear()
        self._low = self._demand.ahead // 2
        self._claimer_waits = True
        await wait_for(self._hungry, 1.0)
        self._claimer_waits = False

    def _claim_failed(self, error: Exception) -> None:
        if isinstance(error, FangError):
            logger.warning("pool %s could not claim and tries again: %s", self.id, error)
        else:
            logger.exception("pool %s could not claim and tries again", self.id, exc_info=error)
        self._events.emit(Events.backend_failed, self.id, error)

    async def _sleep(self, seconds: float) -> None:
        await wait_for(self._wake, seconds)
        if not self._stopping.is_set():
            self._wake.clear()

    def _held(self) -> int:
        return self._claimed - self._completer.written

    # Called by workers and by the completer ---------------------------------------------------------------------------

    def _feed(self) -> None:
        if self._claimer_waits and len(self._waiting) <= self._low:
            self._hungry.set()

    def _starting(self, task: ClaimedTask) -> None:
        if self._events:
            self._events.emit(Events.run_started, task)

    def _ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        self._ended_runs += 1
        self._completer.put(self._outcome(task, result))
        self._demand.observe(seconds)
        if self._events:
            self._events.emit(Events.run_ended, task, result, seconds)

    def _outcome(self, task: ClaimedTask, result: Result) -> Outcome:
        backoff = self._classes[task.kind].__fang_options__.backoff
        return decide(task, result, retention=self.options.retention_mode, backoff=backoff)

    async def _rest(self) -> None:
        """Until there is something to run."""
        woken = asyncio.get_running_loop().create_future()
        self._resting.append(woken)
        await woken

    def _wake_one(self) -> None:
        while self._waiting and self._resting:
            woken = self._resting.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._resting:
            woken = self._resting.popleft()
            if not woken.done():
                woken.set_result(None)

    async def _breathe(self) -> None:
        """Lets the loop serve others; the first to come here renews the slice for all."""
        if not self._slice_renewing:
            self._slice_renewing = True
            asyncio.get_running_loop().call_soon(self._renew_slice)
        await asyncio.sleep(0)

    def _renew_slice(self) -> None:
        self._slice_end = time.monotonic() + SLICE
        self._slice_renewing = False

    def _hire(self, number: int) -> None:
        worker = Worker(self, number)
        self._workers[number] = worker
        worker.task.add_done_callback(lambda task: self._replace(number, task))

    def _replace(self, number: int, task: "asyncio.Task[None]") -> None:
        """A worker's asyncio task ended: where the pool goes on, another takes its place."""
        error = None if task.cancelled() else task.exception()
        if self._stopping.is_set() or self._claimer.done() or self._claimer.cancelling():
            return  # the pool stops, or the whole loop is being torn down
        reason = "a cancellation left behind" if error is None else type(error).__name__
        logger.warning("a worker could not go on (%s) and is replaced", reason, exc_info=error)
        self._hire(number)
        self._events.emit(Events.worker_replaced, self.id, reason)

    def _written(self) -> None:
        """The completer wrote a batch."""
        if self._draining and self._held() == 0:
            self._wake.set()
        if self._claimer_waits:
            self._hungry.set()
