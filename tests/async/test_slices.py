"""How long the workers of a pool run before they yield to the event loop."""

import time

from fang_async.workers import SLICE, AsyncWorkers
from fang_core.config import PoolOptions
from fang_core.events import EventBus
from fang_core.pool.identity import PoolIdentity
from fang_core.tasks.registry import Kinds


async def test_runs_for_idle_workers_begin_a_slice_and_those_for_busy_ones_do_not_lengthen_it() -> None:
    """Else the first worker would yield at once, and the claimer would make its next claim before that run."""
    workers = AsyncWorkers(Kinds("async"), None, PoolOptions(), identity=PoolIdentity(), events=EventBus(()))
    before = time.monotonic()
    workers.put([])
    assert before + SLICE <= workers.slice_end <= time.monotonic() + SLICE
    workers.slice_end = under_way = time.monotonic() + SLICE / 2
    workers.put([])
    if time.monotonic() < under_way:
        assert workers.slice_end == under_way
