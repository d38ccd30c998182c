"""Every change of a task's state: decided in one place, and held to its table here."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fang_core import Cancel, Constant, RetentionMode, RetryAfter, Snooze, TaskConfig, TaskState
from fang_core.backends.claims import ClaimRequest
from fang_core.backends.memory.queue import MemoryQueue
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.pools import PoolRecord
from fang_core.crashes import after_crash
from fang_core.failure import ErrorReport
from fang_core.lifecycle import (
    DUE_STATES,
    NOT_RUN,
    SUCCESS,
    TERMINAL_STATES,
    TRANSITIONS,
    Cancelled,
    Crashed,
    Failure,
    NotRun,
    Outcome,
    Result,
    Snoozed,
    Success,
    decide,
    result_of,
    unstorable,
)
from fang_core.record import ClaimedTask
from fang_core.tasks.runnable import Runnable
from tests.driven import Driven
from tests.examples import as_often

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STEADY = Constant(delay=MINUTE, jitter=0)
ERROR = ErrorReport("ValueError: no", None)


def claimed(retries: int = 0, max_retries: int = 20, crashes: int = 0, attempt: int = 1) -> ClaimedTask:
    return ClaimedTask(uuid4(), "Some", "{}", attempt, retries, max_retries, crashes, "common", 0, NOW)


delays = st.timedeltas(timedelta(0), timedelta(days=3660))
texts = st.text(max_size=30)
tasks = st.builds(
    claimed,
    retries=st.integers(0, 30),
    max_retries=st.integers(0, 30),
    crashes=st.integers(0, 3),
    attempt=st.integers(1, 2**40),
)
failures = st.builds(Failure, st.builds(ErrorReport, texts, st.none() | texts), st.none() | delays)
results = st.one_of(
    *(st.just(SUCCESS), failures, st.builds(Snoozed, delays), st.builds(Cancelled, texts), st.just(NOT_RUN)),
    st.builds(Crashed, st.none() | st.integers(-70, 255)),
)
retentions = st.sampled_from(RetentionMode)


# decide(), over everything -------------------------------------------------------------------------------------------


@as_often(3)
@given(tasks, results, retentions)
def test_decide_keeps_to_the_table(task: ClaimedTask, result: Result, retention: RetentionMode) -> None:
    outcome = decide(task, result, retention=retention, backoff=STEADY)

    assert (outcome.id, outcome.attempt) == (task.id, task.attempt)
    assert outcome.state in TRANSITIONS[type(result)]
    assert outcome.state is not TaskState.IN_PROGRESS
    # Charged exactly when retried after a failure, and never beyond what the task allows.
    charged = isinstance(result, Failure) and outcome.state is TaskState.RETRIED
    assert outcome.charge == int(charged)
    if charged:
        assert task.retries + outcome.charge <= task.max_retries
    # Whatever waits again says when, but for a task that is given back as it was.
    if not isinstance(result, Crashed):
        assert (outcome.delay is not None) == (outcome.state in DUE_STATES and not isinstance(result, NotRun))
    assert outcome.charges_crash == isinstance(result, Crashed)


@given(tasks, failures, retentions)
def test_a_failure_is_retried_until_its_retries_are_spent(
    task: ClaimedTask, failure: Failure, retention: RetentionMode
) -> None:
    outcome = decide(task, failure, retention=retention, backoff=STEADY)

    if task.retries < task.max_retries:
        assert (outcome.state, outcome.charge) == (TaskState.RETRIED, 1)
        assert outcome.delay == (MINUTE if failure.delay is None else failure.delay)
    else:
        assert outcome.state is (None if retention is RetentionMode.REMOVE_ALL else TaskState.FAILED)
    if outcome.state is not None:
        assert outcome.error_message == failure.error.message
        assert json.loads(outcome.error_entry or "") == {
            "number": task.attempt,
            "error": failure.error.message,
            "traceback": failure.error.traceback,
        }


@given(tasks, st.builds(Snoozed, delays) | st.just(NOT_RUN), retentions)
def test_what_did_not_fail_is_not_charged(
    task: ClaimedTask, result: Snoozed | NotRun, retention: RetentionMode
) -> None:
    outcome = decide(task, result, retention=retention, backoff=STEADY)

    is_snoozed = isinstance(result, Snoozed)
    touched = task.retries + (0 if is_snoozed else task.crashes) > 0
    delay = result.delay if isinstance(result, Snoozed) else None
    state = TaskState.RETRIED if touched else TaskState.NEW
    assert outcome == Outcome(task.id, task.attempt, state, delay, forgets_crashes=is_snoozed)


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_the_backoff_is_asked_with_the_failures_charged_so_far(retries: int) -> None:
    asked = []

    def backoff(failures: int) -> timedelta:
        asked.append(failures)
        return MINUTE * failures

    task = claimed(retries=retries, max_retries=5)
    outcome = decide(task, Failure(ERROR), retention=RetentionMode.KEEP_ALL, backoff=backoff)

    assert asked == [retries + 1]
    assert outcome.delay == MINUTE * (retries + 1)


def test_a_delay_of_its_own_does_without_the_backoff() -> None:
    def never(_: int) -> timedelta:
        raise AssertionError

    failure = Failure(ERROR, timedelta(0))
    outcome = decide(claimed(), failure, retention=RetentionMode.KEEP_ALL, backoff=never)

    assert (outcome.state, outcome.delay, outcome.charge) == (TaskState.RETRIED, timedelta(0), 1)


KEEP_ALL, REMOVE_ALL, REMOVE_FINISHED = RetentionMode.KEEP_ALL, RetentionMode.REMOVE_ALL, RetentionMode.REMOVE_FINISHED
REMOVED = None
SPENT = claimed(retries=3, max_retries=3)


@pytest.mark.parametrize(
    ("result", "retention", "state"),
    [
        (SUCCESS, KEEP_ALL, TaskState.FINISHED),
        (SUCCESS, REMOVE_FINISHED, REMOVED),
        (SUCCESS, REMOVE_ALL, REMOVED),
        (Failure(ERROR), KEEP_ALL, TaskState.FAILED),
        (Failure(ERROR), REMOVE_FINISHED, TaskState.FAILED),
        (Failure(ERROR), REMOVE_ALL, REMOVED),
        (Cancelled("why"), KEEP_ALL, TaskState.CANCELLED),
        (Cancelled("why"), REMOVE_FINISHED, TaskState.CANCELLED),
        (Cancelled("why"), REMOVE_ALL, REMOVED),
        (Snoozed(MINUTE), KEEP_ALL, TaskState.RETRIED),
        (Snoozed(MINUTE), REMOVE_FINISHED, TaskState.RETRIED),
        (Snoozed(MINUTE), REMOVE_ALL, TaskState.RETRIED),
        (NOT_RUN, KEEP_ALL, TaskState.RETRIED),
        (NOT_RUN, REMOVE_FINISHED, TaskState.RETRIED),
        (NOT_RUN, REMOVE_ALL, TaskState.RETRIED),
    ],
)
def test_retention(result: Result, retention: RetentionMode, state: TaskState | None) -> None:
    """What becomes of a row whose retries are spent."""
    assert decide(SPENT, result, retention=retention, backoff=STEADY).state is state


def test_the_table_names_every_result_and_every_state_but_in_progress() -> None:
    assert set(TRANSITIONS) == {Success, Failure, Snoozed, Cancelled, NotRun, Crashed}
    reached = set().union(*TRANSITIONS.values())
    assert reached == (set(TaskState) - {TaskState.IN_PROGRESS}) | {None}
    assert set(DUE_STATES) | set(TERMINAL_STATES) | {TaskState.IN_PROGRESS} == set(TaskState)


@given(tasks, st.integers(1, 10), retentions)
def test_the_death_of_a_child_means_what_that_of_a_lone_pool_does(
    task: ClaimedTask, max_crashes: int, retention: RetentionMode
) -> None:
    outcome = decide(task, Crashed(-9), retention=retention, backoff=STEADY, max_crashes=max_crashes)
    row = MemoryQueue().insert_task(Doomed())._replace(attempt=task.attempt, crashes=task.crashes)
    after = after_crash(row, was_stopping=False, held=1, workers=1, max_crashes=max_crashes)
    assert (outcome.state, outcome.delay) == (after.state, after.delay)
    said = f"crashed: the child process of its run died (SIGKILL), {after.crashes} of {max_crashes} times"
    assert outcome.error_message == said
    assert json.loads(outcome.error_entry or "") == {"number": task.attempt, "error": said, "traceback": None}


@pytest.mark.parametrize(
    ("exit_code", "cause"),
    [
        (3, "exit code 3"),
        (0, "exit code 0"),
        (-11, "SIGSEGV"),
        (-63, "signal 63"),
        (None, "its exit code is not known"),
    ],
)
def test_how_a_child_ended_is_said(exit_code: int | None, cause: str) -> None:
    assert Crashed(exit_code).cause == cause


def test_a_cancelled_task_carries_its_reason() -> None:
    outcome = decide(SPENT, Cancelled("not wanted"), retention=KEEP_ALL, backoff=STEADY)

    assert (outcome.error_message, outcome.error_entry) == ("not wanted", None)


@given(tasks, results, retentions)
def test_the_substitute_of_an_unstorable_outcome_fails_the_task(
    task: ClaimedTask, result: Result, retention: RetentionMode
) -> None:
    outcome = decide(task, result, retention=retention, backoff=STEADY)
    substitute = unstorable(outcome)

    assert (substitute.id, substitute.attempt, substitute.state) == (task.id, task.attempt, TaskState.FAILED)
    assert substitute.charge == 0
    assert json.loads(substitute.error_entry or "")["number"] == task.attempt
    assert unstorable(substitute) == substitute  # so that a plan can see that there is nothing more to try


# result_of() ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Snooze(MINUTE), Snoozed(MINUTE)),
        (Snooze(-MINUTE), Snoozed(timedelta(0))),
        (Snooze(timedelta.max), Snoozed(timedelta(days=3660))),
        (Cancel("enough"), Cancelled("enough")),
        (Cancel("a\0b\udc80"), Cancelled("a␀b?")),
        (Cancel(), Cancelled("")),
        (RetryAfter(MINUTE), Failure(ErrorReport("RetryAfter: retry after 0:01:00", ""), MINUTE)),
        (RetryAfter(-MINUTE, "busy"), Failure(ErrorReport("RetryAfter: busy", ""), timedelta(0))),
        (ValueError("no"), Failure(ErrorReport("ValueError: no", ""))),
        (SystemExit(3), Failure(ErrorReport("SystemExit: 3", ""))),
        (KeyboardInterrupt(), Failure(ErrorReport("KeyboardInterrupt", ""))),
        (
            BaseExceptionGroup("two", [SystemExit(1), ValueError()]),
            Failure(ErrorReport("BaseExceptionGroup: two (2 sub-exceptions)\n- SystemExit: 1\n- ValueError", "")),
        ),
        (ExceptionGroup("of a task group", [Snooze(MINUTE)]), Snoozed(MINUTE)),
        (ExceptionGroup("outer", [BaseExceptionGroup("inner", [Cancel("enough")])]), Cancelled("enough")),
        (
            ExceptionGroup("one", [RetryAfter(MINUTE)]),
            Failure(
                ErrorReport("ExceptionGroup: one (1 sub-exception)\n- RetryAfter: retry after 0:01:00", ""), MINUTE
            ),
        ),
        (
            ExceptionGroup("two", [Cancel("a"), Cancel("b")]),
            Failure(ErrorReport("ExceptionGroup: two (2 sub-exceptions)\n- Cancel: a\n- Cancel: b", "")),
        ),
    ],
    ids=repr,
)
def test_what_an_exception_means(error: BaseException, result: Result) -> None:
    assert result_of(error) == result


def test_a_reason_that_cannot_be_told_cancels_all_the_same() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise SystemExit

    assert result_of(Cancel(Hostile())) == Cancelled("<its __str__ raised SystemExit>")  # type: ignore[arg-type]


@pytest.mark.parametrize("signal", [Snooze, RetryAfter])
def test_a_delay_must_be_a_timedelta(signal: Any) -> None:
    with pytest.raises(TypeError, match="a delay is a timedelta, not int"):
        signal(60)


# Exceptions of classes that do as they like ---------------------------------------------------------------------------


class HalfASnooze(Snooze):
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class HalfARetry(RetryAfter):
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


@pytest.mark.parametrize("cls", [HalfASnooze, HalfARetry])
@pytest.mark.parametrize("attributes", [{}, {"delay": 60}, {"delay": None}, {"delay": "1 h"}], ids=repr)
def test_a_delay_that_is_none_is_a_failure(cls: Any, attributes: dict[str, Any]) -> None:
    assert result_of(cls(**attributes)) == Failure(ErrorReport(cls.__name__, ""))


def test_a_delay_that_was_set_later_is_bounded_too() -> None:
    assert result_of(HalfASnooze(delay=timedelta.max)) == Snoozed(timedelta(days=3660))
    assert result_of(HalfARetry(delay=-MINUTE)) == Failure(ErrorReport("HalfARetry", ""), timedelta(0))


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit


class Disguised(Exception):
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise KeyError("no class")


@pytest.mark.parametrize(
    ("error", "why"), [(Nameless("Bad", (Exception,), {})(), "SystemExit"), (Disguised(), "KeyError")], ids=["", "-"]
)
def test_an_exception_that_cannot_be_looked_at_is_a_failure(error: BaseException, why: str) -> None:
    message = f"FangError: the run's exception cannot be described: {why}"
    assert result_of(error) == Failure(ErrorReport(message, None))


# Whole lives over the memory backend ----------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Doomed(Runnable):
    task_config = TaskConfig(kind="lifecycle.Doomed", backoff=STEADY)

    def run(self, queue: object) -> None:
        raise ValueError("always")


class Life:
    """One task and one pool."""

    def __init__(self, max_retries: int, retention: RetentionMode = KEEP_ALL) -> None:
        self.clock = Clock()
        self.queue = MemoryQueue(state=MemoryState(self.clock))
        self.store = Driven(self.queue.store())
        self.retention = retention
        self.pool = uuid4()
        self.store.register(PoolRecord(self.pool, "threaded", "host", 1, ("common",), ("lifecycle.Doomed",), 1))
        self.id = self.queue.insert_task(Doomed(), max_retries=max_retries).id
        self.runs = 0

    def claim(self) -> ClaimedTask | None:
        request = ClaimRequest(self.pool, ("common",), ("lifecycle.Doomed",), 10)
        return next(iter(self.store.claim(request).tasks), None)

    def end(self, task: ClaimedTask, result: Result) -> set[UUID]:
        return self.store.complete(self.pool, [decide(task, result, retention=self.retention, backoff=STEADY)])

    def run_once(self) -> bool:
        task = self.claim()
        if task is None:
            return False
        self.runs += 1
        with pytest.raises(ValueError, match="always") as caught:
            Doomed().run(self.queue)
        assert self.end(task, result_of(caught.value)) == {task.id}
        return True


@pytest.mark.parametrize("max_retries", [0, 1, 2, 7, 20])
def test_a_task_that_always_fails_runs_once_more_than_it_may_be_retried(max_retries: int) -> None:
    life = Life(max_retries)

    for _ in range(max_retries + 5):
        life.run_once()
        life.clock.now += MINUTE

    assert life.runs == max_retries + 1
    row = life.queue.find_task_by_id(life.id)
    assert row is not None
    assert (row.state, row.retries, row.attempt) == (TaskState.FAILED, max_retries, max_retries + 1)
    assert row.error_message == "ValueError: always"


def test_a_retried_task_waits_for_its_delay() -> None:
    life = Life(3)

    assert life.run_once()
    assert not life.run_once()
    life.clock.now += MINUTE - timedelta(microseconds=1)
    assert not life.run_once()
    life.clock.now += timedelta(microseconds=1)
    assert life.run_once()


class AnyLife(RuleBasedStateMachine):
    """A task is claimed, run, given back and snoozed in any order: the row never says what did not happen."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(max_retries=3)
        self.held: ClaimedTask | None = None
        self.failures = self.claims = 0
        self.over = False

    def _end(self, result: Result) -> None:
        assert self.held is not None
        assert self.life.end(self.held, result) == {self.held.id}
        assert self.life.end(self.held, result) == set()  # the fence has closed
        self.held = None

    @precondition(lambda self: self.held is None)
    @rule()
    def claim(self) -> None:
        self.held = self.life.claim()
        assert (self.held is None) == self.over
        self.claims += self.held is not None

    @precondition(lambda self: self.held)
    @rule(delay=st.none() | st.timedeltas(timedelta(0), MINUTE))
    def fail(self, delay: timedelta | None) -> None:
        self._end(Failure(ERROR, delay))
        self.failures += 1
        self.over = self.failures == 4
        self.life.clock.now += MINUTE

    @precondition(lambda self: self.held)
    @rule()
    def give_back(self) -> None:
        self._end(NOT_RUN)

    @precondition(lambda self: self.held)
    @rule(delay=st.timedeltas(timedelta(0), MINUTE))
    def snooze(self, delay: timedelta) -> None:
        self._end(Snoozed(delay))
        self.life.clock.now += MINUTE

    @precondition(lambda self: self.held)
    @rule()
    def succeed(self) -> None:
        self._end(SUCCESS)
        self.over = True

    @invariant()
    def the_row_tells_the_truth(self) -> None:
        row = self.life.queue.find_task_by_id(self.life.id)
        assert row is not None
        assert row.attempt == self.claims
        assert row.retries == min(self.failures, 3)
        assert len(row.errors) == self.failures
        assert (row.pool_id is not None) == (row.state is TaskState.IN_PROGRESS) == (self.held is not None)
        assert (row.state in TERMINAL_STATES) == self.over
        if row.state in DUE_STATES:
            assert row.state is (TaskState.RETRIED if self.failures else TaskState.NEW)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(as_often(0.5), stateful_step_count=20)
