"""Whoever reads the log learns that an outage is over, in both modes."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from fang_core.backends.memory.state import MemoryState
from fang_core.backends.memory.store import MemoryStore
from fang_core.errors import NotConnected
from tests.modes import Harness, ran


def fail_twice(patch: pytest.MonkeyPatch, method: str) -> None:
    """Has the first two calls fail, as if the database did not answer."""
    answers: Callable[..., Any] = getattr(MemoryStore, method)
    left = [NotConnected("the database does not answer") for _ in range(2)]

    async def call(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return await answers(*args, **kwargs)

    patch.setattr(MemoryStore, method, call)


@pytest.mark.parametrize(("method", "again"), [("claim", "claims"), ("complete", "writes outcomes")])
def test_each_service_says_once_that_it_works_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str, again: str
) -> None:
    fail_twice(monkeypatch, method)
    queue = harness.memory_queue(MemoryState())
    pool = harness.pool(queue)
    for n in range(2):
        harness.call(queue.insert_task, harness.note(n=n))
    assert ran(2) == [0, 1]
    pool_id = pool.id
    harness.stop(pool)
    lines = [record for record in caplog.records if record.name == f"fang_{harness.mode}"]
    over = [record.getMessage() for record in lines if " again, " in record.getMessage()]
    assert [line.partition(", ")[0] for line in over] == [f"pool {pool_id} {again} again"]
    assert sum(record.levelno >= logging.WARNING for record in lines) == 2  # the same failure twice, and their end
