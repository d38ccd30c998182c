"""What a pool of many task types asks for grows with those that have tasks, not with those that it serves."""

from typing import Any

import pytest

from tests.modes import HOUR, Nights, Side, ran

TYPES = tuple(f"type {number}" for number in range(300))


def test_a_pool_of_many_types_asks_for_those_with_tasks(
    side: Side, url: str, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = side.queue(url)
    pool = side.pool(queue, task_type=TYPES)
    nights.fall()
    asked: list[int] = []
    looked_ahead: list[int] = []
    side.wrap(monkeypatch, pool._shift.store, "claim", before=lambda request: asked.append(len(request.task_types)))
    side.wrap(monkeypatch, pool._shift.store, "next_due", before=lambda types, _: looked_ahead.append(len(types)))
    side.call(queue.insert_task, side.note(n=0), task_type="type 9", delay=HOUR)
    for n in range(1, 4):
        side.call(queue.insert_task, side.note(n=n), task_type=f"type {50 * n}")
        assert ran() == [n]  # though it polls once in an hour
        nights.fall()
    side.call(queue.insert_tasks, [side.note(n=n) for n in range(4, 20)], task_type="type 299")
    assert ran(16) == list(range(4, 20))
    nights.fall()
    assert set(asked) == {0, 1}
    assert set(looked_ahead) <= {1, 2}  # the one of an hour ahead, and perhaps one that came just then


def test_a_drain_of_many_types_leaves_nothing(side: Side, url: str, database: Any) -> None:
    queue = side.queue(url)
    for n in range(60):
        side.call(queue.insert_task, side.note(n=n), task_type=TYPES[5 * n], priority=n % 5 - 2)
    pool = side.pool(queue, task_type=TYPES)
    side.call(pool.drain)
    assert ran(60) == list(range(60))
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(0,)]
