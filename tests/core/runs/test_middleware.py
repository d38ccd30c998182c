"""Middleware around a run, in both colours: its order, its context, its exceptions, and what is no middleware."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from fang_core import AsyncRunnable, Cancel, DefinitionError, Runnable, Snooze, TaskConfig, UsageError, current_run
from fang_core.lifecycle import SUCCESS, Cancelled, Failure, Result, Snoozed
from fang_core.record import ClaimedTask
from fang_core.runs.execution import Execution
from fang_core.runs.run import Run
from fang_core.tasks.middleware import Middleware, checked_middleware
from fang_core.tasks.runnable import BaseRunnable

BOUND: ContextVar[str] = ContextVar("bound", default="nothing")
SEEN: list[object] = []
DOES: list[Callable[[], None]] = []


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    SEEN.clear()
    DOES.clear()


def act() -> None:
    SEEN.append("run")
    for does in DOES:
        does()


def noting(name: str) -> Middleware:
    @contextmanager
    def noted(run: Run) -> Iterator[None]:
        assert run is current_run()
        SEEN.append(f"{name} begins")
        yield
        SEEN.append(f"{name} ends")

    return noted


class Plain(Runnable):
    task_config = TaskConfig(kind="middleware.Plain", middleware=[noting("class")])

    def run(self, queue: Any) -> None:
        act()


class Suspends(AsyncRunnable):
    task_config = TaskConfig(kind="middleware.Suspends", middleware=[noting("class")])

    async def run(self, queue: Any) -> None:
        await asyncio.sleep(0)
        act()
        await asyncio.sleep(0)


class Bare(Suspends):
    task_config = TaskConfig(kind="middleware.Bare", middleware=[])


@pytest.fixture(params=[Plain, Suspends])
def cls(request: pytest.FixtureRequest) -> type[BaseRunnable]:
    chosen: type[BaseRunnable] = request.param
    return chosen


def perform(cls: type[BaseRunnable], *middleware: Middleware) -> Result:
    now = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
    run = Run(ClaimedTask(uuid4(), "kind", json.dumps({}), 1, 0, 20, 0, "common", 0, now), uuid4())
    execution = Execution(lambda _: cls, "the queue", middleware=middleware)
    result = asyncio.run(execution.perform_async(run)) if cls.__fang_mode__ == "async" else execution.perform(run)
    assert run.over
    return result


def raises(error: BaseException) -> Callable[[], None]:
    def does() -> None:
        raise error

    return does


def test_the_pools_goes_around_the_class_and_the_first_around_the_second(cls: type[BaseRunnable]) -> None:
    assert perform(cls, noting("first"), noting("second")) is SUCCESS
    assert [
        *("first begins", "second begins", "class begins"),
        "run",
        *("class ends", "second ends", "first ends"),
    ] == SEEN


def test_a_subclass_inherits_it_or_sets_its_own() -> None:
    class Heir(Suspends):
        task_config = TaskConfig(kind="middleware.Heir")

    assert perform(Heir) is SUCCESS
    assert SEEN == ["class begins", "run", "class ends"]
    SEEN.clear()
    assert perform(Bare) is SUCCESS
    assert SEEN == ["run"]


def test_what_it_sets_is_seen_by_the_run_and_nobody_else(cls: type[BaseRunnable]) -> None:
    @contextmanager
    def binding(run: Run) -> Iterator[None]:
        token = BOUND.set("a session")
        yield
        BOUND.reset(token)  # raises if this is another context

    DOES.append(lambda: SEEN.append(BOUND.get()))
    assert perform(cls, binding) is SUCCESS
    assert "a session" in SEEN
    assert BOUND.get() == "nothing"


def test_it_sees_the_exception_of_the_run(cls: type[BaseRunnable]) -> None:
    seen: list[BaseException] = []

    @contextmanager
    def looking(run: Run) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append(error)
            raise

    error = ValueError("no")
    DOES.append(raises(error))
    result = perform(cls, looking)
    assert seen == [error]
    assert isinstance(result, Failure)
    assert result.exception is error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Snooze(timedelta(seconds=3)), Snoozed(timedelta(seconds=3))),
        (Cancel("over quota"), Cancelled("over quota")),
        (SystemExit(3), Failure),
        (KeyboardInterrupt(), Failure),
    ],
)
@pytest.mark.parametrize("when", ["before", "after", "instead"])
def test_what_it_raises_counts_as_the_runs(
    cls: type[BaseRunnable], when: str, raised: BaseException, expected: Any
) -> None:
    @contextmanager
    def raising(run: Run) -> Iterator[None]:
        if when == "before":
            raise raised
        try:
            yield
        finally:
            raise raised

    if when == "instead":
        DOES.append(raises(ValueError("the run's own")))
    result = perform(cls, raising)
    assert result == expected if isinstance(expected, tuple) else isinstance(result, expected)
    assert ("run" in SEEN) == (when != "before")


def test_a_manager_that_suppresses_the_exception_makes_it_a_success(cls: type[BaseRunnable]) -> None:
    DOES.append(raises(ValueError("no")))
    assert perform(cls, lambda run: suppress(ValueError)) is SUCCESS


@asynccontextmanager
async def opened(run: Run) -> AsyncIterator[None]:
    await asyncio.sleep(0)
    SEEN.append("opened")
    try:
        yield
    finally:
        await asyncio.sleep(0)
        SEEN.append("closed")


def test_an_asyncio_task_takes_async_managers_too() -> None:
    assert perform(Suspends, opened, noting("second")) is SUCCESS
    assert SEEN == ["opened", "second begins", "class begins", "run", "class ends", "second ends", "closed"]


@pytest.mark.parametrize("broken", [lambda run: None, lambda run: "text"])
def test_what_returns_no_manager_is_named(cls: type[BaseRunnable], broken: Any) -> None:
    result = perform(cls, broken)
    assert isinstance(result, Failure)
    assert "the middleware" in result.error.message
    assert "<lambda>" in result.error.message
    assert result.error.message.endswith(": is @contextmanager missing?")
    assert "run" not in SEEN


def test_threads_take_no_async_manager() -> None:
    result = perform(Plain, opened)
    assert isinstance(result, Failure)
    assert "must return a context manager, not an async one in a pool of threads" in result.error.message


def test_what_was_entered_is_left_when_the_next_cannot_be_entered(cls: type[BaseRunnable]) -> None:
    entered: list[str] = []

    class Manager(AbstractContextManager[None]):
        def __enter__(self) -> None:
            entered.append("in")

        def __exit__(self, *error: object) -> None:
            entered.append("out")

    assert isinstance(perform(cls, lambda run: Manager(), lambda run: None), Failure)  # type: ignore[arg-type, return-value]
    assert entered == ["in", "out"]


@contextmanager
def opened_by_mistake(run: Any = None) -> Iterator[None]:
    yield


def takes_nothing() -> AbstractContextManager[None]:
    return nullcontext()


def yields(run: Any) -> Iterator[None]:
    yield


async def is_awaited(run: Any) -> None: ...


async def yields_async(run: Any) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (opened_by_mistake(), "_GeneratorContextManager is a context manager: give the function that makes it"),
        (nullcontext(), "nullcontext is a context manager|middleware is a list of functions"),
        (yields, "yields must return a context manager: is @contextmanager missing?"),
        (is_awaited, "is_awaited must return a context manager"),
        (yields_async, "yields_async must return a context manager"),
        (takes_nothing, "must take one argument, the run"),
        (lambda run, queue: nullcontext(), "must take one argument, the run"),
    ],
)
def test_what_can_be_seen_to_make_no_manager_is_refused_at_once(wrong: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked_middleware([wrong])


@pytest.mark.parametrize("make", [opened_by_mistake, nullcontext, partial(opened_by_mistake), lambda *_: nullcontext()])
def test_whatever_can_be_called_with_a_run_is_taken(make: Any) -> None:
    assert checked_middleware([make]) == (make,)


@pytest.mark.parametrize("wrong", ["text", 3, [3], noting("alone"), {noting("set")}])
def test_what_is_no_list_of_functions_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="middleware is a list of functions"):
        checked_middleware(wrong)
    with pytest.raises(DefinitionError, match=r"Wrong\.task_config\.middleware: middleware is a list of functions"):

        class Wrong(Runnable):
            task_config = TaskConfig(kind="middleware.Wrong", middleware=wrong)

            def run(self, queue: Any) -> None: ...
