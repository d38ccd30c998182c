"""What a pool of many task types asks for grows with those that have tasks, not with those that it serves."""

from typing import Any

import pytest

from fang_core.claims import serving
from tests.modes import HOUR, Harness, IdlePools, ran
from tests.patience import PATIENT

TYPES = tuple(f"type {number}" for number in range(300))


def test_a_pool_of_many_types_asks_for_those_with_tasks(
    harness: Harness, url: str, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "SLOW", PATIENT)  # after a look that a busy machine makes slow, it asks for all
    queue = harness.queue(url)
    pool = harness.pool(queue, task_type=TYPES)
    idle_pools.wait()
    asked: list[int] = []
    looked_ahead: list[int] = []
    harness.wrap(
        monkeypatch, pool._lifetime.store, "claim", before=lambda request: asked.append(len(request.task_types))
    )
    harness.wrap(monkeypatch, pool._lifetime.store, "next_due", before=lambda types, _: looked_ahead.append(len(types)))
    harness.call(queue.insert_task, harness.note(n=0), task_type="type 9", delay=HOUR)
    for n in range(1, 4):
        harness.call(queue.insert_task, harness.note(n=n), task_type=f"type {50 * n}")
        assert ran() == [n]  # though it polls once in an hour
        idle_pools.wait()
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(4, 20)], task_type="type 299")
    assert ran(16) == list(range(4, 20))
    idle_pools.wait()
    assert set(asked) == {0, 1}
    assert set(looked_ahead) <= {1, 2}  # the one of an hour ahead, and perhaps one that came just then


def test_a_drain_of_many_types_leaves_nothing(harness: Harness, url: str, database: Any) -> None:
    queue = harness.queue(url)
    for n in range(60):
        harness.call(queue.insert_task, harness.note(n=n), task_type=TYPES[5 * n], priority=n % 5 - 2)
    pool = harness.pool(queue, task_type=TYPES)
    harness.call(pool.drain)
    assert ran(60) == list(range(60))
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(0,)]
