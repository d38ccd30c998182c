"""drain() on a pool that runs: what was inserted before it has run, whatever was under way; and the pool goes on."""

import asyncio
from threading import Event
from typing import Any

import pytest

from fang_core.memory_state import MemoryState
from tests.modes import GATES, Database, Nights, Side, eventually, ran, side_of


def test_a_claim_that_was_under_way_does_not_end_a_drain(
    side: Side, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = side.memory_queue(MemoryState())
    pool = side.pool(queue)
    nights.fall()
    claimed, inserted = Event(), Event()

    def hold(claim: Any) -> None:
        claimed.set()
        inserted.wait(5)

    side.wrap(monkeypatch, pool._shift.store, "claim", after=hold)
    pool._shift.claimer.wake() if side.mode == "threaded" else side.call(call_on_loop, pool._shift.claimer.wake)
    assert claimed.wait(5)
    side.call(queue.insert_task, side.note(n=1))
    drained = side.begin(pool.drain)
    eventually(lambda: pool._shift._drains)
    inserted.set()
    assert drained.result(5) == 1


async def call_on_loop(function: Any) -> None:
    function()


def test_drains_at_once_all_end(side: Side) -> None:
    queue = side.memory_queue(MemoryState())
    pool = side.pool(queue)
    for n in range(5):
        side.call(queue.insert_task, side.note(n=n, waits=True))
        (number,) = ran()
        assert number == n
        drains = [side.begin(pool.drain) for _ in range(4)]
        eventually(lambda: len(pool._shift._drains) == 4)
        GATES["gate"].set()
        assert [drain.result(5) for drain in drains] == [1, 1, 1, 1]
        GATES["gate"].clear()


def test_stop_ends_a_drain(side: Side) -> None:
    queue = side.memory_queue(MemoryState())
    pool = side.pool(queue)
    side.call(queue.insert_task, side.note(waits=True))
    ran()
    drain = side.begin(pool.drain)
    eventually(lambda: pool._shift._drains)
    stopped = side.begin(pool.stop)
    eventually(pool._shift.stopping.is_set)
    late = side.begin(pool.drain)
    GATES["gate"].set()
    assert stopped.result(5) == 0
    assert drain.result(5) == 1
    late.result(5)


def test_a_drained_pool_is_woken_by_inserts(side: Side, url: str, database: Database, nights: Nights) -> None:
    queue = side.queue(url)
    pool = side.pool(queue)
    side.call(queue.insert_task, side.note(n=1))
    assert side.call(pool.drain) <= 1
    assert ran() == [1]
    nights.fall()
    eventually(lambda: database.waiting == [True])
    side.call(queue.insert_task, side.note(n=2))
    assert ran() == [2]


def test_a_cancelled_drain_leaves_the_pool_as_it_was(url: str, database: Database, nights: Nights) -> None:
    with side_of("async") as side:
        queue = side.queue(url)
        pool = side.pool(queue)
        nights.fall()
        side.call(queue.insert_task, side.note(n=1, waits=True))
        ran()

        async def drain_in_vain() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await pool.drain()

        side.call(drain_in_vain)
        GATES["gate"].set()
        nights.fall()
        assert database.waiting == [True]
        side.call(queue.insert_task, side.note(n=2))
        assert ran() == [2]
