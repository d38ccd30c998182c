"""What a pool claims comes to a worker or goes back, once, in whatever order; and the counts are exact."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fang_core import Runnable, TaskConfig
from fang_core.claims.dispatch import Overdue
from fang_core.claims.expiry import ClaimTime
from fang_core.claims.prefetch import MOST_UNWRITTEN, PATIENCE
from fang_core.config import RetentionMode
from fang_core.crashes import SUSPECT_AFTER
from fang_core.failure import ErrorReport
from fang_core.lifecycle import NOT_RUN, SUCCESS, Cancelled, Failure, Outcome, Result, Snoozed, decide
from fang_core.record import ClaimedTask, TaskState
from fang_core.runs.run import Run
from tests.core.claims.workerless import NOW, POOL, Workerless, task

CLAIMED = ClaimTime(NOW, 0.0)
WORKERS = 2


def suspect(number: int) -> ClaimedTask:
    return task(number, crashes=SUSPECT_AFTER, group_limit=1)


class PoolAroundSupply(RuleBasedStateMachine):
    """Claims what is wanted, begins what waits where a worker is free, ends, writes and gives back in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Workerless(workers=WORKERS)
        self.dispatch = self.pool.dispatch
        self.now = 0.0
        self.claimed: list[uuid.UUID] = []
        self.suspects: set[uuid.UUID] = set()
        self.running: list[Run] = []
        self.done: list[uuid.UUID] = []  # in the order in which outcomes came
        self.rests_until = 0.0

    @precondition(lambda self: self.dispatch.wanted(self.now))
    @rule(count=st.integers(1, 50), limits=st.lists(st.sampled_from([0, 1, 2, 9]), max_size=5))
    def claim(self, count: int, limits: list[int]) -> None:
        """Claims tasks with these limits of groups; 0 is for one that is no suspect."""
        limits += [0] * count
        first = len(self.claimed)
        size = self.pool.in_flight.next_group_size
        limits = [limit if limit >= size else 0 for limit in limits]
        tasks = [
            task(first + n, crashes=SUSPECT_AFTER * (limits[n] > 0), group_limit=limits[n] or None)
            for n in range(min(count, self.dispatch.wanted(self.now)))
        ]
        self.suspects |= {each.id for each in tasks if each.crashes}
        self.claimed += [each.id for each in tasks]
        self.dispatch.hand_out(tasks, POOL, CLAIMED, self.now)

    @precondition(lambda self: self.dispatch.wanted(self.now, WORKERS))
    @rule(count=st.integers(1, 3 * WORKERS))
    def claim_what_may_not_wait(self, count: int) -> None:
        first, idle = len(self.claimed), max(0, self.dispatch.idle_workers())
        before = self.pool.line.backlog, self.dispatch.given_back
        tasks = [task(first + n) for n in range(count)]
        self.claimed += [each.id for each in tasks]
        self.dispatch.hand_out(tasks, POOL, CLAIMED, self.now, may_wait=False)
        if not self.pool.in_flight.suspects:
            started, went_back = self.pool.line.backlog - before[0], self.dispatch.given_back - before[1]
            assert (started, went_back) == (min(count, idle), max(0, count - idle))

    @precondition(lambda self: self.pool.line.runs and len(self.running) < WORKERS)
    @rule()
    def begin(self) -> None:
        run = self.pool.line.runs.pop(0)
        run.began = 1.0
        self.running.append(run)

    @precondition(lambda self: self.running)
    @rule(seconds=st.sampled_from([0.0001, 10.0]))
    def end(self, seconds: float) -> None:
        self.rests_until = 0.0
        self.pool.line.ended_runs += 1
        self.running[0].over = True
        self.dispatch.ended(self.running.pop(0), SUCCESS, seconds)

    @rule()
    def write(self) -> None:
        batch, self.pool.put.outcomes = self.pool.put.outcomes, []
        self.pool.put.written += len(batch)
        self.done += [outcome.id for outcome in batch]
        self.pool.in_flight.remove(batch)

    @rule(seconds=st.sampled_from([0.001, 0.05, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def give_back_overdue(self) -> None:
        before = self.pool.line.backlog
        overdue = self.dispatch.overdue(self.now)
        assert set(overdue.tasks) <= {("common", "Supplied")}
        assert not overdue.goes_anyhow or len(self.running) == WORKERS
        if overdue.tasks:
            assert before
        given_back = self.dispatch.give_back_overdue(self.now)
        assert given_back == before - self.pool.line.backlog
        assert given_back or not overdue.tasks
        if given_back:
            self.rests_until = self.now + PATIENCE

    @rule()
    def begin_suspects(self) -> None:
        runs_alone = self.pool.in_flight.has_lone_suspect
        if self.dispatch.begin_suspects(self.now) and runs_alone:
            assert not self.running
            assert self.pool.line.backlog == len(self.pool.in_flight) == 1

    @rule()
    def give_up_suspects(self) -> None:
        self.dispatch.give_up_suspects()

    @rule()
    def give_back_unstarted(self) -> None:
        self.dispatch.give_back_unstarted(self.now)
        assert not self.pool.line.backlog

    @property
    def in_hand(self) -> set[uuid.UUID]:
        """The suspects that have not begun."""
        outcomes = {outcome.id for outcome in self.pool.put.outcomes}
        handed_out = {run.task.id for run in (*self.running, *self.pool.line.runs)}
        return set(self.claimed) - set(self.done) - outcomes - handed_out

    @invariant()
    def each_task_is_in_one_place(self) -> None:
        outcomes = [outcome.id for outcome in self.pool.put.outcomes]
        away = [*self.done, *outcomes, *(run.task.id for run in (*self.running, *self.pool.line.runs))]
        assert len(set(away)) == len(away)
        assert self.in_hand <= self.suspects
        assert bool(self.in_hand) == (self.pool.in_flight.waiting_suspect is not None)

    @invariant()
    def a_free_worker_is_claimed_for(self) -> None:
        free = WORKERS - len(self.running) - len(self.in_hand)
        if self.pool.in_flight.has_lone_suspect or self.now < self.rests_until:
            assert self.dispatch.wanted(self.now) == 0
        elif free and not self.pool.line.backlog:
            assert self.dispatch.wanted(self.now) > 0


TestPoolAroundSupply = PoolAroundSupply.TestCase


@pytest.mark.parametrize("tasks", [[task(1), task(2)], [suspect(1), task(2)]])
def test_what_comes_too_late_goes_back(tasks: list[ClaimedTask]) -> None:
    pool = Workerless()
    pool.is_stopping = True
    pool.hand_out(*tasks)
    assert not pool.line.runs
    assert sorted(pool.given_back) == [1, 2]
    assert pool.dispatch.given_back == 2


def test_runs_that_are_about_to_end_are_claimed_for_but_not_while_a_suspect_is_held() -> None:
    pool = Workerless()
    pool.hand_out(task(1), task(2))
    assert (pool.dispatch.wanted(0.0), pool.dispatch.wanted(0.0, 2), pool.dispatch.wanted(0.0, 1)) == (0, 2, 1)
    pool.line.runs.clear()  # both begin
    assert (pool.dispatch.wanted(0.0), pool.dispatch.wanted(0.0, 2), pool.dispatch.wanted(0.0, 9)) == (0, 2, 2)
    pool = Workerless()
    pool.hand_out(task(1, crashes=SUSPECT_AFTER, group_limit=9), task(2))
    assert (pool.dispatch.wanted(0.0), pool.dispatch.wanted(0.0, 2)) == (0, 0)


def test_a_worker_that_fails_beside_a_run_has_failed_it_with_the_backoff_of_its_class() -> None:
    pool = Workerless()
    pool.hand_out(task(1))
    pool.dispatch.ended(pool.line.runs.pop(), None, 0.1)
    (outcome,) = pool.put.outcomes
    assert (outcome.state, outcome.delay) == (TaskState.RETRIED, timedelta(seconds=7))
    assert outcome.error_message == "FangError: the worker failed outside of the run"


def no_filter(record: logging.LogRecord) -> bool:
    raise RuntimeError("a filter of the application's")


@pytest.fixture(params=["tests", "fang_core"])
def failing_logger(request: pytest.FixtureRequest) -> Iterator[str]:
    """The dispatch's own, or that which tells of a backoff that misbehaves."""
    logger = logging.getLogger(request.param)
    logger.addFilter(no_filter)
    yield request.param
    logger.removeFilter(no_filter)


class Misbehaves(Runnable):
    task_config = TaskConfig(backoff=lambda failures: 1 / 0)

    def run(self, queue: Any) -> None: ...


FAILURE = Failure(ErrorReport("ValueError", None))


def test_a_run_has_an_outcome_whatever_fails_beside_it(failing_logger: str) -> None:
    pool = Workerless()
    pool.hand_out(task(1, kind="Misbehaves"))
    with suppress(RuntimeError):
        pool.dispatch.ended(pool.line.runs.pop(), FAILURE, 0.1)
    (outcome,) = pool.put.outcomes
    assert (outcome.state, outcome.charge, outcome.error_message) == (TaskState.RETRIED, 1, "ValueError")
    assert outcome.delay is not None
    assert timedelta(seconds=0.9) <= outcome.delay <= timedelta(seconds=1.1)  # the default's


def test_a_run_that_proves_another_lost_runs_though_that_cannot_be_told() -> None:
    pool = Workerless()
    pool.hand_out(task(1))
    pool.line.runs[0].began = 1.0
    logging.getLogger("tests").addFilter(no_filter)
    try:
        with pytest.raises(RuntimeError):
            pool.hand_out(task(1, attempt=2))
    finally:
        logging.getLogger("tests").removeFilter(no_filter)
    assert len(pool.line.runs) == 2


@pytest.mark.parametrize(
    ("result", "state", "message"),
    [
        (SUCCESS, None, None),
        (NOT_RUN, TaskState.NEW, None),
        (Snoozed(timedelta(seconds=5)), TaskState.NEW, None),
        (Cancelled("no"), TaskState.CANCELLED, "no"),
        (FAILURE, TaskState.RETRIED, "ValueError"),
    ],
)
def test_a_kind_that_is_gone_costs_no_outcome(
    result: Result, state: TaskState | None, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Workerless()
    pool.hand_out(task(1, kind="gone"))
    pool.dispatch.ended(pool.line.runs.pop(), result, 0.1)
    (outcome,) = pool.put.outcomes
    assert (outcome.state, outcome.error_message) == (state, message)
    assert ("KeyError" in caplog.text) == (result is not SUCCESS)  # which needs no backoff
    pool.hand_out(task(2, kind="gone"))
    pool.dispatch.give_back_unstarted(0.0)
    assert pool.given_back[-1] == 2


def test_what_cannot_be_decided_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def decides(task: ClaimedTask, result: Result, **options: Any) -> Outcome:
        if isinstance(result, Failure):
            return decide(task, result, **options)
        raise MemoryError

    def fails(task: ClaimedTask, retention: RetentionMode) -> Outcome:
        raise MemoryError

    for module in ("claims.dispatch", "lifecycle"):
        monkeypatch.setattr(f"fang_core.{module}.decide", decides)
        monkeypatch.setattr(f"fang_core.{module}.succeeded", fails)
    pool = Workerless()
    pool.hand_out(task(1))
    pool.dispatch.ended(pool.line.runs.pop(), SUCCESS, 0.1)
    (outcome,) = pool.put.outcomes
    assert (outcome.state, outcome.charge) == (TaskState.RETRIED, 1)
    assert outcome.error_message == "FangError: no outcome of the run could be made: MemoryError"


def test_a_run_that_was_completed_by_itself_says_so() -> None:
    pool = Workerless()
    pool.hand_out(task(1), task(2))
    pool.line.runs[0].completed = True
    for run in pool.line.runs:
        pool.dispatch.ended(run, SUCCESS, 0.1)
    assert [outcome.completed_by_run for outcome in pool.put.outcomes] == [True, False]


def test_what_is_claimed_again_proves_the_older_run_lost(caplog: pytest.LogCaptureFixture) -> None:
    pool = Workerless()
    pool.hand_out(task(1))
    pool.line.runs[0].began = 1.0
    pool.hand_out(task(1, attempt=2))
    assert [run.is_lost for run in pool.line.runs] == [True, False]
    assert "was claimed again while it ran: that run is lost" in caplog.text


@pytest.mark.parametrize("result", [FAILURE._replace(delay=timedelta(0)), Snoozed(timedelta(0)), NOT_RUN])
def test_what_the_pool_has_just_written_itself_was_not_lost(result: Result, caplog: pytest.LogCaptureFixture) -> None:
    """It is due at once, and is claimed before the completer has told that its outcome stands."""
    pool = Workerless()
    pool.hand_out(task(1))
    (run,) = pool.line.take_back(1)
    run.began, run.over = 1.0, True
    with caplog.at_level(logging.CRITICAL, "tests"):  # but for the failure's own line
        pool.dispatch.ended(run, result, 0.1)
    pool.hand_out(task(1, attempt=2))
    assert not caplog.text
    assert [run.is_lost for run in pool.line.runs] == [False]
    pool.in_flight.remove(pool.put.outcomes)
    assert pool.in_flight.known() == [run.task.id]


def test_what_was_given_back_and_claimed_again_was_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    pool = Workerless()
    pool.hand_out(task(1))
    pool.dispatch.give_back_overdue(PATIENCE)
    pool.hand_out(task(1, attempt=2))
    assert not caplog.text
    assert [run.is_lost for run in pool.line.runs] == [False]


def test_nothing_is_said_of_a_run_that_never_started(caplog: pytest.LogCaptureFixture) -> None:
    """Its task was moved by hand while it waited."""
    pool = Workerless()
    pool.hand_out(task(1))
    pool.hand_out(task(1, attempt=2))
    assert not caplog.text


def test_what_has_waited_too_long_goes_back_and_nothing_is_claimed_ahead_of_it_again() -> None:
    pool = Workerless()
    pool.hand_out(*map(task, range(1000)))
    for run in pool.line.runs:
        pool.dispatch.ended(run, SUCCESS, 0.0001)
    pool.line.ended_runs, pool.line.runs = 1000, []
    assert pool.dispatch.wanted(1.0) > WORKERS  # a thousand a second
    pool.dispatch.hand_out([task(1001), task(1002)], POOL, CLAIMED, 1.0)
    assert pool.dispatch.patience(1.0) == pytest.approx(PATIENCE)
    assert not pool.dispatch.overdue(1.0 + PATIENCE / 2).tasks
    assert pool.dispatch.give_back_overdue(1.0 + PATIENCE / 2) == 0
    assert pool.dispatch.overdue(1.0 + PATIENCE * 2) == Overdue({("common", "Supplied")})
    assert pool.dispatch.give_back_overdue(1.0 + PATIENCE * 2) == 2
    assert pool.dispatch.given_back == 2
    assert pool.dispatch.wanted(1.0 + PATIENCE * 2) == 0  # left to others, who have the time to take it
    assert pool.dispatch.patience(1.0 + PATIENCE * 2) == pytest.approx(PATIENCE)
    assert pool.dispatch.wanted(1.0 + PATIENCE * 3) == 1  # two were too many


def test_what_went_back_is_claimed_again_as_soon_as_a_run_has_ended() -> None:
    pool = Workerless()
    pool.hand_out(task(1), task(2))
    running = pool.line.runs.pop(0)
    assert pool.dispatch.give_back_overdue(PATIENCE) == 1
    assert pool.dispatch.wanted(PATIENCE) == 0
    pool.line.ended_runs += 1
    pool.dispatch.ended(running, SUCCESS, PATIENCE)
    assert pool.dispatch.wanted(PATIENCE) > 0


def test_a_pool_whose_workers_are_all_busy_for_long_asks_nobody_whether_to_keep_what_waits() -> None:
    pool = Workerless()
    pool.hand_out(task(1), task(2), task(3))
    pool.line.runs = pool.line.runs[2:]
    assert pool.dispatch.overdue(PATIENCE) == Overdue({("common", "Supplied")}, goes_anyhow=False)
    assert pool.dispatch.overdue(2 * PATIENCE) == Overdue({("common", "Supplied")}, goes_anyhow=True)
    assert pool.dispatch.give_back_overdue(2 * PATIENCE) == 1


def test_a_pool_with_a_free_worker_keeps_what_waits_however_long_that_takes_it() -> None:
    """Its event loop computes: only another pool, if there is one, can start the task earlier."""
    pool = Workerless()
    pool.hand_out(task(1), task(2))
    pool.line.runs = pool.line.runs[1:]
    for now in (PATIENCE, 100 * PATIENCE):
        assert pool.dispatch.overdue(now) == Overdue({("common", "Supplied")}, goes_anyhow=False)


def test_a_suspect_that_was_begun_does_not_go_back() -> None:
    pool = Workerless()
    pool.hand_out(suspect(1))
    assert pool.dispatch.begin_suspects(0.0)
    assert not pool.dispatch.overdue(10 * PATIENCE).tasks
    assert pool.dispatch.give_back_overdue(10 * PATIENCE) == 0
    pool.dispatch.give_up_suspects()
    assert not pool.put.outcomes


def test_nothing_is_claimed_while_too_much_is_to_be_written() -> None:
    pool = Workerless()
    pool.hand_out(*map(task, range(MOST_UNWRITTEN)))
    pool.dispatch.give_back_unstarted(0.0)
    assert pool.dispatch.wanted(0.0) == 0
    pool.put.written = 1
    assert pool.dispatch.wanted(0.0) == WORKERS
