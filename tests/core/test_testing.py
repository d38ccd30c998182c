"""The helpers for users' tests."""

import asyncio
import subprocess
import sys
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from pydantic import ConfigDict

from fang_async import AsyncWorkerPool
from fang_core import (
    AsyncMemoryQueue,
    AsyncQueueable,
    AsyncRunnable,
    Cancel,
    ClaimedTask,
    MemoryQueue,
    NotInRun,
    PayloadError,
    Queueable,
    RetryAfter,
    Runnable,
    Snooze,
    TaskConfig,
    UsageError,
    current_run,
)
from fang_core.runs.run import Run
from fang_core.testing import (
    SUCCESS,
    Cancelled,
    Clock,
    Failure,
    Result,
    Snoozed,
    assert_inserted,
    inserted,
    perform,
    perform_async,
    refute_inserted,
)
from fang_threaded import WorkerPool

HOUR = timedelta(hours=1)
RAISED: dict[str, BaseException] = {
    "error": ValueError("no"),
    "exit": SystemExit(3),
    "snooze": Snooze(HOUR),
    "cancel": Cancel("gone"),
    "later": RetryAfter(HOUR, "busy"),
    "interrupt": KeyboardInterrupt(),
    "framework": pytest.fail.Exception("from inside"),
}
RUNS: list[Run] = []
LEFT: ContextVar[str] = ContextVar("left", default="nothing")


class Step(Runnable):
    task_config = TaskConfig(kind="testing.Step", task_type="steps", priority=1, max_retries=3)
    path: Path = Path("/")
    n: int = 0
    raises: str = ""

    def run(self, queue: Queueable) -> None:
        RUNS.append(current_run())
        assert LEFT.get() == "nothing"
        LEFT.set("something")
        if self.raises:
            raise RAISED[self.raises]
        queue.insert_task(Step(path=self.path / "next", n=self.n + 1), delay=HOUR)


class AsyncStep(AsyncRunnable):
    task_config = TaskConfig(kind="testing.AsyncStep", task_type="steps", priority=1, max_retries=3)
    path: Path = Path("/")
    n: int = 0
    raises: str = ""

    async def run(self, queue: AsyncQueueable) -> None:
        await asyncio.sleep(0)
        RUNS.append(current_run())
        assert LEFT.get() == "nothing"
        LEFT.set("something")
        if self.raises:
            raise RAISED[self.raises]
        await queue.insert_task(AsyncStep(path=self.path / "next", n=self.n + 1), delay=HOUR)


class Other(Runnable):
    task_config = TaskConfig(kind="testing.Other")
    model_config = ConfigDict(extra="allow")

    def run(self, queue: Queueable) -> None: ...


def performed(task: Any, *args: Any, **options: Any) -> Result:
    """In the task's own colour."""
    if isinstance(task, Runnable):
        return perform(task, *args, **options)
    return asyncio.run(perform_async(task, *args, **options))


@pytest.fixture(params=[(Step, MemoryQueue), (AsyncStep, AsyncMemoryQueue)], ids=["threaded", "async"])
def colour(request: pytest.FixtureRequest) -> Any:
    RUNS.clear()
    return request.param


# perform --------------------------------------------------------------------------------------------------------------


def test_a_run_inserts_into_the_queue_it_is_handed(colour: Any) -> None:
    step, make_queue = colour
    queue = make_queue()
    assert performed(step(path=Path("/a"), n=1), queue) is SUCCESS
    [found] = inserted(queue, step)
    assert found.task == step(path=Path("/a/next"), n=2)
    assert found.row.scheduled_at == found.row.created_at + HOUR


def test_a_run_without_a_queue_is_handed_an_empty_one(colour: Any) -> None:
    assert performed(colour[0]()) is SUCCESS


def test_what_a_run_says_is_the_result(colour: Any) -> None:
    step, _ = colour
    assert performed(step(raises="snooze")) == Snoozed(HOUR)
    assert performed(step(raises="cancel")) == Cancelled("gone")
    failure = performed(step(raises="error"))
    assert isinstance(failure, Failure)
    assert (failure.error.message, failure.delay) == ("ValueError: no", None)
    assert "raise RAISED[self.raises]" in (failure.error.traceback or "")
    later = performed(step(raises="later"))
    assert isinstance(later, Failure)
    assert (later.error.message, later.delay) == ("RetryAfter: busy", HOUR)
    assert isinstance(performed(step(raises="exit")), Failure)


@pytest.mark.parametrize("raises", ["interrupt", "framework"])
def test_what_is_meant_for_the_test_itself_passes_through(raises: str) -> None:
    with pytest.raises(type(RAISED[raises])):
        perform(Step(raises=raises))
    assert RUNS.pop().over


async def test_a_cancellation_of_the_test_passes_through() -> None:
    entered = asyncio.Event()

    class Waits(AsyncRunnable):
        task_config = TaskConfig(kind="testing.Waits")

        async def run(self, queue: AsyncQueueable) -> None:
            entered.set()
            await asyncio.Event().wait()

    test = asyncio.create_task(perform_async(Waits()))
    await entered.wait()
    test.cancel()
    with pytest.raises(asyncio.CancelledError):
        await test


def test_the_run_is_current_and_ends_and_leaves_nothing(colour: Any) -> None:
    step, _ = colour
    performed(step(n=3), retries=2)
    [run] = RUNS
    assert run.over
    assert run.task == ClaimedTask(
        run.task.id,
        step.task_config["kind"],
        '{"path": "/", "n": 3, "raises": ""}',
        attempt=3,
        retries=2,
        max_retries=3,
        crashes=0,
        task_type="steps",
        priority=1,
        scheduled_at=run.task.scheduled_at,
    )
    assert LEFT.get() == "nothing"
    with pytest.raises(NotInRun):
        current_run()


def test_a_task_is_read_back_from_what_is_stored(colour: Any) -> None:
    task = colour[0]()
    task.path = "/a"  # which a worker would read as a Path
    with pytest.raises(PayloadError, match=r"\.path: is of type str and would be read back as PosixPath"):
        performed(task)
    task.path = Path("/\0")
    with pytest.raises(PayloadError, match=r"path.*NUL"):
        performed(task)
    assert not RUNS


def test_the_wrong_colour_says_which_one_is_right() -> None:
    with pytest.raises(UsageError, match="AsyncStep is an AsyncRunnable: await perform_async"):
        perform(AsyncStep())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"Step is a Runnable: call perform\("):
        asyncio.run(perform_async(Step()))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Step is a class"):
        perform(Step)  # type: ignore[arg-type]


# inserted -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def queue() -> MemoryQueue:
    queue = MemoryQueue()
    queue.insert_tasks([Step(path=Path(path), n=n) for path, n in [("/a", 1), ("/b", 1), ("/b", 2)]], priority=-1)
    queue.insert_task(Other())
    return queue


def test_inserted_finds_by_class_and_fields_in_order(queue: MemoryQueue) -> None:
    assert [task.n for task, _ in inserted(queue, Step)] == [1, 1, 2]
    assert [task.path for task, _ in inserted(queue, Step, n=1)] == [Path("/a"), Path("/b")]
    assert [row for _, row in inserted(queue, Step, n=2, path=Path("/b"))] == [queue.tasks[2]]
    assert len(inserted(queue, Step, path=ANY, n=2)) == 1
    assert inserted(queue, AsyncStep) == []


def test_assert_inserted_returns_the_first(queue: MemoryQueue) -> None:
    assert assert_inserted(queue, Step, path=Path("/b")) == (Step(path=Path("/b"), n=1), queue.tasks[1])


def test_assert_inserted_names_the_near_misses_nearest_first(queue: MemoryQueue) -> None:
    with pytest.raises(AssertionError) as raised:
        assert_inserted(queue, Step, n=2, path=Path("/a"), raises="")
    assert str(raised.value) == (
        "no Step with n=2, path=PosixPath('/a'), raises='' was inserted; these were, nearest first:\n"
        "  n=1\n"
        "  path=PosixPath('/b')\n"
        "  n=1, path=PosixPath('/b')"
    )


def test_assert_inserted_says_what_is_there_where_nothing_is_near(queue: MemoryQueue) -> None:
    there = "no AsyncStep was inserted; the queue holds 3 testing.Step, 1 testing.Other"
    with pytest.raises(AssertionError, match=f"^{there}$"):
        assert_inserted(queue, AsyncStep)
    with pytest.raises(AssertionError, match=r"the queue holds nothing$"):
        assert_inserted(MemoryQueue(), Step)


def test_refute_inserted_shows_what_was(queue: MemoryQueue) -> None:
    refute_inserted(queue, AsyncStep)
    refute_inserted(queue, Step, n=3)
    with pytest.raises(AssertionError) as raised:
        refute_inserted(queue, Step, n=2)
    assert str(raised.value) == (
        "no Step with n=2 was expected, but these were inserted:\n  Step(path=PosixPath('/b'), n=2, raises='')"
    )


def test_a_message_shows_five_and_counts_the_rest() -> None:
    queue = MemoryQueue()
    queue.insert_tasks([Step(n=n) for n in range(8)])
    with pytest.raises(AssertionError, match=r"first:(\n  n=\d){5}\n  and 3 more$"):
        assert_inserted(queue, Step, n=9)


@pytest.mark.parametrize("ask", [inserted, assert_inserted, refute_inserted])
def test_a_misspelt_field_is_an_error_and_no_refutation(queue: MemoryQueue, ask: Any) -> None:
    with pytest.raises(UsageError, match="Step has no field pathh"):
        ask(queue, Step, pathh=Path("/a"))


def test_extra_fields_can_be_asked_for() -> None:
    queue = MemoryQueue()
    queue.insert_task(Other.model_validate({"colour": "red"}))
    assert_inserted(queue, Other, colour="red")
    refute_inserted(queue, Other, colour="blue")
    refute_inserted(queue, Other, shape="round")


# Clock ----------------------------------------------------------------------------------------------------------------


def test_a_clock_stands_until_it_is_moved() -> None:
    start = datetime(2024, 2, 29, 23, tzinfo=UTC)
    clock = Clock(start)
    assert clock() == clock() == clock.now == start
    clock.advance(2 * HOUR)
    assert clock() == datetime(2024, 3, 1, 1, tzinfo=UTC)
    clock.now = start
    assert clock() == start
    with pytest.raises(UsageError, match="zone"):
        clock.now = datetime(2024, 1, 1)  # noqa: DTZ001 - that is the point
    assert abs(Clock()() - datetime.now(UTC)) < HOUR


def test_a_drain_runs_what_the_clock_makes_due() -> None:
    clock = Clock()
    queue = MemoryQueue(clock=clock)
    queue.insert_task(Step(), delay=HOUR)
    pool = WorkerPool(queue, task_type="steps")
    assert pool.drain() == 0
    clock.advance(HOUR)
    assert pool.drain() == 1
    clock.advance(HOUR)
    assert pool.drain() == 1
    assert assert_inserted(queue, Step).task.n == 2


async def test_the_same_in_asyncio() -> None:
    clock = Clock()
    queue = AsyncMemoryQueue(clock=clock)
    await queue.insert_task(AsyncStep(), delay=HOUR)
    pool = AsyncWorkerPool(queue, task_type="steps")
    assert await pool.drain() == 0
    clock.advance(HOUR)
    assert await pool.drain() == 1


def test_no_test_framework_is_needed() -> None:
    code = "import sys; sys.modules['pytest'] = None; import fang_core.testing"
    subprocess.run([sys.executable, "-c", code], check=True)
