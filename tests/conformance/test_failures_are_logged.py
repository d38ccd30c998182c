"""A failed run leaves a line in the log, in both modes, and the line nothing of the payload."""

import logging
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from fang_core import AsyncRunnable, Cancel, Constant, Runnable, Snooze, TaskConfig
from fang_core.failure import ErrorReport
from fang_core.failurelog import log_failure, log_rescue
from fang_core.lifecycle import Failure, Outcome
from fang_core.memory_state import MemoryState
from fang_core.record import ClaimedTask, TaskState
from fang_core.store import Rescued
from tests.modes import Side

SECRET = "s3cr3t"
NOW = Constant(delay=timedelta(0), jitter=0)


class ThreadedMishap(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedMishap", max_retries=1, backoff=NOW)
    secret: str = SECRET
    ends: str = "in failure"

    def run(self, queue: Any) -> None:
        end(self.ends, self.secret)


class AsyncMishap(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncMishap", max_retries=1, backoff=NOW)
    secret: str = SECRET
    ends: str = "in failure"

    async def run(self, queue: Any) -> None:
        end(self.ends, self.secret)


def end(how: str, secret: str) -> None:
    match how:
        case "in failure":
            raise ValueError(f"no such user: {secret}")
        case "cancelled":
            raise Cancel(secret)
        case "later":
            raise Snooze(timedelta(hours=1))


def lines_of(side: Side, caplog: pytest.LogCaptureFixture, ends: str) -> list[tuple[int, str]]:
    """What was logged in the life of one task, from warnings on."""
    caplog.set_level(logging.DEBUG)
    queue = side.memory_queue(MemoryState())
    task = (ThreadedMishap if side.mode == "threaded" else AsyncMishap)(ends=ends)
    row = side.call(queue.insert_task, task)
    pool = side.pool(queue)
    side.call(pool.drain)
    side.stop(pool)  # the last line comes after the outcome
    assert SECRET not in caplog.text
    name = f"fang_{side.mode}"
    return [
        (record.levelno, record.getMessage().replace(str(row.id), "ID"))
        for record in caplog.records
        if record.name == name and record.levelno > logging.INFO
    ]


def test_each_failed_attempt_says_what_and_where_and_what_follows(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    place = f"{__file__}:{end.__code__.co_firstlineno + 3}"
    kind = "tests.ThreadedMishap" if side.mode == "threaded" else "tests.AsyncMishap"
    assert lines_of(side, caplog, "in failure") == [
        (
            logging.WARNING,
            f"task ID ({kind}): attempt 1 failed with ValueError at {place}; retry 1 of 1 is due in 0.0 s",
        ),
        (logging.ERROR, f"task ID ({kind}): attempt 2 failed with ValueError at {place}; it has failed for good"),
    ]


@pytest.mark.parametrize("ends", ["well", "cancelled", "later"])
def test_what_is_no_failure_is_no_warning(side: Side, caplog: pytest.LogCaptureFixture, ends: str) -> None:
    assert lines_of(side, caplog, ends) == []


def test_a_run_that_completed_its_task_and_then_fails(caplog: pytest.LogCaptureFixture) -> None:
    task = ClaimedTask._make([uuid4(), "Kind", "{}", 1, *(None for _ in ClaimedTask._fields[4:])])
    outcome = Outcome(task.id, 1, TaskState.FAILED)._replace(completed_by_run=True)
    log_failure(logging.getLogger("fang_core"), task, Failure(ErrorReport("", None)), outcome)
    assert caplog.messages[0].endswith(
        "failed with an exception; it counts as done if the transaction in which it was completed is committed"
    )


@pytest.mark.parametrize(
    ("was_stopping", "charged", "charge"),
    [
        (False, True, "its pool crashed"),
        (True, False, "its pool was stopping, so nothing is charged"),
        (False, False, "its pool crashed before it began, so nothing is charged"),
    ],
)
def test_a_rescue_says_whether_the_task_is_charged(
    caplog: pytest.LogCaptureFixture, was_stopping: bool, charged: bool, charge: str
) -> None:
    rescued = Rescued(uuid4(), "Kind", 3, 1, TaskState.RETRIED, was_stopping, charged)
    log_rescue(logging.getLogger("fang_core"), rescued)
    line = (
        f"task {rescued.id} (Kind) was held by a dead pool and is retried now; {charge}; crashes charged to it so far"
    )
    assert caplog.messages == [f"{line}: 1"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("words", ["failed with", ""])
def test_logging_that_fails_costs_no_outcome_and_no_worker(side: Side, words: str) -> None:
    """A filter of the application's raises, at the line of the failure or at every line."""

    def fails(record: logging.LogRecord) -> bool:
        if words in record.getMessage() and record.levelno > logging.INFO:
            raise RuntimeError
        return True

    queue = side.memory_queue(MemoryState())
    mishap = ThreadedMishap if side.mode == "threaded" else AsyncMishap
    logger = logging.getLogger(f"fang_{side.mode}")
    logger.addFilter(fails)
    try:
        pool = side.pool(queue)
        for _ in range(2):
            row = side.call(queue.insert_task, mishap())
            side.call(pool.drain)
            assert side.call(queue.find_task_by_id, row.id).state is TaskState.FAILED
        side.stop(pool)
    finally:
        logger.removeFilter(fails)
