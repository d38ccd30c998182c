"""What a pool does with claimed tasks that are to be cancelled: no run begins; and which answer of a run ends that."""

from datetime import timedelta
from typing import Any

import pytest

from fang_core import ErrorReport, Events, TaskState
from fang_core.claims.expiry import EXPIRED
from fang_core.config import RetentionMode
from fang_core.crashes import SUSPECT_AFTER
from fang_core.lifecycle import NOT_RUN, SUCCESS, Cancelled, Failure, Outcome, Result, Snoozed
from fang_core.record import ClaimedTask
from fang_core.runs.interrupt import Interrupt, Interruption
from fang_core.runs.run import Run
from tests.core.claims.workerless import Workerless, task

REQUEST = {"reason": "a mistake", "by": "ada", "at": "now"}


def asked(number: int, **fields: Any) -> ClaimedTask:
    return task(number, cancel_request=REQUEST, **fields)


class Told(Events):
    def __init__(self) -> None:
        self.cancelled: list[tuple[int, str]] = []
        self.others: list[int] = []

    def task_cancelled(self, task: ClaimedTask, reason: str) -> None:
        self.cancelled.append((task.id.int, reason))

    def task_expired(self, task: ClaimedTask) -> None:
        self.others.append(task.id.int)

    def run_ended(self, task: ClaimedTask, result: Any, seconds: float) -> None:
        self.others.append(task.id.int)


class Pool(Workerless):
    def __init__(self, **options: Any) -> None:
        self.told = Told()
        super().__init__(self.told, workers=4, **options)

    def run(self) -> Run:
        """The first one in line, which a worker takes."""
        run = self.line.runs.pop(0)
        run.began = 1.0
        return run

    def end(self, run: Run, result: Result) -> Outcome:
        self.line.ended_runs += 1
        self.dispatch.ended(run, result, 0.1)
        return self.put.outcomes[-1]


def test_a_task_that_comes_with_a_request_is_cancelled_and_not_run(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool()
    with caplog.at_level("INFO"):
        pool.hand_out(task(1), asked(2), task(3))
    assert [run.task.id.int for run in pool.line.runs] == [1, 3]
    (outcome,) = pool.put.outcomes
    assert outcome == Outcome(task(2).id, 1, TaskState.CANCELLED, error_message="a mistake")
    assert (pool.told.cancelled, pool.told.others) == ([(2, "a mistake")], [])
    assert [record.message for record in caplog.records] == [
        f"task {task(2).id} (Supplied) was cancelled, and is not run"
    ]
    assert pool.dispatch.given_back == 1  # so that its worker counts as free


def test_its_row_goes_where_the_pool_keeps_none() -> None:
    pool = Pool(retention_mode=RetentionMode.REMOVE_ALL)
    pool.hand_out(asked(1))
    assert [outcome.state for outcome in pool.put.outcomes] == [None]


def test_a_suspect_that_is_cancelled_holds_nothing_up() -> None:
    pool = Pool()
    pool.hand_out(asked(1, crashes=SUSPECT_AFTER), task(2), task(3, crashes=SUSPECT_AFTER, group_limit=1), asked(4))
    assert [run.task.id.int for run in pool.line.runs] == [2]
    cancelled = [outcome.id.int for outcome in pool.put.outcomes if outcome.state is TaskState.CANCELLED]
    assert (cancelled, len(pool.put.outcomes)) == ([1, 4], 2)
    assert pool.in_flight.has_lone_suspect


def test_a_run_that_was_cancelled_in_line_is_cancelled_when_a_worker_takes_it() -> None:
    pool = Pool()
    pool.hand_out(task(1))
    run = pool.line.runs.pop()
    run.cancelled, run.expires = "a mistake", 0.0
    assert pool.end(run, EXPIRED) == Outcome(task(1).id, 1, TaskState.CANCELLED, error_message="a mistake")
    assert run.over
    assert (pool.told.cancelled, pool.told.others) == ([(1, "a mistake")], [])


LATER = timedelta(seconds=7)
ERROR = ErrorReport("ValueError: no", None)
ANSWERS: list[tuple[Result, bool]] = [
    (Snoozed(LATER), True),
    (Failure(ERROR, LATER), True),  # RetryAfter
    (Failure(ERROR), False),  # of the worker: those of runs are no failures then
    (Cancelled("yes"), False),  # the request stays in the row, to say who wanted that
    (SUCCESS, False),
    (NOT_RUN, False),
]


@pytest.mark.parametrize(("result", "answers"), ANSWERS)
def test_a_run_that_knows_of_the_request_answers_it_by_saying_when_it_runs_again(result: Result, answers: bool) -> None:
    for why, is_struck in ((Interrupt.CANCELLED, True), (Interrupt.CANCELLED, False), (Interrupt.TIME_LIMIT, True)):
        pool = Pool()
        pool.hand_out(task(1))
        run = pool.run()
        run.interruption = Interruption(why, "a mistake", 0.0)
        run.interruption.is_struck = is_struck
        expected = answers and is_struck and why is Interrupt.CANCELLED
        assert pool.end(run, result).answers_cancel is expected


@pytest.mark.parametrize("result", [result for result, _ in ANSWERS])
def test_a_run_that_was_told_nothing_answers_nothing(result: Result) -> None:
    pool = Pool()
    pool.hand_out(task(1))
    assert not pool.end(pool.run(), result).answers_cancel
