"""How claimed tasks come to the workers of a pool, or go back, and how many more it wants. Pure: it is told the time.

One for each life of a pool, in both modes.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import suppress
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from fang_core.config import PoolOptions
from fang_core.demand import Demand
from fang_core.events import Dispatcher, Events
from fang_core.failure import ErrorReport
from fang_core.failurelog import about, log_failure
from fang_core.holdings import Holdings
from fang_core.lifecycle import NOT_RUN, Failure, Outcome, Result, decide, decide_anyhow
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask
from fang_core.registry import Kinds
from fang_core.run import Run
from fang_core.stock import PATIENCE, Stock
from fang_core.store import Serves


class Line(Protocol):
    """Where runs wait for a worker, first in first out."""

    @property
    def backlog(self) -> int:
        """How many wait."""

    @property
    def ended_runs(self) -> int:
        """How many have ended so far."""

    def put(self, runs: list[Run]) -> None:
        """These wait from now on."""

    def take_back(self, count: int) -> Iterator[Run]:
        """The first in line, which wait no more; fewer where workers are faster."""


class Overdue(NamedTuple):
    """What has waited too long for a worker of the pool.

    Attributes:
        tasks: the task types and kinds of what waits, to ask whether another pool would take one; empty where there is
            nothing to ask.
        goes_anyhow: whether it goes back without being asked for: all workers are busy for long.
    """

    tasks: Set[Serves]
    goes_anyhow: bool = False


NOTHING_OVERDUE: Final = Overdue(frozenset())


class Outcomes(Protocol):
    """Where outcomes go to be written."""

    written: int
    """How many are dealt with."""

    def put(self, outcome: Outcome) -> None:
        """Has it written."""


class Supply:
    """Between claimer and workers: hands out what was claimed, and has its outcome written, run or not.

    ``now`` is in seconds of one monotonic clock. The claimer calls all methods but ``ended``, which workers call, and
    ``give_back_unstarted``, which stopping calls too: once the claimer has ended, or does not end in time.

    Args:
        is_stopping: whether no worker will take what is handed out now.
        logger: the mode's.
    """

    def __init__(
        self,
        options: PoolOptions,
        kinds: Kinds,
        holdings: Holdings,
        line: Line,
        outcomes: Outcomes,
        *,
        events: Dispatcher,
        is_stopping: Callable[[], bool],
        logger: SafeLogger,
    ) -> None:
        self._options = options
        self._kinds = kinds
        self._holdings = holdings
        self._line = line
        self._outcomes = outcomes
        self._events = events
        self._is_stopping = is_stopping
        self._logger = logger
        self._demand = Demand(options.number_of_workers)
        self._stock = Stock()
        self._claimed = 0
        self._rests_until = float("-inf")
        self._ended_before_rest = 0
        self.given_back = 0
        """Tasks that were claimed and not started."""

    def wanted(self, now: float) -> int:
        """How many tasks to claim now."""
        if self._holdings.has_suspect:
            return 0
        waiting, ended = self._line.backlog, self._line.ended_runs
        self._stock.measure(waiting, now)
        if now < self._rests_until and ended == self._ended_before_rest:
            return 0
        return self._demand.wanted(
            free=self._free(waiting, ended),
            waiting=waiting,
            unwritten=ended + self.given_back - self._outcomes.written,
            pace=self._stock.pace,
            most=self._stock.most,
        )

    def low_stock(self) -> int:
        """So few waiting tasks are few enough to claim again."""
        free = self._free(self._line.backlog, self._line.ended_runs)
        return self._demand.low(free=free, pace=self._stock.pace, most=self._stock.most)

    def patience(self, now: float) -> float:
        """Seconds until a task may be overdue, or the pool may claim again what it gave back; infinite without such."""
        patience = self._stock.patience(self._line.backlog, now)
        return min(patience, self._rests_until - now) if now < self._rests_until else patience

    def overdue(self, now: float) -> Overdue:
        """What has waited too long, if another pool is to be asked for just now, or it goes back anyhow."""
        waiting, ended = self._line.backlog, self._line.ended_runs
        self._stock.measure(waiting, now)
        if self._holdings.suspect_began or not self._stock.asks(waiting, now):
            return NOTHING_OVERDUE
        is_stuck = self._stock.is_stuck(now) and not self._free(waiting, ended)
        return Overdue(self._holdings.waiting(), is_stuck)

    def hand_out(self, tasks: list[ClaimedTask], pool_id: UUID, now: float) -> None:
        """Has workers run what was claimed under this id."""
        self._claimed += len(tasks)
        taken = self._holdings.take(tasks, pool_id)
        self._give_back(taken.unwanted)
        if self._is_stopping():
            self._give_back(taken.ready)  # too late: nobody would run them
            self.give_up_suspect()
        else:
            self._put(taken.ready, now)
        for run in taken.lost:
            self._logger.warning(
                "task %s was claimed again while it ran: that run is lost", run.task.id, extra=about(run.task)
            )

    def begin_suspect(self, now: float) -> bool:
        """Has the suspect run, once it is alone; whether it now does."""
        suspect = self._holdings.begin_suspect()
        if suspect is not None:
            self._put([suspect], now)
        return suspect is not None

    def give_up_suspect(self) -> None:
        """Gives the suspect back, where it has not begun."""
        suspect = self._holdings.give_up_suspect()
        if suspect is not None:
            self._give_back([suspect])

    def give_back_overdue(self, now: float) -> int:
        """Gives back what has waited for too long; how many.

        It is left to others until a run has ended here, or they have had the time to take it.
        """
        overdue = self._stock.overdue(self._line.backlog, now)
        if not overdue or self._holdings.suspect_began:
            return 0
        before = self.given_back
        self._give_back_waiting(overdue, now)
        self._rests_until, self._ended_before_rest = now + PATIENCE, self._line.ended_runs
        return self.given_back - before

    def give_back_unstarted(self, now: float) -> None:
        """Gives back all that waits: the pool stops, or is reborn."""
        self._give_back_waiting(self._line.backlog, now)
        self.give_up_suspect()

    def ended(self, run: Run, result: Result | None, seconds: float) -> None:
        """A run has ended, after so many seconds; the result is None where the worker itself failed."""
        if result is None:
            result = Failure(ErrorReport("FangError: the worker failed beside the run", None))
        outcome = self._outcome(run, result)
        self._outcomes.put(outcome)
        # From here on anything may fail, logging too: the outcome is on its way.
        self._demand.observe(seconds)
        if self._events:
            self._events.emit(Events.run_ended, run.task, result, seconds)
        if isinstance(result, Failure):
            log_failure(
                self._logger,
                run.task,
                result,
                outcome,
                seconds=seconds,
                with_traceback=self._options.log_tracebacks,
            )

    def _free(self, waiting: int, ended: int) -> int:
        """How many workers run nothing."""
        running = self._claimed - self.given_back - ended - waiting
        return max(0, self._options.number_of_workers - running)

    def _put(self, runs: list[Run], now: float) -> None:
        self._stock.hand_out(len(runs), self._line.backlog, now)
        self._line.put(runs)

    def _give_back_waiting(self, count: int, now: float) -> None:
        before = self.given_back
        self._give_back(self._line.take_back(count))
        self._stock.went_back(self.given_back - before, self._line.backlog, now)

    def _give_back(self, runs: Iterable[Run]) -> None:
        """They were claimed and not started: nothing is charged."""
        for run in runs:
            run.over = True
            self.given_back += 1
            self._outcomes.put(self._outcome(run, NOT_RUN))

    def _outcome(self, run: Run, result: Result) -> Outcome:
        """Never raises."""
        try:
            backoff = self._kinds.classes[run.task.kind].__fang_options__.backoff
            outcome = decide(run.task, result, retention=self._options.retention_mode, backoff=backoff)
        except BaseException as error:
            # The user's backoff, or a filter of the user's logging. Without an outcome the run would be held for ever.
            outcome = decide_anyhow(run.task, result, retention=self._options.retention_mode)
            with suppress(BaseException):
                self._logger.error(
                    "task %s: its outcome could not be made as usual",
                    run.task.id,
                    exc_info=error,
                    extra=about(run.task),
                )
        return outcome._replace(completed_by_run=True) if run.completed else outcome
