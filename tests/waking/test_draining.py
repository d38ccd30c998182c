"""drain() on a pool that runs: what was inserted before it has run, whatever was under way; and the pool goes on."""

import asyncio
from threading import Event
from typing import Any

import pytest

from fang_core.backends.memory.state import MemoryState
from tests.modes import GATES, Database, Harness, IdlePools, eventually, harness_of, ran
from tests.patience import PATIENT


def test_a_claim_that_was_under_way_does_not_end_a_drain(
    harness: Harness, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = harness.memory_queue(MemoryState())
    pool = harness.pool(queue)
    idle_pools.wait()
    claimed, inserted = Event(), Event()

    def hold(claim: Any) -> None:
        claimed.set()
        inserted.wait(PATIENT)

    harness.wrap(monkeypatch, pool._lifetime.store, "claim", after=hold)
    pool._lifetime.claimer.wake() if harness.mode == "threaded" else harness.call(
        call_on_loop, pool._lifetime.claimer.wake
    )
    assert claimed.wait(PATIENT)
    harness.call(queue.insert_task, harness.note(n=1))
    drained = harness.begin(pool.drain)
    eventually(lambda: pool._lifetime.claimer._drains)
    inserted.set()
    assert drained.result(PATIENT) == 1


async def call_on_loop(function: Any) -> None:
    function()


def test_drains_at_once_all_end(harness: Harness) -> None:
    queue = harness.memory_queue(MemoryState())
    pool = harness.pool(queue)
    for n in range(5):
        harness.call(queue.insert_task, harness.note(n=n, waits=True))
        (number,) = ran()
        assert number == n
        drains = [harness.begin(pool.drain) for _ in range(4)]
        eventually(lambda: len(pool._lifetime.claimer._drains) == 4)
        GATES["gate"].set()
        assert [drain.result(PATIENT) for drain in drains] == [1, 1, 1, 1]
        GATES["gate"].clear()


def test_stop_ends_a_drain(harness: Harness) -> None:
    queue = harness.memory_queue(MemoryState())
    pool = harness.pool(queue)
    harness.call(queue.insert_task, harness.note(waits=True))
    ran()
    drain = harness.begin(pool.drain)
    eventually(lambda: pool._lifetime.claimer._drains)
    stopped = harness.begin(pool.stop)
    eventually(pool._lifetime.stopping.is_set)
    late = harness.begin(pool.drain)
    GATES["gate"].set()
    assert stopped.result(PATIENT) == 0
    assert drain.result(PATIENT) == 1
    late.result(PATIENT)


def test_a_drained_pool_is_woken_by_inserts(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue)
    harness.call(queue.insert_task, harness.note(n=1))
    assert harness.call(pool.drain) <= 1
    assert ran() == [1]
    idle_pools.wait()
    eventually(lambda: database.waiting == [True])
    harness.call(queue.insert_task, harness.note(n=2))
    assert ran() == [2]


def test_a_cancelled_drain_leaves_the_pool_as_it_was(url: str, database: Database, idle_pools: IdlePools) -> None:
    with harness_of("async") as harness:
        queue = harness.queue(url)
        pool = harness.pool(queue)
        idle_pools.wait()
        harness.call(queue.insert_task, harness.note(n=1, waits=True))
        ran()

        async def drain_in_vain() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await pool.drain()

        harness.call(drain_in_vain)
        GATES["gate"].set()
        idle_pools.wait()
        assert database.waiting == [True]
        harness.call(queue.insert_task, harness.note(n=2))
        assert ran() == [2]
