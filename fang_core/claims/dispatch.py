"""Hands claimed tasks to the workers of a pool, or gives them back, and decides how many more the pool wants.

Each life of a pool has one, in both modes. It is pure: the time is an argument.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import suppress
from threading import Lock
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from fang_core.backends.claims import Serves
from fang_core.claims.expiry import EXPIRED, ClaimTime
from fang_core.claims.inflight import InFlight
from fang_core.claims.prefetch import PATIENCE, Demand, PrefetchBuffer
from fang_core.config import PoolOptions
from fang_core.events import EventBus, Events
from fang_core.failure import ErrorReport
from fang_core.failurelog import about, log_cancelled, log_crash, log_expired, log_failure
from fang_core.lifecycle import (
    NOT_RUN,
    SUCCESS,
    Cancelled,
    Crashed,
    Failure,
    NotRun,
    Outcome,
    Result,
    Snoozed,
    Success,
    decide,
    decide_anyhow,
    succeeded,
)
from fang_core.logs import SafeLogger
from fang_core.monitoring.tally import LONG, Tally
from fang_core.record import ClaimedTask, TaskState
from fang_core.runs.run import Run
from fang_core.tasks.registry import Kinds


class RunQueue(Protocol):
    """Holds the runs that wait for a worker, first in first out."""

    @property
    def backlog(self) -> int:
        """The number of runs that wait."""

    @property
    def ended_runs(self) -> int:
        """The number of runs that have ended so far."""

    def put(self, runs: list[Run]) -> None:
        """Adds runs at the end of the line."""

    def take_back(self, count: int) -> Iterator[Run]:
        """Removes and yields the first ``count`` runs in line; fewer if workers take some of them meanwhile."""


class Overdue(NamedTuple):
    """Describes the tasks that have waited too long for a worker of the pool.

    Attributes:
        tasks: the task types and kinds of the waiting tasks, to ask whether another pool would take one; empty if there
            is nothing to ask.
        goes_anyhow: whether the overdue tasks go back without asking, since all workers have been busy for long.
    """

    tasks: Set[Serves]
    goes_anyhow: bool = False


NOTHING_OVERDUE: Final = Overdue(frozenset())


class Outcomes(Protocol):
    """Takes outcomes to be written."""

    written: int
    """The number of outcomes that are done."""

    def put(self, outcome: Outcome) -> None:
        """Takes an outcome, to write it later."""


class Dispatch:
    """Connects claimer and workers: hands out claimed tasks, and passes on an outcome for each, run or not.

    ``now`` is in seconds of one monotonic clock. The claimer calls all methods except ``ended``, which workers call;
    a stopping pool calls ``give_back_unstarted`` too, once the claimer has ended, or does not end in time.

    Args:
        is_stopping: returns whether no worker will take a task that is handed out now.
        logger: the mode's logger.
        tally: counts what becomes of the tasks for the pool's history; None if it has none.
    """

    def __init__(
        self,
        options: PoolOptions,
        kinds: Kinds,
        in_flight: InFlight,
        run_queue: RunQueue,
        outcomes: Outcomes,
        *,
        events: EventBus,
        is_stopping: Callable[[], bool],
        logger: SafeLogger,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally
        self._options = options
        self._kinds = kinds
        self._in_flight = in_flight
        self._run_queue = run_queue
        self._outcomes = outcomes
        self._events = events
        self._is_stopping = is_stopping
        self._logger = logger
        self._workers = options.number_of_workers
        self._demand = Demand(self._workers)
        self._buffer = PrefetchBuffer()
        self.claimed = 0
        """The number of tasks that were claimed."""
        self._rests_until = float("-inf")
        self._ended_before_rest = 0
        self.given_back = 0
        """The number of claimed tasks that no worker took: they were given back, had expired, or were cancelled."""
        self.unrun = 0
        """The number of ended runs that did not begin: a worker took them, and they must not run any more."""
        self._counting = Lock()

    def resize(self, workers: int) -> None:
        """Notes that the pool has another number of workers now; any thread may call this."""
        self._workers = workers
        self._demand.resize(workers)
        self._in_flight.suspects.workers = workers

    def wanted(self, now: float, ending: int = 0) -> int:
        """Returns how many tasks to claim now, if ``ending`` of those that the pool holds end before the answer."""
        if self._in_flight.has_lone_suspect:
            return 0
        waiting, ended = self._run_queue.backlog, self._run_queue.ended_runs
        self._buffer.measure(waiting, now)
        if now < self._rests_until and ended == self._ended_before_rest:
            return 0
        free = self._free(waiting, ended)
        if ending and not self._in_flight.suspects:
            begin = min(ending, waiting)
            waiting, free = waiting - begin, min(self._workers, free + ending - begin)
        wanted = self._demand.wanted(
            free=free,
            waiting=waiting,
            unwritten=self._unwritten(ended),
            pace=self._buffer.pace,
            most=self._buffer.most,
        )
        if self._in_flight.suspects:
            wanted = min(wanted, max(0, free - waiting))  # none ahead: if a suspect kills the pool, all are charged
        return wanted

    def idle_workers(self) -> int:
        """Returns how many workers are free and have no task that waits for them."""
        waiting = self._run_queue.backlog
        return self._free(waiting, self._run_queue.ended_runs) - waiting

    def unwritten(self) -> int:
        """Returns how many outcomes are not written yet."""
        return self._unwritten(self._run_queue.ended_runs)

    def _unwritten(self, ended: int) -> int:
        return ended + self.given_back - self._outcomes.written

    def run_seconds(self) -> float:
        """Returns how long runs take at present; a long one counts at once."""
        return self._demand.mean

    def low_mark(self) -> int:
        """Returns how few tasks must wait for the next claim."""
        free = self._free(self._run_queue.backlog, self._run_queue.ended_runs)
        return self._demand.low(free=free, pace=self._buffer.pace, most=self._buffer.most)

    def patience(self, now: float) -> float:
        """Returns the seconds until a task may be overdue, or the pool may claim again; infinite without either."""
        patience = self._buffer.patience(self._run_queue.backlog, now)
        return min(patience, self._rests_until - now) if now < self._rests_until else patience

    def overdue(self, now: float) -> Overdue:
        """Returns the tasks that have waited too long, if it is time to ask another pool, or they go back anyhow."""
        waiting, ended = self._run_queue.backlog, self._run_queue.ended_runs
        self._buffer.measure(waiting, now)
        if self._in_flight.lone_suspect_began or not self._buffer.asks(waiting, now):
            return NOTHING_OVERDUE
        is_stuck = self._buffer.is_stuck and not self._free(waiting, ended)
        return Overdue(self._in_flight.waiting(), is_stuck)

    def hand_out(
        self, tasks: list[ClaimedTask], pool_id: UUID, claimed: ClaimTime, now: float, *, may_wait: bool = True
    ) -> bool:
        """Hands tasks that were claimed under this id to the workers, except those that expired or were cancelled.

        Unless they ``may_wait``, those for which no worker is idle go back.

        Returns whether some of them go back, since they must not be tried with suspects that the pool holds.
        """
        most = len(tasks) if may_wait else max(0, self.idle_workers())
        self.claimed += len(tasks)
        taken = self._in_flight.take(tasks, pool_id, claimed)
        for run in (*taken.expired, *taken.cancelled):
            self._end_unrun([run], _why_unrun(run))
            self._tell_of_unrun(run)
        self._give_back(taken.unwanted)
        if self._is_stopping():
            self._give_back(taken.ready)  # too late: no worker would run them
            self.give_up_suspects()
        else:
            self._give_back(taken.ready[most:])
            self._put(taken.ready[:most], now)
        for run in taken.lost:
            self._logger.warning(
                "task %s was claimed again while it ran: that run is lost", run.task.id, extra=about(run.task)
            )
        return bool(taken.unwanted)

    def begin_suspects(self, now: float) -> bool:
        """Hands the suspects that wait to the workers if they may begin; returns whether it did."""
        suspects = self._in_flight.begin_suspects()
        if suspects:
            self._put(suspects, now)
        return bool(suspects)

    def give_up_suspects(self) -> None:
        """Gives back the suspects that have not begun."""
        self._give_back(self._in_flight.give_up_suspects())

    def give_back_overdue(self, now: float) -> int:
        """Gives back tasks that have waited too long; returns how many.

        The pool claims no more until one of its runs has ended, or other pools have had the time to take the tasks.
        """
        overdue = self._buffer.overdue(self._run_queue.backlog, now)
        if not overdue or self._in_flight.lone_suspect_began:
            return 0
        before = self.given_back
        self._give_back_waiting(overdue, now)
        self._rests_until, self._ended_before_rest = now + PATIENCE, self._run_queue.ended_runs
        return self.given_back - before

    def give_back_unstarted(self, now: float) -> None:
        """Gives back all waiting tasks: the pool stops, or rejoins under another id."""
        self._give_back_waiting(self._run_queue.backlog, now)
        self.give_up_suspects()

    def ended(self, run: Run, result: Result | None, seconds: float) -> None:
        """Passes on the outcome of a run that has ended, or of one that did not begin, since it must not any more.

        The result is None if the worker itself failed.
        """
        if result is None:
            result = Failure(ErrorReport("FangError: the worker failed outside of the run", None))
        if result is EXPIRED:
            run.over = True
            with self._counting:
                self.unrun += 1  # first: once its outcome is written, a drain may end and read this
            if self._tally is not None:
                self._tally.unrun(run.task, cancelled=True)
            self._outcomes.put(self._outcome(run, _why_unrun(run)))
            self._tell_of_unrun(run)
            return
        outcome = self._outcome(run, result)
        # Before the outcome is on its way, and its run no longer held: what is not counted counts as a success then.
        if self._tally is not None and (result is not SUCCESS or run.timing is not None or seconds >= LONG):
            self._count(self._tally, run, result, outcome, seconds)
        self._outcomes.put(outcome)
        # From here on anything may fail, logging too: the outcome is on its way.
        self._demand.observe(seconds)
        if self._events.listeners:
            self._events.emit(Events.run_ended, run.task, result, seconds)
        if result is SUCCESS:
            return
        if isinstance(result, Failure):
            log_failure(
                self._logger,
                run.task,
                result,
                outcome,
                seconds=seconds,
                with_traceback=self._options.log_tracebacks,
            )
        elif isinstance(result, Crashed):
            log_crash(self._logger, run.task, result, outcome, seconds=seconds)

    def _free(self, waiting: int, ended: int) -> int:
        """Returns how many workers have no run."""
        running = self.claimed - self.given_back - ended - waiting
        return max(0, self._workers - running)

    def _put(self, runs: list[Run], now: float) -> None:
        self._buffer.hand_out(len(runs), self._run_queue.backlog, now)
        self._run_queue.put(runs)

    def _give_back_waiting(self, count: int, now: float) -> None:
        before = self.given_back
        self._give_back(self._run_queue.take_back(count))
        self._buffer.went_back(self.given_back - before, self._run_queue.backlog, now)

    def _give_back(self, runs: Iterable[Run]) -> None:
        """Gives back runs that were claimed and not started; nothing is charged."""
        self._end_unrun(runs, NOT_RUN)

    def _end_unrun(self, runs: Iterable[Run], result: Result) -> None:
        """Ends runs that no worker has taken."""
        for run in runs:
            run.over = True
            self.given_back += 1
            if self._tally is not None:
                self._tally.unrun(run.task, cancelled=isinstance(result, Cancelled))
            self._outcomes.put(self._outcome(run, result))

    def _count(self, tally: Tally, run: Run, result: Result, outcome: Outcome, seconds: float) -> None:
        """Counts a run for the history: how long it took, if that is wanted, and what it came to, unless it succeeded.

        A run that succeeded is counted by not being counted here.
        """
        if run.timing is not None or seconds >= LONG:
            tally.timed(run, seconds)
        match result:
            case Success():
                pass
            case Failure() | Crashed():
                count = tally.retried if outcome.state is TaskState.RETRIED else tally.failed
                count(run.task)
            case Cancelled():
                tally.cancelled(run.task)
            case Snoozed() | NotRun():
                tally.went_back(run.task)

    def _tell_of_unrun(self, run: Run) -> None:
        if run.cancelled is None:
            log_expired(self._logger, run.task)
        else:
            log_cancelled(self._logger, run.task)
        if not self._events.listeners:
            return
        if run.cancelled is None:
            self._events.emit(Events.task_expired, run.task)
        else:
            self._events.emit(Events.task_cancelled, run.task, run.cancelled)

    def _outcome(self, run: Run, result: Result) -> Outcome:
        """Returns the outcome of a run; never raises."""
        try:
            outcome = (
                succeeded(run.task, self._options.retention_mode) if result is SUCCESS else self._decide(run, result)
            )
        except BaseException as error:
            # The user's backoff or logging filter may raise. Without an outcome the pool would never let the task go.
            outcome = decide_anyhow(
                run.task, result, retention=self._options.retention_mode, max_crashes=self._options.max_crashes
            )
            with suppress(BaseException):
                self._logger.error(
                    "task %s: its outcome could not be made as usual",
                    run.task.id,
                    exc_info=error,
                    extra=about(run.task),
                )
        if run.completed:
            return outcome._replace(completed_by_run=True)
        return outcome if run.interruption is None else outcome._replace(answers_cancel=_answers_cancel(run, result))

    def _decide(self, run: Run, result: Result) -> Outcome:
        return decide(
            run.task,
            result,
            retention=self._options.retention_mode,
            backoff=self._kinds.classes[run.task.kind].__fang_options__.backoff,
            max_crashes=self._options.max_crashes,
        )


def _why_unrun(run: Run) -> Cancelled:
    """Returns the result of a run that must not begin."""
    return EXPIRED if run.cancelled is None else Cancelled(run.cancelled)


def _answers_cancel(run: Run, result: Result) -> bool:
    """Returns whether a run that knew of a request to cancel its task has said that it is to run once more, later."""
    interruption = run.interruption
    if interruption is None or not interruption.cancels or not interruption.is_struck:
        return False
    return isinstance(result, Snoozed) or (isinstance(result, Failure) and result.delay is not None)
