"""One run, in both colours: what it sees, what its exception means, and what it leaves behind."""

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import pytest

from fang_core import AsyncRunnable, Cancel, RetryAfter, Runnable, Snooze, TaskConfig, current_run
from fang_core.errors import TimedOut
from fang_core.lifecycle import NOT_RUN, SUCCESS, Cancelled, Failure, Result, Snoozed
from fang_core.record import ClaimedTask
from fang_core.runs.execution import Execution
from fang_core.runs.interrupt import Interrupt, Interruption
from fang_core.runs.run import Run
from fang_core.tasks.runnable import BaseRunnable

LEFT: ContextVar[str] = ContextVar("left", default="nothing")
Does = Callable[[], object]
DOES: dict[str, Does] = {}
NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)


class Plain(Runnable):
    task_config = TaskConfig(kind="execution.Plain")
    what: Literal["act"] = "act"

    def run(self, queue: Any) -> Any:
        assert queue == "the queue"
        return DOES["act"]()


class Suspends(AsyncRunnable):
    task_config = TaskConfig(kind="execution.Suspends")
    what: Literal["act"] = "act"

    async def run(self, queue: Any) -> Any:
        await asyncio.sleep(0)
        done = DOES["act"]()
        assert queue == "the queue"
        await asyncio.sleep(0)
        return done


class Straight(AsyncRunnable):
    task_config = TaskConfig(kind="execution.Straight")
    what: Literal["act"] = "act"

    async def run(self, queue: Any) -> Any:
        assert queue == "the queue"
        return DOES["act"]()


KINDS: dict[str, type[BaseRunnable]] = {"plain": Plain, "suspends": Suspends, "straight": Straight}


def claimed(kind: str, payload: object = None) -> Run:
    text = json.dumps(payload or {})
    return Run(ClaimedTask(uuid4(), kind, text, 1, 0, 20, 0, "common", 0, NOW), uuid4())


def perform(execution: Execution, run: Run) -> Result:
    if run.task.kind == "plain":
        return execution.perform(run)
    return asyncio.run(execution.perform_async(run))


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Run:
    return claimed(request.param)


def execution(**options: Any) -> Execution:
    return Execution(KINDS.__getitem__, "the queue", **options)


def raising(error: BaseException) -> Does:
    def act() -> None:
        raise error

    return act


def test_a_run_sees_itself_and_leaves_no_variable_behind(run: Run) -> None:
    seen: list[tuple[Run, str, bool]] = []

    def act() -> None:
        seen.append((current_run(), LEFT.get(), run.over))
        LEFT.set("something")

    DOES["act"] = act
    mine = execution()
    again = claimed(run.task.kind)
    assert [perform(mine, run), perform(mine, again)] == [SUCCESS, SUCCESS]
    assert seen == [(run, "nothing", False), (again, "nothing", True)]
    assert run.over
    assert LEFT.get() == "nothing"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_every_exception_is_a_result(run: Run, error: BaseException) -> None:
    DOES["act"] = raising(error)
    result = perform(execution(), run)
    assert isinstance(result, Failure)
    assert result.exception is error
    assert result.error.place is not None
    assert os.path.basename(__file__) in result.error.place
    assert run.over


def test_what_a_run_says_is_its_result(run: Run) -> None:
    snooze = Snooze(datetime.resolution)
    DOES["act"] = raising(snooze)
    assert perform(execution(), run) == Snoozed(datetime.resolution)


async def asleep() -> None:
    await asyncio.sleep(0)


def two() -> Iterator[int]:
    yield from (1, 2)


async def each() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("middleware", [[], [lambda _: nullcontext()]], ids=["alone", "inside"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (asleep, "run returned a coroutine that nobody has awaited, so its code has not run: await it"),
        (two, "run returned a generator, so its code has not run: it must not yield"),
        (each, "run returned a generator, so its code has not run: it must not yield"),
        (lambda: Snooze(datetime.resolution), "run returned Snooze: raise it"),
        (lambda: RetryAfter(datetime.resolution), "run returned RetryAfter: raise it"),
        (lambda: Cancel("no"), "run returned Cancel: raise it"),
    ],
    ids=["coroutine", "generator", "async generator", "Snooze", "RetryAfter", "Cancel"],
)
def test_a_run_that_returns_what_it_should_do_has_failed(
    run: Run, make: Callable[[], object], message: str, middleware: list[Any]
) -> None:
    DOES["act"] = make
    result = perform(execution(middleware=middleware), run)
    assert isinstance(result, Failure)
    assert result.error.message == f"UsageError: {message}"


@pytest.mark.parametrize("value", [5, "text", [1], ValueError("no"), object()], ids=lambda value: type(value).__name__)
def test_what_else_a_run_returns_is_ignored(run: Run, value: object) -> None:
    DOES["act"] = lambda: value
    assert perform(execution(), run) == SUCCESS


def test_what_is_not_to_be_caught_leaves_a_run_that_is_over(run: Run) -> None:
    DOES["act"] = raising(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        perform(execution(catches=(Exception, SystemExit)), run)
    assert run.over


class Ends(BaseException):
    """Is what a mode interrupts runs with, in these tests."""


def interrupted(run: Run, why: Interrupt, reason: str = "") -> Run:
    run.interruption = Interruption(why, reason, 0.0)
    return run


ENDED = BaseExceptionGroup("", [Ends(), BaseExceptionGroup("", [Ends()])])
MIXED = BaseExceptionGroup("", [Ends(), ValueError()])


@pytest.mark.parametrize("error", [Ends(), ENDED])
@pytest.mark.parametrize(
    ("why", "result"),
    [(Interrupt.SHUTDOWN, NOT_RUN), (Interrupt.LOST, NOT_RUN), (Interrupt.CANCELLED, Cancelled("not needed"))],
)
def test_a_run_that_ends_by_its_interruption_has_the_result_of_that(
    run: Run, error: BaseException, why: Interrupt, result: Result
) -> None:
    DOES["act"] = raising(error)
    assert perform(execution(interruption=Ends), interrupted(run, why, "not needed")) == result


@pytest.mark.parametrize("error", [Ends(), ENDED])
def test_a_run_that_ends_by_its_time_limit_has_timed_out_where_it_was(run: Run, error: BaseException) -> None:
    DOES["act"] = raising(error)
    result = perform(execution(interruption=Ends), interrupted(run, Interrupt.TIME_LIMIT))
    assert isinstance(result, Failure)
    assert result.error.message.startswith("TimedOut: the run took longer than its timeout")
    assert os.path.basename(__file__) in str(result.error.place)
    assert "in act" in str(result.error.traceback)
    assert isinstance(result.exception, TimedOut)


@pytest.mark.parametrize("why", Interrupt)
@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Snooze(datetime.resolution), Snoozed(datetime.resolution)),
        (Cancel("mine"), Cancelled("mine")),
        (RetryAfter(datetime.resolution), None),
        (ValueError("no"), None),
        (MIXED, None),
    ],
)
def test_what_an_interrupted_run_answers_counts_except_failures_of_a_cancelled_one(
    run: Run, why: Interrupt, error: BaseException, result: Result | None
) -> None:
    DOES["act"] = raising(error)
    came_to = perform(execution(interruption=Ends), interrupted(run, why, "not needed"))
    if result is not None:
        assert came_to == result
    elif why is Interrupt.CANCELLED and not isinstance(error, RetryAfter):
        assert came_to == Cancelled("not needed")
    else:
        assert isinstance(came_to, Failure)
        assert came_to.exception is error


@pytest.mark.parametrize("error", [Ends(), ValueError()])
@pytest.mark.parametrize("why", [Interrupt.SHUTDOWN, Interrupt.LOST])
def test_a_cancelled_run_that_went_on_until_it_was_interrupted_again_is_cancelled(
    run: Run, why: Interrupt, error: BaseException
) -> None:
    DOES["act"] = raising(error)
    Interruption(why, "", 9.0).begin(interrupted(run, Interrupt.CANCELLED, "not needed"))
    assert perform(execution(interruption=Ends), run) == Cancelled("not needed")


def test_a_higher_reason_replaces_a_lower_one_and_stuck_runs_are_counted_from_the_first(run: Run) -> None:
    for first, then in itertools.product(Interrupt, Interrupt):
        interrupted(run, first)
        assert Interruption(then, "", 9.0).applies_to(run) is ([*Interrupt].index(then) > [*Interrupt].index(first))
    interrupted(run, Interrupt.TIME_LIMIT)
    Interruption(Interrupt.LOST, "", 9.0).begin(run)
    assert run.interrupt is Interrupt.LOST
    assert run.interruption is not None
    assert run.interruption.asked_at == 0.0


@pytest.mark.parametrize("why", Interrupt)
def test_an_interrupted_run_that_returns_has_succeeded(run: Run, why: Interrupt) -> None:
    DOES["act"] = lambda: None
    assert perform(execution(), interrupted(run, why)) is SUCCESS


def test_the_exception_of_an_interruption_that_nobody_asked_for_is_a_failure(run: Run) -> None:
    DOES["act"] = raising(Ends())
    assert isinstance(perform(execution(interruption=Ends), run), Failure)


@pytest.mark.parametrize(
    ("kind", "payload"), [(kind, {"what": "else"}) for kind in KINDS] + [(f"{kind} no more", {}) for kind in KINDS]
)
def test_what_cannot_be_loaded_has_failed(kind: str, payload: object) -> None:
    run = claimed(kind, payload)
    result = perform(execution(), run)
    assert isinstance(result, Failure)
    assert "else" not in str(result.error.place)
    assert run.over


@pytest.mark.parametrize(("kind", "times"), [("plain", 0), ("straight", 0), ("suspends", 1)])
def test_the_first_suspension_is_told(kind: str, times: int) -> None:
    told: list[None] = []
    DOES["act"] = lambda: None
    assert perform(execution(on_suspended=lambda: told.append(None)), claimed(kind)) is SUCCESS
    assert len(told) == times


async def test_a_cancellation_reaches_the_run_in_its_context() -> None:
    entered, seen = asyncio.Event(), []

    class Waits(AsyncRunnable):
        task_config = TaskConfig(kind="execution.Waits")

        async def run(self, queue: Any) -> Any:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append(current_run())

    run = claimed("waits")
    performing = asyncio.create_task(Execution(lambda _: Waits, "the queue").perform_async(run))
    await entered.wait()
    performing.cancel()
    assert await performing is SUCCESS
    assert seen == [run]
