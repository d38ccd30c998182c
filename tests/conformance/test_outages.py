"""Whoever reads the log learns that an outage is over, in both modes."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from fang_core.errors import NotConnected
from fang_core.memory import AsyncMemoryStore, MemoryStore
from fang_core.memory_state import MemoryState
from tests.modes import Side, ran


def fail_twice(patch: pytest.MonkeyPatch, side: Side, method: str) -> None:
    """Has the first two calls fail, as if the database did not answer."""
    store: Any = MemoryStore if side.mode == "threaded" else AsyncMemoryStore
    answers: Callable[..., Any] = getattr(store, method)
    left = [NotConnected("the database does not answer") for _ in range(2)]

    def call(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return answers(*args, **kwargs)

    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    patch.setattr(store, method, call if side.mode == "threaded" else call_async)


@pytest.mark.parametrize(("method", "again"), [("claim", "claims"), ("complete", "writes outcomes")])
def test_each_service_says_once_that_it_works_again(
    side: Side, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str, again: str
) -> None:
    fail_twice(monkeypatch, side, method)
    queue = side.memory_queue(MemoryState())
    pool = side.pool(queue)
    for n in range(2):
        side.call(queue.insert_task, side.note(n=n))
    assert ran(2) == [0, 1]
    pool_id = pool.id
    side.stop(pool)
    lines = [record for record in caplog.records if record.name == f"fang_{side.mode}"]
    over = [record.getMessage() for record in lines if " again, " in record.getMessage()]
    assert [line.partition(", ")[0] for line in over] == [f"pool {pool_id} {again} again"]
    assert sum(record.levelno >= logging.WARNING for record in lines) == 3  # two failures, and their end
