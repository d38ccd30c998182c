"""What is claimed ahead goes back where no worker takes it in time, and another pool runs it."""

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest

from fang_core import AsyncRunnable, ClaimedTask, Events, RetentionMode, Runnable, TaskConfig
from fang_core.stock import PATIENCE
from tests.modes import GATES, Database, Nights, Side, eventually, ran
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


def prefetching(side: Side, queue: Any, **options: Any) -> Any:
    """A pool of two that was busy with short tasks until now."""
    pool = side.pool(queue, number_of_workers=2, **options)
    for _ in range(500):
        pool._shift.supply._demand.observe(0.0001)
    pool._shift.supply._stock.pace = 10_000.0
    pool._shift.supply._stock.most = 1_000
    return pool


def test_what_waits_behind_long_runs_is_run_by_another_pool(
    side: Side, url: str, database: Database, nights: Nights
) -> None:
    queue = side.queue(url)
    busy = prefetching(side, queue)
    nights.fall()
    side.call(queue.insert_tasks, [side.note(n=0, waits=True), side.note(n=1, waits=True)])
    side.call(queue.insert_tasks, [side.note(n=n) for n in range(2, 22)])
    assert ran(2) == [0, 1]
    side.pool(queue, retention_mode=RetentionMode.KEEP_ALL)  # an hour's poll: it must be woken
    assert ran(20) == list(range(2, 22))
    uncharged = [("in_progress", 2, 1, 0), ("finished", 20, 2, 0)]  # these were given back once
    eventually(lambda: database.rows(STATES) == uncharged)
    assert busy._shift.supply.given_back == 20


def test_it_is_claimed_again_only_when_a_worker_is_free(
    side: Side, url: str, database: Database, nights: Nights
) -> None:
    queue = side.queue(url)
    busy = prefetching(side, queue)
    nights.fall()
    side.call(queue.insert_tasks, [*[side.note(waits=True) for _ in range(2)], *[side.note(n=n) for n in range(1, 6)]])
    assert ran(2) == [0, 0]
    eventually(lambda: [(row[0], *row[1:3]) for row in database.rows(STATES)] == [("new", 5, 1), ("in_progress", 2, 1)])
    eventually(lambda: busy._shift.claimer._waits_for_hunger)
    assert busy._shift.supply.wanted(time.monotonic()) == 0
    GATES["gate"].set()
    assert ran(5) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("completes", [False, True])
def test_a_busy_pool_alone_claims_each_task_once(
    side: Side, url: str, completes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its workers are free and start nothing, since they share a processor; no other pool could take what waits."""
    count = Claimed()
    queue = side.queue(url)
    compute = ThreadedCompute if side.mode == "threaded" else AsyncCompute
    side.call(queue.insert_tasks, [compute(milliseconds=n % 10, url=url if completes else "") for n in range(100)])
    side.pool(queue, number_of_workers=50, events=[count])
    eventually(lambda: count.ended == 100, within=60)
    assert count.claimed == 100
    assert "lost" not in caplog.text


@pytest.mark.timeout(240)
def test_processes_with_a_long_task_in_a_hundred(side: Side, url: str, tmp_path: Path) -> None:
    """In one trial of three: a machine may be crowded for a while. Without give-back tasks wait in each."""
    seen = []
    for _ in range(3):
        seen.append(waits(side.mode, url, tmp_path, tasks=2_000, long=2, workers=3)[-1])  # 20 long ones for 12 workers
        if seen[-1] <= PATIENCE + SLACK:
            return
    pytest.fail(f"the longest wait of each trial: {seen}")
