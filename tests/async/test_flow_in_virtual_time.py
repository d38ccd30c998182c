"""Pools that claim from managed types, in virtual time: how many claims they make, and how soon tasks start.

Only the clock is not real: whole pools share a memory backend each of whose answers takes a millisecond.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fang_async import AsyncWorkerPool
from fang_core import AsyncMemoryQueue, AsyncRunnable, SleepParams, TaskConfig
from fang_core.backends.managed import ManagedType
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.memory.store import MemoryStore
from fang_core.flow.limits import FlowSettings, Gcra
from fang_core.pool import claimer
from tests import virtual
from tests.examples import as_often

ANSWER = 0.001
"""Seconds that each answer of the backend takes."""

MS = timedelta(milliseconds=1)


class Virtual(AsyncRunnable):
    task_config = TaskConfig(task_type="managed", fair_by="key")
    key: str = ""
    seconds: float = 0.0
    world: ClassVar["World"]

    async def run(self, queue: Any) -> None:
        self.world.started(self)
        await asyncio.sleep(self.seconds)
        self.world.ended(self)


class World:
    """What the pools of a test share, and what is seen of them."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.time: Callable[[], float] = loop.time
        self.state = MemoryState(lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=loop.time()))
        self.queue = SlowQueue(self)
        self.calls: Counter[str] = Counter()
        self.starts: list[tuple[float, str]] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.left = 0
        self.all_ended = asyncio.Event()

    def manage(self, settings: FlowSettings, task_type: str = "managed", **fields: Any) -> ManagedType:
        made = self.state.types[task_type] = ManagedType(settings, **fields)
        return made

    async def insert(self, key: str = "", count: int = 1, seconds: float = 0.0, **options: Any) -> None:
        self.left += count
        self.all_ended.clear()
        await self.queue.insert_tasks([Virtual(key=key, seconds=seconds)] * count, **options)

    def started(self, task: Virtual) -> None:
        self.starts.append((self.time(), task.key))
        self.running.update([task.key, "all"])
        for each in (task.key, "all"):
            self.most[each] = max(self.most[each], self.running[each])

    def ended(self, task: Virtual) -> None:
        self.running.subtract([task.key, "all"])
        self.left -= 1
        if not self.left:
            self.all_ended.set()

    @asynccontextmanager
    async def pools(self, count: int = 1, workers: int = 4, **options: Any) -> Any:
        sleeps = SleepParams(min_sleep_period=timedelta(seconds=5))
        async with AsyncExitStack() as stack:
            made = [
                AsyncWorkerPool(
                    self.queue,
                    number_of_workers=workers,
                    lease=timedelta(hours=1),  # hearts beat in real time
                    **{"task_type": ["managed", "common"], "sleep_params": sleeps, "grace_period": 20 * MS} | options,
                )
                for _ in range(count)
            ]
            for pool in made:
                await pool.start()
                stack.push_async_callback(pool.stop)
            yield made


class SlowQueue(AsyncMemoryQueue):
    def __init__(self, world: World) -> None:
        super().__init__(state=world.state)
        self.world = world

    async def store(self) -> MemoryStore:
        return SlowStore(self.world)


class SlowStore(MemoryStore):
    """Counts the calls, and takes its time."""

    def __init__(self, world: World) -> None:
        super().__init__(world.state)
        self.world = world

    async def declare(self, _: Any, /) -> None:
        """A test says what holds."""

    def __getattribute__(self, name: str) -> Any:
        verb = super().__getattribute__(name)
        if name not in {"claim", "claim_lanes", "complete", "set_waiting", "tell_types", "next_due"}:
            return verb

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.world.calls[name] += 1
            await asyncio.sleep(ANSWER / 2)
            answer = await verb(*args, **kwargs)
            await asyncio.sleep(ANSWER / 2)
            return answer

        return call


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimer, "time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time()))


def in_virtual_time(trial: Callable[[World], Any]) -> None:
    async def run() -> None:
        Virtual.world = World()
        await trial(Virtual.world)

    virtual.run(run())


def test_a_slot_that_a_run_leaves_is_filled_by_its_pool_with_its_next_claim() -> None:
    async def trial(world: World) -> None:
        world.manage(FlowSettings(max_running=1))
        await world.insert(count=20, seconds=0.05)
        async with world.pools():
            await world.all_ended.wait()
        waits = [later - at - 0.05 for (at, _), (later, _) in zip(world.starts, world.starts[1:], strict=False)]
        assert max(waits) < 4 * ANSWER
        assert world.most["all"] == 1

    in_virtual_time(trial)


def test_a_slot_that_its_pool_does_not_use_is_filled_by_another_one() -> None:
    async def trial(world: World) -> None:
        world.manage(FlowSettings(max_running=1))
        await world.insert(count=1, seconds=1.0)
        async with world.pools(workers=1) as (first,):
            await asyncio.sleep(0.1)
            await world.insert("plain", 5, 100.0, task_type="common")  # they keep the first pool's worker busy
            async with world.pools(workers=1, task_type="managed"):
                await asyncio.sleep(0.1)
                await world.insert("next")
                await asyncio.sleep(0.85)
                assert world.running["plain"] == 1
                await asyncio.sleep(0.1)
                assert "next" in [key for _, key in world.starts]
            await first.stop()

    in_virtual_time(trial)


def test_a_pool_that_stops_tells_others_of_the_slot_that_it_leaves() -> None:
    async def trial(world: World) -> None:
        world.manage(FlowSettings(max_running=1))
        await world.insert(count=1, seconds=1.0)
        async with world.pools(grace_period=timedelta(seconds=30)) as (first,), world.pools():
            await asyncio.sleep(0.1)
            await world.insert("next")
            await asyncio.sleep(0.1)
            await first.stop()
            await asyncio.sleep(0.05)
            assert "next" in [key for _, key in world.starts]

    in_virtual_time(trial)


@pytest.mark.parametrize("pools", [1, 8])
@pytest.mark.parametrize("burst", [5, 20])
def test_a_rate_is_kept_and_used_and_claims_are_bounded(pools: int, burst: int) -> None:
    async def trial(world: World) -> None:
        rate = Gcra(2 * MS, burst)
        world.manage(FlowSettings(rate=rate))
        await world.insert(count=300)
        async with world.pools(pools, workers=10):
            await world.all_ended.wait()
        times = [at for at, _ in world.starts]
        assert (times[-1] - times[0]) * 0.95 < 300 * 0.002
        assert world.calls["claim_lanes"] < 300 * (1.2 if pools == 1 else 2)
        assert world.calls["claim"] < 200

    in_virtual_time(trial)


def test_plain_tasks_and_managed_ones_hold_each_other_up_by_a_claim_at_most() -> None:
    async def trial(world: World) -> None:
        world.manage(FlowSettings(fair=True))
        for number in range(100):
            await world.insert("a", 10, 0.002)
            await world.insert("plain", 10, 0.002, task_type="common")
            if number == 50:
                async with world.pools(workers=10):
                    await asyncio.sleep(0.1)
        half = Counter(key for _, key in world.starts)
        assert 0.5 < half["a"] / half["plain"] < 2

    in_virtual_time(trial)


@pytest.mark.parametrize(
    "managed",
    [
        {"settings": FlowSettings(max_running=0)},
        {"settings": FlowSettings(), "paused": True},
        {"settings": FlowSettings(fair=True)},
        {"settings": FlowSettings(max_running_per_key=1)},
        {"settings": FlowSettings(rate=Gcra(timedelta(hours=1), 1))},
    ],
)
def test_an_idle_pool_hardly_looks_at_managed_types(managed: dict[str, Any]) -> None:
    async def trial(world: World) -> None:
        world.manage(**managed)
        if managed["settings"] != FlowSettings(fair=True):
            await world.insert("a", 100, 1e6)
        async with world.pools():
            await asyncio.sleep(1.0)
            world.calls.clear()
            await asyncio.sleep(100.0)
            assert world.calls["claim_lanes"] <= 45
            assert world.calls["claim"] <= 25
            assert world.calls["next_due"] <= 25

    in_virtual_time(trial)


def test_a_pool_of_types_in_which_no_new_task_may_start_does_not_wait_for_inserts() -> None:
    async def trial(world: World) -> None:
        world.manage(FlowSettings(max_running=1))
        await world.insert("a", 2, 10.0)
        async with world.pools(task_type="managed"):
            await asyncio.sleep(1.0)
            assert not world.state.waiting
            await world.all_ended.wait()
            await asyncio.sleep(1.0)
            assert world.state.waiting

    in_virtual_time(trial)


def test_what_waited_in_a_paused_type_starts_at_once_when_it_is_resumed() -> None:
    async def trial(world: World) -> None:
        async with world.pools():
            await world.insert("before")
            await world.all_ended.wait()
            world.manage(FlowSettings(), paused=True)
            await world.insert("meanwhile", 3)
            await world.insert("plain", task_type="common")
            await asyncio.sleep(20.0)
            assert Counter(key for _, key in world.starts) == {"before": 1, "plain": 1}
            del world.state.types["managed"]
            began = world.time()
            world.state.listeners.tell_types(["managed"])
            await world.all_ended.wait()
            assert world.time() - began < 6 * ANSWER

    in_virtual_time(trial)


def test_a_pause_that_ends_by_itself_is_found_then() -> None:
    async def trial(world: World) -> None:
        managed = world.manage(FlowSettings(), paused=True)
        managed.paused_until = world.state.clock() + timedelta(seconds=3)
        await world.insert("a", 3)
        began = world.time()
        async with world.pools():
            await world.all_ended.wait()
        assert 3.0 <= world.starts[0][0] - began < 3.0 + 8 * ANSWER

    in_virtual_time(trial)


def test_a_drain_waits_for_rates_and_for_keys_and_leaves_what_is_paused() -> None:
    async def trial(world: World) -> None:
        world.manage(FlowSettings(max_running_per_key=2, rate=Gcra(100 * MS, 1)))
        world.manage(FlowSettings(), "paused", paused=True)
        await world.insert("a", 10, 0.5)
        await world.insert("b", 10, 0.5)
        await world.insert("paused", 10, task_type="paused")
        pool = AsyncWorkerPool(
            world.queue, task_type=["managed", "paused"], number_of_workers=8, lease=timedelta(hours=1)
        )
        assert await pool.drain() == 20
        assert world.most["a"] == world.most["b"] == 2
        assert len(world.state.tasks) == 10

    in_virtual_time(trial)


RULES = st.builds(
    FlowSettings,
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 3),
    st.none() | st.builds(Gcra, st.integers(1, 40).map(lambda ms: ms * MS), st.integers(1, 6)),
    st.none() | st.builds(Gcra, st.integers(1, 40).map(lambda ms: ms * MS), st.integers(1, 6)),
    st.booleans(),
)
LOADS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(1, 12), st.sampled_from([0.0, 0.003, 0.05]), st.sampled_from([0, 0.2])
    ),
    min_size=1,
    max_size=6,
)


@settings(as_often(0.5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RULES, RULES, LOADS, LOADS, st.integers(1, 4), st.booleans())
def test_everything_runs_soon_and_nothing_is_exceeded(
    rules: FlowSettings, others: FlowSettings, load: Any, other_load: Any, pools: int, listens: bool
) -> None:
    """Tries two managed types beside a plain one, with pools that come and loads that come in bursts."""

    async def trial(world: World) -> None:
        if rules.is_limited:
            world.manage(rules)
        if others.is_limited:
            world.manage(others, "other")
        began = world.time()
        async with world.pools(pools, workers=3, task_type=["managed", "other", "common"], listen=listens):
            for task_type, bursts in (("managed", load), ("other", other_load), ("common", load)):
                for key, count, seconds, pause in bursts:
                    await world.insert(f"{task_type}.{key}", count, seconds, task_type=task_type)
                    await asyncio.sleep(pause)
            await asyncio.wait_for(world.all_ended.wait(), 300.0)
            took = world.time() - began
            tasks = len(world.starts)
            keys = {key: count for key, count in world.most.items() if key.startswith("managed")}
            assert rules.max_running_per_key is None or max(keys.values(), default=0) <= rules.max_running_per_key
            slots = [each for each in (rules.max_running, others.max_running) if each is not None]
            assert world.calls["claim_lanes"] < 40 + pools * (30 * tasks + 4 * took)
            assert slots or world.most["all"] <= 3 * pools
            world.calls.clear()
            await asyncio.sleep(60.0)
            assert world.calls["claim_lanes"] + world.calls["claim"] < pools * 120

    in_virtual_time(trial)
