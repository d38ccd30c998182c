"""A failed run leaves a line in the log, in both modes, and the line nothing of the payload."""

import copy
import gc
import json
import logging
import pickle
import time
import weakref
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, field_validator

from fang_core import AsyncRunnable, Cancel, Constant, Events, Runnable, Snooze, TaskConfig
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.pools import Rescued
from fang_core.failure import ErrorReport
from fang_core.failurelog import log_failure, log_lost, log_rescue, log_unstorable
from fang_core.lifecycle import Failure, Outcome, Result
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask, TaskState
from tests.modes import Harness, eventually

SECRET = "s3cr3t"
NOW = Constant(delay=timedelta(0), jitter=0)


class Inner(BaseModel):
    number: int = 0
    odd: str = ""

    @field_validator("odd")
    @classmethod
    def refuse(cls, text: str) -> str:
        if text:
            raise ValueError(f"not {text}")
        return text


class ThreadedMishap(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedMishap", max_retries=1, backoff=NOW)
    secret: str = SECRET
    ends: str = "in failure"
    inner: Inner = Inner()

    def run(self, queue: Any) -> None:
        end(self.ends, self.secret)


class AsyncMishap(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncMishap", max_retries=1, backoff=NOW)
    secret: str = SECRET
    ends: str = "in failure"
    inner: Inner = Inner()

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


def lines_of(harness: Harness, caplog: pytest.LogCaptureFixture, ends: str) -> list[tuple[int, str]]:
    """What was logged in the life of one task, from warnings on."""
    caplog.set_level(logging.DEBUG)
    queue = harness.memory_queue(MemoryState())
    task = (ThreadedMishap if harness.mode == "threaded" else AsyncMishap)(ends=ends)
    row = harness.call(queue.insert_task, task)
    pool = harness.pool(queue)
    harness.call(pool.drain)
    harness.stop(pool)  # the last line comes after the outcome
    assert SECRET not in caplog.text
    name = f"fang_{harness.mode}"
    return [
        (record.levelno, record.getMessage().replace(str(row.id), "ID"))
        for record in caplog.records
        if record.name == name and record.levelno > logging.INFO
    ]


def test_each_failed_attempt_says_what_and_where_and_what_follows(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    place = f"{__file__}:{end.__code__.co_firstlineno + 3}"
    kind = "tests.ThreadedMishap" if harness.mode == "threaded" else "tests.AsyncMishap"
    assert lines_of(harness, caplog, "in failure") == [
        (
            logging.WARNING,
            f"task ID ({kind}): run 1 failed with ValueError at {place}; retry 1 of 1 is due in 0.0 s",
        ),
        (logging.ERROR, f"task ID ({kind}): run 2 failed with ValueError at {place}; it has failed for good"),
    ]


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        ({"ends": [SECRET]}, ".ends (string_type)"),
        ({"ends": "well", "inner": {"number": SECRET}}, ".inner.number (int_parsing)"),
        ({"ends": "well", "inner": {"odd": SECRET}}, ".inner.odd (value_error)"),
    ],
    ids=str,
)
def test_an_unreadable_payload_is_told_by_its_field_and_never_by_its_value(
    harness: Harness, caplog: pytest.LogCaptureFixture, payload: dict[str, Any], place: str
) -> None:
    cls = ThreadedMishap if harness.mode == "threaded" else AsyncMishap
    state = MemoryState()
    queue = harness.memory_queue(state)
    row = harness.call(queue.insert_task, cls())
    state.tasks[row.id] = row._replace(metadata={"type": row.kind, **payload}, max_retries=0)
    pool = harness.pool(queue)
    harness.call(pool.drain)
    harness.stop(pool)

    assert f"failed with UnreadablePayload at {place}; it has failed for good" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("ends", ["well", "cancelled", "later"])
def test_what_is_no_failure_is_no_warning(harness: Harness, caplog: pytest.LogCaptureFixture, ends: str) -> None:
    assert lines_of(harness, caplog, ends) == []


def test_a_run_that_completed_its_task_and_then_fails(caplog: pytest.LogCaptureFixture) -> None:
    task = ClaimedTask(uuid4(), "Kind", "{}", 1, 0, 20, 0, "common", 0, datetime.now(UTC))
    outcome = Outcome(task.id, 1, TaskState.FAILED)._replace(completed_by_run=True)
    log_failure(logging.getLogger("fang_core"), task, Failure(ErrorReport("", None)), outcome, seconds=1.0)
    assert caplog.messages[0].endswith(
        "failed with an exception; it counts as done if the transaction in which it was completed is committed"
    )


@pytest.mark.parametrize(
    ("was_stopping", "charged", "charge"),
    [
        (False, True, "its pool crashed"),
        (True, False, "its pool was stopping, so nothing is charged"),
        (False, False, "its pool crashed with other tasks too, so nothing is charged"),
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
    assert caplog.records[0].levelno == logging.WARNING


def test_a_task_that_is_parked_as_crashed_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    rescued = Rescued(uuid4(), "Kind", 3, 3, TaskState.FAILED, was_stopping=False, charged=True)
    log_rescue(logging.getLogger("fang_core"), rescued)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "is failed now; its pool crashed; crashes charged to it so far: 3" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("words", ["failed with", ""])
def test_logging_that_fails_costs_no_outcome_and_no_worker(harness: Harness, words: str) -> None:
    """A filter of the application's raises, at the line of the failure or at every line."""

    def fails(record: logging.LogRecord) -> bool:
        if words in record.getMessage() and record.levelno > logging.INFO:
            raise RuntimeError
        return True

    queue = harness.memory_queue(MemoryState())
    mishap = ThreadedMishap if harness.mode == "threaded" else AsyncMishap
    logger = logging.getLogger(f"fang_{harness.mode}")
    logger.addFilter(fails)
    try:
        pool = harness.pool(queue)
        for _ in range(2):
            row = harness.call(queue.insert_task, mishap())
            harness.call(pool.drain)
            assert harness.call(queue.find_task_by_id, row.id).state is TaskState.FAILED
        harness.stop(pool)
    finally:
        logger.removeFilter(fails)


class AsJson(logging.Formatter):
    """As JSON formatters do: every attribute that ``logging`` itself does not set."""

    USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({name: value for name, value in vars(record).items() if name not in self.USUAL})


def failures_in_json(harness: Harness, **options: Any) -> list[dict[str, Any]]:
    """The lines of a task that fails twice, as a formatter of JSON writes them."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(AsJson())
    logger = logging.getLogger(f"fang_{harness.mode}")
    logger.addHandler(handler)
    try:
        queue = harness.memory_queue(MemoryState())
        harness.call(queue.insert_task, (ThreadedMishap if harness.mode == "threaded" else AsyncMishap)())
        pool = harness.pool(queue, **options)
        harness.call(pool.drain)
        harness.stop(pool)
    finally:
        logger.removeHandler(handler)
    return [line for line in map(json.loads, written.getvalue().splitlines()) if line]


def test_records_carry_what_the_line_says_for_logs_in_json(harness: Harness) -> None:
    began = time.monotonic()
    first, second = failures_in_json(harness)
    task_id, seconds = UUID(first.pop("task_id")), first.pop("seconds")
    kind = "tests.ThreadedMishap" if harness.mode == "threaded" else "tests.AsyncMishap"
    assert first == {"kind": kind, "task_type": "common", "run": 1}
    assert 0 <= seconds <= time.monotonic() - began
    assert (UUID(second["task_id"]), second["run"]) == (task_id, 2)


def test_every_line_that_concerns_a_task_names_it_in_its_record(caplog: pytest.LogCaptureFixture) -> None:
    task = ClaimedTask(uuid4(), "Kind", "{}", 7, 2, 20, 0, "heavy", 0, datetime.now(UTC))
    outcome = Outcome(task.id, 7, TaskState.FAILED)
    logger = SafeLogger("fang_core")
    log_lost(logger, outcome, task)
    log_unstorable(logger, outcome, task)
    log_lost(logger, outcome, None)
    log_rescue(logger, Rescued(task.id, "Kind", 7, 1, TaskState.RETRIED, False, True))
    known = ("task_id", "kind", "task_type", "run")
    found = [tuple(getattr(record, name, None) for name in known) for record in caplog.records]
    whole = (str(task.id), "Kind", "heavy", 3)
    assert found == [whole, whole, (str(task.id), None, None, None), (str(task.id), "Kind", None, None)]


@pytest.mark.parametrize("log_tracebacks", [False, True])
def test_tracebacks_are_logged_if_the_pool_is_asked_to(
    harness: Harness, caplog: pytest.LogCaptureFixture, log_tracebacks: bool
) -> None:
    queue = harness.memory_queue(MemoryState())
    harness.call(queue.insert_task, (ThreadedMishap if harness.mode == "threaded" else AsyncMishap)())
    pool = harness.pool(queue, log_tracebacks=log_tracebacks)
    harness.call(pool.drain)
    harness.stop(pool)
    assert caplog.text.count("failed with ValueError at") == 2
    assert caplog.text.count(f"no such user: {SECRET}") == (2 if log_tracebacks else 0)
    assert caplog.text.count("in end\n") == (2 if log_tracebacks else 0)


# The exception itself ------------------------------------------------------------------------------------------------


class Large:
    """What a run's frame refers to."""


class ThreadedHolding(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedHolding", max_retries=0)

    def run(self, queue: Any) -> None:
        hold_and_fail()


class AsyncHolding(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncHolding", max_retries=0)

    async def run(self, queue: Any) -> None:
        hold_and_fail()


HELD: list["weakref.ref[Large]"] = []


def hold_and_fail() -> None:
    large = Large()
    HELD.append(weakref.ref(large))
    raise KeyError("nothing here")


class Watching(Events):
    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def run_ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        assert isinstance(result, Failure)
        self.seen.append((repr(result.exception), HELD[-1]() is not None))


def test_a_hook_is_handed_the_exception_and_nothing_keeps_it_afterwards(harness: Harness) -> None:
    """Neither a worker that is idle nor a cycle keeps the frames of the run that failed: no collector runs here."""
    queue = harness.memory_queue(MemoryState())
    harness.call(queue.insert_task, (ThreadedHolding if harness.mode == "threaded" else AsyncHolding)())
    watching = Watching()
    gc.disable()
    try:
        pool = harness.pool(queue, events=[watching])
        harness.call(pool.drain)
        eventually(lambda: HELD[-1]() is None)
    finally:
        gc.enable()
    assert watching.seen == [("KeyError('nothing here')", True)]


def test_the_exception_is_no_part_of_the_failure_but_for_hooks() -> None:
    report = ErrorReport("ValueError", "", "here.py:1")
    failure = Failure.by(ValueError(), report)
    assert failure == Failure(report)
    assert hash(failure) == hash(Failure(report))
    assert isinstance(failure.exception, ValueError)
    assert Failure(report).exception is None
    assert pickle.loads(pickle.dumps(failure)) == failure
    assert copy.copy(failure).exception is copy.deepcopy(failure).exception is failure._replace().exception is None
    match failure:
        case Failure(error, delay):
            assert (error, delay) == (report, None)


class Exploding(Exception):
    """Raises whatever is looked at."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise SystemExit

    def __str__(self) -> NoReturn:
        raise SystemExit

    __repr__ = __str__


class ThreadedExploding(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedExploding", max_retries=0)

    def run(self, queue: Any) -> None:
        raise Exploding


class AsyncExploding(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncExploding", max_retries=0)

    async def run(self, queue: Any) -> None:
        raise Exploding


class Touching(Events):
    def __init__(self) -> None:
        self.replaced = 0

    def run_ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        assert isinstance(result, Failure)
        raise result.exception or AssertionError

    def worker_replaced(self, pool_id: UUID, reason: str) -> None:
        self.replaced += 1


def test_an_exception_that_raises_when_it_is_looked_at_ends_no_worker(harness: Harness) -> None:
    queue = harness.memory_queue(MemoryState())
    touching = Touching()
    pool = harness.pool(queue, events=[touching], log_tracebacks=True)
    for _ in range(2):
        row = harness.call(queue.insert_task, (ThreadedExploding if harness.mode == "threaded" else AsyncExploding)())
        harness.call(pool.drain)
        assert harness.call(queue.find_task_by_id, row.id).state is TaskState.FAILED
    harness.stop(pool)
    assert touching.replaced == 0
