"""start() and stop() at once, from wherever they are called."""

from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from fang_core import AsyncRunnable, Runnable, SchemaError, UsageError
from fang_core.backends.memory.state import MemoryState
from tests.modes import GATES, RAN, Database, Harness, IdlePools, eventually, ran
from tests.patience import PATIENT

POOLS: dict[str, Any] = {}


class ThreadedStopper(Runnable):
    def run(self, queue: Any) -> None:
        RAN.put(1)
        GATES["gate"].wait()
        RAN.put(POOLS["pool"].stop())


class AsyncStopper(AsyncRunnable):
    async def run(self, queue: Any) -> None:
        RAN.put(1)
        await POOLS["pool"]._lifetime.stopping.wait()
        RAN.put(await POOLS["pool"].stop())


def test_stop_waits_for_the_start_that_is_under_way(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    state = MemoryState()
    pool = harness.pool(harness.memory_queue(state))
    harness.call(pool.stop)
    opening, go_on = Event(), Event()

    def hold(*_: Any) -> None:
        opening.set()
        go_on.wait(PATIENT)

    harness.wrap(monkeypatch, type(pool._lifetime.store), "register", before=hold)
    started = harness.begin(pool.start)
    assert opening.wait(PATIENT)
    stopped = harness.begin(pool.stop)
    go_on.set()
    started.result(PATIENT)
    assert stopped.result(PATIENT) == 0
    harness.call(pool.start)
    assert len(state.pools) == 1
    assert harness.call(pool.stop) == 0
    assert not state.pools
    assert not state.listeners


def test_of_two_starts_one_is_refused(harness: Harness) -> None:
    pool = harness.pool(harness.memory_queue(MemoryState()))
    with pytest.raises(UsageError, match="running already"):
        harness.call(pool.start)


def test_stops_at_once_all_return_when_the_pool_has_stopped(harness: Harness) -> None:
    state = MemoryState()
    queue = harness.memory_queue(state)
    pool = harness.pool(queue)
    harness.call(queue.insert_task, harness.note(waits=True))
    ran()
    stops = [harness.begin(pool.stop) for _ in range(3)]
    eventually(pool._lifetime.stopping.is_set)
    assert not any(stop.done() for stop in stops)
    GATES["gate"].set()
    assert [stop.result(PATIENT) for stop in stops] == [0, 0, 0]
    assert not state.pools


def test_a_run_that_asks_for_the_stop_that_waits_for_it_goes_on(harness: Harness) -> None:
    queue = harness.memory_queue(MemoryState())
    pool = POOLS["pool"] = harness.pool(queue)
    harness.call(queue.insert_task, ThreadedStopper() if harness.mode == "threaded" else AsyncStopper())
    ran()
    stopped = harness.begin(pool.stop)
    eventually(pool._lifetime.stopping.is_set)
    GATES["gate"].set()
    assert stopped.result(PATIENT) == 0
    assert ran() == [0]


def test_a_start_that_fails_leaves_nothing_and_can_be_repeated(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    database.execute("ALTER TABLE fang.fang_pools RENAME TO away")
    queue = harness.queue(url)
    other = harness.queue(url)
    with pytest.raises(SchemaError):
        harness.pool(queue)
    assert not queue.is_open
    database.execute("ALTER TABLE fang.away RENAME TO fang_pools")
    (pool,) = harness._pools
    harness.call(pool.start)
    idle_pools.wait()
    harness.call(other.insert_task, harness.note(n=1))
    assert ran() == [1]


def test_a_claim_that_is_under_way_has_time_to_end_whatever_the_grace_period(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, idle_pools: IdlePools
) -> None:
    state = MemoryState()
    queue = harness.memory_queue(state)
    pool = harness.pool(queue, grace_period=timedelta(0))
    idle_pools.wait()
    claimed, go_on = Event(), Event()

    def hold(claim: Any) -> None:
        if claim.tasks:
            claimed.set()
            go_on.wait(PATIENT)

    harness.wrap(monkeypatch, pool._lifetime.store, "claim", after=hold)
    task = harness.call(queue.insert_task, harness.note())
    assert claimed.wait(PATIENT)
    stopped = harness.begin(pool.stop)
    eventually(pool._lifetime.stopping.is_set)
    go_on.set()
    assert stopped.result(PATIENT) == 0
    assert (state.tasks[task.id].state, state.tasks[task.id].pool_id) == ("new", None)
