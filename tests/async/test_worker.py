"""Each run stands alone: its context, its cancellation, its exceptions; over the memory backend."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from fang_async import AsyncWorkerPool
from fang_core import (
    AsyncMemoryQueue,
    AsyncRunnable,
    Cancel,
    Constant,
    Events,
    RetentionMode,
    RetryAfter,
    Snooze,
    TaskConfig,
    TaskState,
    current_run,
)
from tests.patience import PATIENT

LEAK: ContextVar[str] = ContextVar("leak", default="clean")
SEEN: list[Any] = []
GATE: dict[str, asyncio.Event] = {}
ONCE = TaskConfig(max_retries=0, backoff=Constant(delay=timedelta(0)))


class Leaky(AsyncRunnable):
    suspend: bool = False

    async def run(self, queue: Any) -> None:
        SEEN.append(LEAK.get())
        LEAK.set("dirty")
        if self.suspend:
            await asyncio.sleep(0)
        SEEN.append((LEAK.get(), current_run().task.kind))


class Raises(AsyncRunnable):
    task_config = ONCE
    what: str

    async def run(self, queue: Any) -> None:
        await asyncio.sleep(0)
        raise {
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "cancelled": asyncio.CancelledError(),
            "generator": GeneratorExit(),
            "recursion": RecursionError(),
            "group": BaseExceptionGroup("g", [SystemExit()]),
        }[self.what]


class CancelsItself(AsyncRunnable):
    task_config = ONCE

    async def run(self, queue: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


class Waits(AsyncRunnable):
    task_config = ONCE
    swallow: bool = False

    async def run(self, queue: Any) -> None:
        GATE["started"].set()
        try:
            await GATE["open"].wait()
        except asyncio.CancelledError:
            SEEN.append("cancelled")
            if not self.swallow:
                raise
            await GATE["open"].wait()


class Answers(AsyncRunnable):
    """Waits until it is cancelled, and answers that as its field says."""

    task_config = TaskConfig(max_retries=3, backoff=Constant(delay=timedelta(minutes=1), jitter=0))
    answer: str

    async def run(self, queue: Any) -> None:
        GATE["started"].set()
        try:
            await GATE["open"].wait()
        except asyncio.CancelledError as cancelled:
            match self.answer:
                case "it returns":
                    return
                case "snooze":
                    raise Snooze(timedelta(hours=1)) from None
                case "cancel":
                    raise Cancel("no more") from cancelled
                case "retry after":
                    raise RetryAfter(timedelta(hours=2)) from cancelled
                case "error":
                    raise OSError("the connection is gone") from None
                case "group with an error":
                    raise BaseExceptionGroup("", [cancelled, ExceptionGroup("", [OSError("gone")])]) from None
                case "group of cancellations":
                    raise BaseExceptionGroup(
                        "", [cancelled, BaseExceptionGroup("", [asyncio.CancelledError()])]
                    ) from None
            raise
        finally:
            if self.answer == "error of its cleanup":
                raise OSError("cannot roll back")


class Replaced(Events):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def worker_replaced(self, pool_id: Any, reason: str) -> None:
        self.reasons.append(reason)


async def drained(*tasks: AsyncRunnable, workers: int = 1, **options: Any) -> AsyncMemoryQueue:
    SEEN.clear()
    queue = AsyncMemoryQueue()
    await queue.insert_tasks(tasks)
    assert await AsyncWorkerPool(queue, number_of_workers=workers, **options).drain() == len(tasks)
    return queue


async def test_context_variables_do_not_leak_into_the_next_run() -> None:
    await drained(Leaky(), Leaky(suspend=True), Leaky())
    assert SEEN == ["clean", ("dirty", "Leaky")] * 3


async def test_every_exception_is_an_outcome() -> None:
    kinds = ["exit", "interrupt", "cancelled", "generator", "recursion", "group"]
    queue = await drained(*(Raises(what=what) for what in kinds))
    assert {task.state for task in queue.tasks} == {TaskState.FAILED}


async def test_a_cancellation_left_behind_costs_the_worker_and_no_other_run() -> None:
    events = Replaced()
    queue = await drained(CancelsItself(), Leaky(suspend=True), Leaky(), events=[events])
    assert queue.tasks == []
    assert events.reasons == ["a cancellation left behind"]


async def fails() -> None:
    await asyncio.sleep(0)
    raise OSError("gone")


class Groups(AsyncRunnable):
    """Its groups fail while they are left, or while their bodies go on, and one in the other."""

    task_config = ONCE
    catches: bool
    cancels: bool = False

    async def run(self, queue: Any) -> None:
        for body in (0, 3600):
            with suppress(*[ExceptionGroup] * self.catches):
                async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
                    outer.create_task(fails())
                    inner.create_task(fails())
                    await asyncio.sleep(body)
        if self.cancels:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        SEEN.append("went on")


@pytest.mark.parametrize("catches", [False, True])
async def test_a_group_of_a_run_leaves_no_cancellation_behind(catches: bool) -> None:
    events = Replaced()
    await drained(*[Groups(catches=catches)] * 3, events=[events])
    assert (events.reasons, SEEN) == ([], ["went on"] * 3 * catches)


async def test_a_cancellation_beside_that_of_a_group_is_left_behind() -> None:
    events = Replaced()
    await drained(Groups(catches=True, cancels=True), Leaky(), events=[events])
    assert events.reasons == ["a cancellation left behind"]


async def test_a_worker_that_fails_beside_its_run_is_replaced_and_the_task_is_not_lost(monkeypatch: Any) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("fang_core.runs.execution.result_of", fail)
    events = Replaced()
    queue = await drained(Raises(what="exit"), Leaky(), events=[events])
    assert events.reasons == ["MemoryError"]
    assert [(task.state, task.error_message) for task in queue.tasks] == [
        (TaskState.FAILED, "FangError: the worker failed outside of the run")
    ]


async def test_stop_gives_back_what_was_not_started_and_what_it_cut_short() -> None:
    SEEN.clear()
    GATE.update(started=asyncio.Event(), open=asyncio.Event())
    queue = AsyncMemoryQueue()
    await queue.insert_tasks([Waits() for _ in range(5)])
    pool = AsyncWorkerPool(queue, grace_period=timedelta(0))
    await pool.start()
    await asyncio.wait_for(GATE["started"].wait(), PATIENT)
    assert await pool.stop() == 0
    assert SEEN == ["cancelled"]
    assert {(task.state, task.retries, task.pool_id) for task in queue.tasks} == {(TaskState.NEW, 0, None)}
    assert queue.state.pools == {}


@pytest.mark.parametrize(
    ("answer", "state", "retries", "due_in", "says"),
    [
        ("it returns", TaskState.FINISHED, 0, None, None),
        ("snooze", TaskState.NEW, 0, timedelta(hours=1), None),
        ("cancel", TaskState.CANCELLED, 0, None, "no more"),
        ("retry after", TaskState.RETRIED, 1, timedelta(hours=2), "RetryAfter"),
        ("error", TaskState.RETRIED, 1, timedelta(minutes=1), "OSError: the connection is gone"),
        ("error of its cleanup", TaskState.RETRIED, 1, timedelta(minutes=1), "OSError: cannot roll back"),
        ("group with an error", TaskState.RETRIED, 1, timedelta(minutes=1), "BaseExceptionGroup"),
        ("group of cancellations", TaskState.NEW, 0, None, None),
        ("nothing of its own", TaskState.NEW, 0, None, None),
    ],
)
async def test_what_a_run_answers_to_its_cancellation_at_shutdown_counts(
    answer: str, state: TaskState, retries: int, due_in: timedelta | None, says: str | None
) -> None:
    GATE.update(started=asyncio.Event(), open=asyncio.Event())
    queue = AsyncMemoryQueue()
    inserted = await queue.insert_task(Answers(answer=answer))
    pool = AsyncWorkerPool(queue, grace_period=timedelta(0), retention_mode=RetentionMode.KEEP_ALL)
    await pool.start()
    await asyncio.wait_for(GATE["started"].wait(), PATIENT)
    assert await pool.stop() == 0
    (task,) = queue.tasks
    assert (task.state, task.retries, task.pool_id) == (state, retries, None)
    assert (task.scheduled_at - inserted.scheduled_at) // timedelta(minutes=1) == (due_in or timedelta(0)) // timedelta(
        minutes=1
    )
    assert (task.error_message or "").startswith(says or "")
    assert (task.error_message is None) == (says is None)


async def test_a_run_that_swallows_its_cancellation_stays_held_until_it_ends() -> None:
    SEEN.clear()
    GATE.update(started=asyncio.Event(), open=asyncio.Event())
    queue = AsyncMemoryQueue()
    task = await queue.insert_task(Waits(swallow=True))
    pool = AsyncWorkerPool(queue, grace_period=timedelta(0))
    await pool.start()
    await asyncio.wait_for(GATE["started"].wait(), PATIENT)
    assert await pool.stop() == 1
    row = await queue.find_task_by_id(task.id)
    assert row is not None
    assert row.state is TaskState.IN_PROGRESS
    GATE["open"].set()
    await pool._lifetime.workers.join()


async def test_a_start_that_fails_and_is_cancelled_leaves_nothing_behind() -> None:
    @contextmanager
    def broken() -> Iterator[None]:
        asyncio.get_running_loop().call_soon(starting.cancel)  # strikes while the pool leaves, before it has any worker
        raise ValueError
        yield

    queue = AsyncMemoryQueue()
    pool = AsyncWorkerPool(queue, lifespan=broken)
    starting = asyncio.create_task(pool.start())
    with pytest.raises(asyncio.CancelledError):
        await starting
    lingering = pool._lingering
    assert lingering is not None
    assert await lingering.join(PATIENT)
    assert pool.is_clean
    assert await queue.pools() == []


async def test_a_pool_can_be_started_again() -> None:
    queue = AsyncMemoryQueue()
    pool = AsyncWorkerPool(queue)
    for _ in range(2):
        await queue.insert_task(Leaky())
        assert await pool.drain() == 1


class CleansUp(AsyncRunnable):
    task_config = TaskConfig(max_retries=0, timeout=timedelta(milliseconds=10))

    async def run(self, queue: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            GATE["started"].set()
            await asyncio.Event().wait()


def test_a_loop_that_ends_while_a_run_cleans_up_after_its_limit_does_not_wait_for_its_worker() -> None:
    async def leave_the_pool_running() -> None:
        GATE["started"] = asyncio.Event()
        queue = AsyncMemoryQueue()
        await queue.insert_task(CleansUp())
        await AsyncWorkerPool(queue).start()
        await GATE["started"].wait()

    asyncio.run(leave_the_pool_running())  # which cancels what goes on, and waits for that
