"""start() and stop() at once, from wherever they are called."""

from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from fang_core import AsyncRunnable, Runnable, SchemaError, UsageError
from fang_core.memory_state import MemoryState
from tests.modes import GATES, RAN, Database, Nights, Side, eventually, ran

POOLS: dict[str, Any] = {}


class ThreadedStopper(Runnable):
    def run(self, queue: Any) -> None:
        RAN.put(1)
        GATES["gate"].wait()
        RAN.put(POOLS["pool"].stop())


class AsyncStopper(AsyncRunnable):
    async def run(self, queue: Any) -> None:
        RAN.put(1)
        await POOLS["pool"]._shift.stopping.wait()
        RAN.put(await POOLS["pool"].stop())


def test_stop_waits_for_the_start_that_is_under_way(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    state = MemoryState()
    pool = side.pool(side.memory_queue(state))
    side.call(pool.stop)
    opening, go_on = Event(), Event()

    def hold(*_: Any) -> None:
        opening.set()
        go_on.wait(5)

    side.wrap(monkeypatch, type(pool._shift.store), "register", before=hold)
    started = side.begin(pool.start)
    assert opening.wait(5)
    stopped = side.begin(pool.stop)
    go_on.set()
    started.result(5)
    assert stopped.result(5) == 0
    side.call(pool.start)
    assert len(state.pools) == 1
    assert side.call(pool.stop) == 0
    assert not state.pools
    assert not state.listeners


def test_of_two_starts_one_is_refused(side: Side) -> None:
    pool = side.pool(side.memory_queue(MemoryState()))
    with pytest.raises(UsageError, match="running already"):
        side.call(pool.start)


def test_stops_at_once_all_return_when_the_pool_has_stopped(side: Side) -> None:
    state = MemoryState()
    queue = side.memory_queue(state)
    pool = side.pool(queue)
    side.call(queue.insert_task, side.note(waits=True))
    ran()
    stops = [side.begin(pool.stop) for _ in range(3)]
    eventually(pool._shift.stopping.is_set)
    assert not any(stop.done() for stop in stops)
    GATES["gate"].set()
    assert [stop.result(5) for stop in stops] == [0, 0, 0]
    assert not state.pools


def test_a_run_that_asks_for_the_stop_that_waits_for_it_goes_on(side: Side) -> None:
    queue = side.memory_queue(MemoryState())
    pool = POOLS["pool"] = side.pool(queue)
    side.call(queue.insert_task, ThreadedStopper() if side.mode == "threaded" else AsyncStopper())
    ran()
    stopped = side.begin(pool.stop)
    eventually(pool._shift.stopping.is_set)
    GATES["gate"].set()
    assert stopped.result(5) == 0
    assert ran() == [0]


def test_a_start_that_fails_leaves_nothing_and_can_be_repeated(
    side: Side, url: str, database: Database, nights: Nights
) -> None:
    database.execute("ALTER TABLE fang.fang_pools RENAME TO away")
    queue = side.queue(url)
    other = side.queue(url)
    with pytest.raises(SchemaError):
        side.pool(queue)
    assert not queue.is_open
    database.execute("ALTER TABLE fang.away RENAME TO fang_pools")
    (pool,) = side._pools
    side.call(pool.start)
    nights.fall()
    side.call(other.insert_task, side.note(n=1))
    assert ran() == [1]


def test_a_claim_that_is_under_way_has_time_to_end_whatever_the_grace_period(
    side: Side, monkeypatch: pytest.MonkeyPatch, nights: Nights
) -> None:
    state = MemoryState()
    queue = side.memory_queue(state)
    pool = side.pool(queue, grace_period=timedelta(0))
    nights.fall()
    claimed, go_on = Event(), Event()

    def hold(claim: Any) -> None:
        if claim.tasks:
            claimed.set()
            go_on.wait(5)

    side.wrap(monkeypatch, pool._shift.store, "claim", after=hold)
    task = side.call(queue.insert_task, side.note())
    assert claimed.wait(5)
    stopped = side.begin(pool.stop)
    eventually(pool._shift.stopping.is_set)
    go_on.set()
    assert stopped.result(5) == 0
    assert (state.tasks[task.id].state, state.tasks[task.id].pool_id) == ("new", None)
