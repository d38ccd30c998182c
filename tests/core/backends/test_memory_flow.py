"""Pause, limits, rates and fairness in the memory backend, whose clock a test sets."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fang_core import MemoryQueue, Queueable, Runnable, TaskConfig, TaskState
from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest
from fang_core.backends.managed import ManagedType
from fang_core.backends.memory.store import MemoryStore
from fang_core.backends.pools import Declaration, PoolRecord
from fang_core.flow.limits import FlowSettings, Gcra
from fang_core.lifecycle import Outcome
from fang_core.record import ClaimedTask
from tests.driven import Driven

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
KIND = "memory_flow.Parse"


class Parse(Runnable):
    task_config = TaskConfig(kind=KIND, task_type="parse", fair_by="tenant")
    tenant: str = "a"

    def run(self, queue: Queueable) -> None: ...


class World:
    """A queue with a clock, and one pool that claims by hand."""

    def __init__(self, settings: FlowSettings | None = None) -> None:
        self.now = NOW
        self.queue = MemoryQueue(clock=lambda: self.now)
        self.state = self.queue.state
        self.store: Any = Driven(MemoryStore(self.state))
        self.id = uuid4()
        self.store.register(PoolRecord(self.id, "threaded", "host", 1, ("parse",), (KIND,), 1))
        self.after_lane = ""
        self.started: Counter[str] = Counter()
        if settings is not None:
            self.state.types["parse"] = ManagedType(settings)

    @property
    def type(self) -> ManagedType:
        return self.state.types["parse"]

    def insert(self, tenants: str, **options: Any) -> None:
        """Inserts a task of each of these tenants, a character each."""
        for tenant in tenants:
            self.queue.insert_task(Parse(tenant=tenant), **options)
            self.now += timedelta(microseconds=1)

    def ask(self, limit: int = 100, **options: Any) -> LaneClaim:
        request = LaneRequest(self.id, "parse", (KIND,), limit, **{"after_lane": self.after_lane, **options})
        claim: LaneClaim = self.store.claim_lanes(request)
        if claim.after_lane is not None:
            self.after_lane = claim.after_lane
        return claim

    def plain(self) -> Claim:
        claim: Claim = self.store.claim(ClaimRequest(self.id, ("parse", "common"), (KIND,), 100))
        return claim

    def tenants(self, limit: int = 100, **options: Any) -> str:
        """Claims; the tenants of what it got."""
        found = [self.tenant(task) for task in self.ask(limit, **options).tasks]
        self.started.update(found)
        return "".join(found)

    def tenant(self, task: ClaimedTask) -> str:
        lane = self.state.tasks[task.id].lane
        assert lane is not None
        return lane

    def running(self) -> Mapping[str, int]:
        return Counter(task.lane or "" for task in self.state.tasks.values() if task.state is TaskState.IN_PROGRESS)

    def end_all(self, tenant: str | None = None) -> None:
        held = [task for task in self.state.tasks.values() if task.state is TaskState.IN_PROGRESS]
        ended = [Outcome(task.id, task.attempt, None) for task in held if tenant in (None, task.lane)]
        self.store.complete(self.id, ended)


def test_a_plain_claim_leaves_managed_types_alone_and_names_them() -> None:
    world = World(FlowSettings(max_running=1))
    world.insert("ab")
    world.insert("c", task_type="common")
    claim = world.plain()
    assert [task.task_type for task in claim.tasks] == ["common"]
    assert claim.managed == ("parse",)
    del world.state.types["parse"]
    claim = world.plain()
    assert (len(claim.tasks), claim.managed) == (2, ())
    assert world.ask() == LaneClaim([], world.now, claim.transactions, True, is_managed=False)


def test_a_paused_type_is_claimed_from_when_its_pause_is_over() -> None:
    world = World()
    world.insert("a")
    world.state.types["parse"] = ManagedType(paused=True)
    world.insert("b")
    assert world.plain().tasks == []
    claim = world.ask()
    assert (claim.tasks, claim.room, claim.look_in, claim.is_managed) == ([], None, None, True)
    assert world.queue.fetch_and_touch_task("parse") is None
    world.type.paused_until = world.now + 3 * SECOND
    assert world.ask().look_in == 3.0
    world.now += 3 * SECOND
    assert not world.ask().is_managed  # nothing but the pause was set
    assert len(world.plain().tasks) == 2


def test_a_type_and_each_of_its_keys_have_no_more_runs_than_their_limits() -> None:
    world = World(FlowSettings(max_running=3, max_running_per_key=2))
    world.insert("aaaabb")
    assert sorted(world.tenants()) == ["a", "a", "b"]
    claim = world.ask()
    assert (claim.tasks, claim.room, claim.after_lane) == ([], 0, None)
    world.end_all("b")
    assert world.tenants() == "b"
    world.end_all("a")
    assert world.tenants() == "aa"
    world.end_all("b")
    claim = world.ask()
    assert (claim.tasks, claim.room, claim.after_lane) == ([], 1, None)


def test_a_key_in_two_priorities_with_one_free_slot_gets_one_run() -> None:
    world = World(FlowSettings(max_running_per_key=1))
    world.insert("a", priority=1)
    world.insert("a", priority=-1)
    (task,) = world.ask().tasks
    assert task.priority == -1
    assert world.ask().tasks == []


def test_keys_take_turns_in_the_order_of_their_bytes_and_begin_behind_the_last() -> None:
    world = World(FlowSettings(fair=True))
    world.insert("ccccccaaaaaaébb")
    assert [world.tenants(1) for _ in range(6)] == ["a", "b", "c", "é", "a", "b"]
    assert world.tenants(3) == "ccc"  # a key takes up to four at a turn
    assert world.tenants(5) == "aaacc"
    assert world.tenants() == "a"


def test_a_key_with_many_tasks_delays_that_of_others_by_less_than_a_claim() -> None:
    world = World(FlowSettings(fair=True))
    world.insert("a" * 200 + "b" * 5 + "c" * 5)
    found = world.tenants(20) + world.tenants(20)
    assert Counter(found)["b"] == Counter(found)["c"] == 5


def test_weights_decide_the_shares_of_keys_in_claims_large_and_small() -> None:
    world = World(FlowSettings(fair=True, weights={"a": 3}))
    world.insert("a" * 600 + "b" * 300)
    assert Counter(world.tenants(40)) == {"a": 30, "b": 10}
    small = Counter(world.tenants(1) for _ in range(600))
    assert 2.0 < small["a"] / small["b"] < 4.5


def test_weights_count_in_claims_of_one_key_each() -> None:
    world = World(FlowSettings(fair=True, weights={"a": 3}))
    world.insert("a" * 900 + "b" * 400)
    started = Counter("".join(world.tenants(4) for _ in range(200)))
    assert 1.7 < started["a"] / started["b"] < 5.5


def test_a_claim_that_looks_at_fewer_keys_than_there_are_goes_round_in_the_end() -> None:
    world = World(FlowSettings(max_running_per_key=1))
    world.insert("abcdefgh")
    assert world.tenants() == "abcdefgh"
    world.insert("abcdefgh")
    world.end_all("g")
    world.after_lane = ""
    assert [world.tenants(most_lanes=3) for _ in range(3)] == ["", "", "g"]


def test_a_rate_allows_a_burst_and_then_a_start_each_interval() -> None:
    world = World(FlowSettings(rate=Gcra(100 * MS, 3)))
    world.insert("a" * 10)
    claim = world.ask()
    assert (len(claim.tasks), claim.room, claim.look_in) == (3, 3, 0.1)
    world.now += 99 * MS
    claim = world.ask()
    assert (claim.tasks, claim.room) == ([], 0)
    assert claim.look_in == pytest.approx(0.001)
    world.now += MS
    assert len(world.ask().tasks) == 1
    world.now += timedelta(hours=1)
    assert len(world.ask(1).tasks) == 1
    assert world.ask(1).look_in is None
    assert len(world.ask().tasks) == 1


def test_a_rate_of_each_key_holds_up_no_other_key() -> None:
    world = World(FlowSettings(key_rate=Gcra(SECOND, 2)))
    world.insert("aaaabb")
    assert sorted(world.tenants()) == ["a", "a", "b", "b"]
    claim = world.ask()
    assert (claim.tasks, claim.after_lane) == ([], None)
    assert claim.look_in == pytest.approx(1, abs=0.001)
    world.now += SECOND
    assert world.tenants() == "a"


def test_a_clock_that_is_set_back_stops_a_rate_for_no_longer_than_its_burst_lasts() -> None:
    world = World(FlowSettings(rate=Gcra(SECOND, 2)))
    world.insert("a" * 10)
    assert len(world.ask().tasks) == 2
    world.queue.insert_task(Parse(), scheduled_at=NOW - timedelta(days=2))
    world.now -= timedelta(days=1)
    assert [len(world.ask().tasks) for _ in range(2)] == [1, 0]
    assert world.ask().look_in == 1.0
    world.now += SECOND
    world.queue.insert_task(Parse(), scheduled_at=NOW - timedelta(days=2))
    assert len(world.ask().tasks) == 1


@settings(max_examples=60)
@given(
    limit=st.none() | st.integers(0, 4),
    per_key=st.none() | st.integers(1, 3),
    burst=st.none() | st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(0, 30)), max_size=30),
)
def test_nothing_is_ever_exceeded_and_all_tasks_run_in_the_end(
    limit: int | None, per_key: int | None, burst: int | None, steps: list[tuple[str, int, int]]
) -> None:
    rate = None if burst is None else Gcra(10 * MS, burst)
    world = World(FlowSettings(limit, per_key, rate, fair=True))
    starts: list[datetime] = []

    def claim(wanted: int) -> None:
        found = world.ask(wanted).tasks
        starts.extend([world.now] * len(found))
        assert limit is None or sum(world.running().values()) <= limit
        assert per_key is None or max(world.running().values(), default=0) <= per_key

    for tenant, count, ms in steps:
        world.insert(tenant * count)
        claim(count)
        world.now += ms * MS
        if ms % 3 == 0:
            world.end_all(tenant)
    if limit != 0:
        for _ in range(400):
            world.end_all()
            world.now += 5 * MS
            claim(3)
        assert not world.state.tasks or set(world.running().values()) <= {len(world.state.tasks)}
    if burst is not None:
        for first, at in enumerate(starts):
            for last in range(first, len(starts)):
                assert last - first + 1 <= burst + (starts[last] - at) / (10 * MS)


def test_a_claim_whose_keys_have_few_tasks_goes_on_behind_the_last_key_that_it_came_to() -> None:
    world = World(FlowSettings(max_running_per_key=9))
    world.insert("abcdefgh")
    assert [world.tenants(4, most_lanes=5) for _ in range(4)] == ["a", "b", "c", "d"]
    world.insert("ab", priority=1)
    assert world.tenants(40, most_lanes=2, quantum=4) == "efab"
    assert world.after_lane == "f"


def test_what_pools_declare_makes_a_type_managed_until_they_withdraw_it() -> None:
    world = World()
    woken: list[Any] = []
    world.store.listen(("parse",), woken.append, lambda _: None, lambda _: None)
    world.store.declare([Declaration("parse", {KIND: [{"limit": 2}], "other": []})])
    world.insert("aaa")
    assert len(world.ask().tasks) == 2
    assert [late.task_type for late in woken if late is not None] == ["parse"]
    world.store.declare([Declaration("parse", {KIND: []})])
    assert not world.ask().is_managed
    assert len(world.plain().tasks) == 1


def test_tasks_fetched_by_hand_keep_to_limits_and_turns() -> None:
    world = World(FlowSettings(max_running=2))
    world.insert("aab")
    fetched = [world.queue.fetch_and_touch_task("parse") for _ in range(3)]
    assert [task and task.lane for task in fetched] == ["a", "b", None]
