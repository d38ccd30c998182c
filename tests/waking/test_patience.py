"""What is claimed ahead goes back where no worker takes it in time, and another pool runs it."""

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest

from fang_async import AsyncWorkerPool
from fang_core import AsyncMemoryQueue, AsyncRunnable, ClaimedTask, Events, RetentionMode, Runnable, TaskConfig
from fang_core.claims.prefetch import PATIENCE
from fang_core.pool.claimer import Claimer
from tests.modes import GATES, Database, Harness, IdlePools, eventually, ran
from tests.waking.longs import waits

SLACK = 0.85
"""Seconds that a crowded machine may take beyond the patience; without give-back tasks waited for two seconds."""

STATES = "SELECT state, count(*), max(attempt), sum(retries + crashes) FROM fang.fang_tasks GROUP BY 1 ORDER BY 1"


class Claimed(Events):
    def __init__(self) -> None:
        self.claimed = self.ended = 0

    def tasks_claimed(self, pool_id: UUID, count: int) -> None:
        self.claimed += count

    def run_ended(self, task: ClaimedTask, result: Any, seconds: float) -> None:
        self.ended += 1


def compute(milliseconds: int) -> None:
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        pass


class ThreadedCompute(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedCompute")
    milliseconds: int
    url: str

    def run(self, queue: Any) -> None:
        compute(self.milliseconds)
        if self.url:
            with psycopg.connect(self.url) as connection:
                queue.complete(connection=connection)


class AsyncCompute(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncCompute")
    milliseconds: int
    url: str

    async def run(self, queue: Any) -> None:
        compute(self.milliseconds)
        await asyncio.sleep(0.02)
        if self.url:
            connection = await asyncpg.connect(self.url)
            async with connection.transaction():
                await queue.complete(connection=connection)
            await connection.close()


def prefetching(harness: Harness, queue: Any, **options: Any) -> Any:
    """A pool of two that was busy with short tasks until now."""
    pool = harness.pool(queue, number_of_workers=2, **options)
    for _ in range(500):
        pool._lifetime.dispatch._demand.observe(0.0001)
    pool._lifetime.dispatch._buffer.pace = 10_000.0
    pool._lifetime.dispatch._buffer.most = 1_000
    return pool


def test_what_waits_behind_long_runs_is_run_by_another_pool(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    busy = prefetching(harness, queue)
    idle_pools.wait()
    harness.call(
        queue.insert_tasks,  # at once: a pool whose workers are slow to start might claim none ahead of the long ones
        [*[harness.note(n=n, waits=True) for n in range(2)], *[harness.note(n=n) for n in range(2, 22)]],
    )
    assert ran(2) == [0, 1]
    harness.pool(queue, retention_mode=RetentionMode.KEEP_ALL)  # an hour's poll: it must be woken
    assert ran(20) == list(range(2, 22))
    uncharged = [("in_progress", 2, 1, 0), ("finished", 20, 2, 0)]  # what was given back, was so once
    eventually(lambda: database.rows(STATES) == uncharged)
    assert 0 < busy._lifetime.dispatch.given_back <= 20  # workers that are slow to start have it claim fewer ahead


def test_it_is_claimed_again_only_when_a_worker_is_free(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    busy = prefetching(harness, queue)
    idle_pools.wait()
    harness.call(
        queue.insert_tasks, [*[harness.note(waits=True) for _ in range(2)], *[harness.note(n=n) for n in range(1, 6)]]
    )
    assert ran(2) == [0, 0]
    eventually(lambda: [(row[0], *row[1:3]) for row in database.rows(STATES)] == [("new", 5, 1), ("in_progress", 2, 1)])
    eventually(lambda: busy._lifetime.claimer._waits_for_workers is not None)
    assert busy._lifetime.dispatch.wanted(time.monotonic()) == 0
    GATES["gate"].set()
    assert ran(5) == [1, 2, 3, 4, 5]


class Suspends(AsyncRunnable):
    async def run(self, queue: Any) -> None:
        await asyncio.sleep(0)


def test_a_pool_whose_loop_stood_still_keeps_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task then waits too long, and no worker has taken one; nor could it."""
    hand_out, stood_still = Claimer._hand_out, list[int]()

    async def stands_still(claimer: Claimer, claim: Any, began: float, *, is_busy: bool) -> None:
        dispatch = claimer._dispatch
        waiting = dispatch._run_queue.backlog
        if waiting and not dispatch._free(waiting, dispatch._run_queue.ended_runs) and not stood_still:
            stood_still.append(waiting)
            time.sleep(PATIENCE + 0.05)  # noqa: ASYNC251 - blocks the loop
        await hand_out(claimer, claim, began, is_busy=is_busy)

    monkeypatch.setattr(Claimer, "_hand_out", stands_still)
    queue = AsyncMemoryQueue()
    pool = AsyncWorkerPool(queue)

    async def drain() -> int:
        await queue.insert_tasks([Suspends() for _ in range(500)])
        return await pool.drain()

    assert asyncio.run(drain()) == 500
    assert stood_still
    assert pool.stats().given_back == 0


@pytest.mark.parametrize("completes", [False, True])
def test_a_busy_pool_alone_claims_each_task_once(
    harness: Harness, url: str, completes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its workers are free and start nothing, since they share a processor; no other pool could take what waits."""
    count = Claimed()
    queue = harness.queue(url)
    compute = ThreadedCompute if harness.mode == "threaded" else AsyncCompute
    harness.call(queue.insert_tasks, [compute(milliseconds=n % 10, url=url if completes else "") for n in range(100)])
    harness.pool(queue, number_of_workers=50, events=[count])
    eventually(lambda: count.ended == 100)
    assert count.claimed == 100
    assert "lost" not in caplog.text


@pytest.mark.long  # it measures waits in seconds; the tests above show that what waits goes to another pool
def test_processes_with_a_long_task_in_a_hundred(harness: Harness, url: str, tmp_path: Path) -> None:
    """In one trial of three: a machine may be crowded for a while. Without give-back tasks wait in each."""
    seen = []
    for _ in range(3):
        seen.append(
            waits(harness.mode, url, tmp_path, tasks=2_000, long=2, workers=3)[-1]
        )  # 20 long ones for 12 workers
        if seen[-1] <= PATIENCE + SLACK:
            return
    pytest.fail(f"the longest wait of each trial: {seen}")
