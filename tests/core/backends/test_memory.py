"""The memory backend: the reference for the others."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import (
    AsyncMemoryQueue,
    MemoryQueue,
    PayloadError,
    Queueable,
    Runnable,
    TaskConfig,
    TaskState,
    UsageError,
)
from fang_core.backends.claims import NO_TRANSACTIONS, Claim, ClaimRequest
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.memory.store import MemoryStore
from fang_core.backends.pools import PoolRecord, PruneRequest
from fang_core.backends.stats_rows import Key
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.config import RetentionMode
from fang_core.crashes import SUSPECT_AFTER
from fang_core.errors import StaleTask
from fang_core.failure import ErrorReport
from fang_core.lifecycle import NOT_RUN, SUCCESS, Cancelled, Failure, Outcome, Result, Snoozed, decide
from fang_core.liveness import BeatRequest
from fang_core.monitoring.history import StatsRow, hour_of, minute_of
from fang_core.record import ClaimedTask, Task
from fang_core.tasks.backoff import Constant
from tests.driven import Driven

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
KIND, OTHER = "memory.Parse", "memory.Other"


class Parse(Runnable):
    task_config = TaskConfig(kind=KIND, max_retries=50)
    n: int = 0
    text: str = ""

    def run(self, queue: Queueable) -> None: ...


class Other(Runnable):
    task_config = TaskConfig(kind=OTHER)

    def run(self, queue: Queueable) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Pool:
    """A pool's view of a store, in a few words."""

    def __init__(self, store: MemoryStore) -> None:
        self.id = uuid4()
        self.store = store
        store.register(PoolRecord(self.id, "threaded", "host", 1, ("common",), (KIND,), 1))

    def ask(self, limit: int = 100, types: Sequence[str] = ("common",), kinds: Sequence[str] = (KIND, OTHER)) -> Claim:
        return self.store.claim(ClaimRequest(self.id, tuple(types), tuple(kinds), limit))

    def claim(self, limit: int = 100, **options: Any) -> list[ClaimedTask]:
        return self.ask(limit, **options).tasks

    def end(self, task: ClaimedTask, result: Result) -> set[UUID]:
        outcome = decide(task, result, retention=RetentionMode.KEEP_ALL, backoff=Constant(delay=timedelta(0), jitter=0))
        return self.store.complete(self.id, [outcome])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> MemoryQueue:
    return MemoryQueue(clock=clock)


@pytest.fixture
def pool(queue: MemoryQueue) -> Pool:
    return Pool(Driven(queue.store()))


def found(queue: MemoryQueue, task_id: UUID) -> Task:
    row = queue.find_task_by_id(task_id)
    assert row is not None
    return row


# Insert ---------------------------------------------------------------------------------------------------------------


def test_a_new_row(queue: MemoryQueue) -> None:
    task = queue.insert_task(Parse(n=5))

    assert queue.tasks == [task] == [queue.find_task_by_id(task.id)]
    assert task.metadata == {"type": KIND, "n": 5, "text": ""}
    assert (task.kind, task.task_type, task.state, task.priority) == (KIND, "common", TaskState.NEW, 0)
    assert (task.retries, task.max_retries, task.crashes, task.attempt) == (0, 50, 0, 0)
    assert task.scheduled_at == task.created_at == task.updated_at == NOW
    assert (task.pool_id, task.claimed_at, task.error_message, list(task.errors)) == (None, None, None, [])


def test_an_insert_may_override_the_class(queue: MemoryQueue) -> None:
    options: dict[str, Any] = {"priority": -1, "task_type": "heavy", "max_retries": 2}
    delayed = queue.insert_task(Parse(), delay=MINUTE, **options)
    planned = queue.insert_task(Parse(), scheduled_at=NOW + DAY)

    assert {name: getattr(delayed, name) for name in options} == options
    assert delayed.scheduled_at == NOW + MINUTE
    assert planned.scheduled_at == NOW + DAY


def test_many_come_back_in_order(queue: MemoryQueue) -> None:
    rows = queue.insert_tasks((Parse(n=n) for n in range(20)), priority=1)

    assert [(row.metadata["n"], row.priority) for row in rows] == [(n, 1) for n in range(20)]
    assert queue.tasks == rows


def test_all_or_none(queue: MemoryQueue) -> None:
    with pytest.raises(PayloadError):
        queue.insert_tasks([Parse(), Parse(text="\0")])
    with pytest.raises(UsageError):
        queue.insert_tasks([Parse(), "no task"])  # type: ignore[list-item]
    with pytest.raises(UsageError):
        queue.insert_task(Parse(), priority=5)

    assert queue.tasks == []


def test_a_payload_may_be_bounded() -> None:
    queue = MemoryQueue(max_payload_bytes=100)

    with pytest.raises(PayloadError, match="larger than 100 bytes"):
        queue.insert_task(Parse(text="x" * 100))


def test_an_unknown_id_is_none(queue: MemoryQueue) -> None:
    assert queue.find_task_by_id(uuid4()) is None


async def test_both_colours_share_a_state(clock: Clock) -> None:
    state = MemoryState(clock)
    threaded, asynchronous = MemoryQueue(state=state), AsyncMemoryQueue(state=state)

    async with asynchronous:
        one = await asynchronous.insert_task(Parse(n=1), delay=MINUTE)
        two, three = await asynchronous.insert_tasks([Parse(n=2), Parse(n=3)])

    with threaded:
        assert threaded.tasks == asynchronous.tasks == [one, two, three]
    assert await asynchronous.find_task_by_id(two.id) == threaded.find_task_by_id(two.id) == two


def test_a_claim_of_innocents_passes_suspects(queue: MemoryQueue, pool: Pool) -> None:
    suspect, innocent = (queue.insert_task(Parse(n=n)) for n in range(2))
    queue.state.tasks[suspect.id] = suspect._replace(crashes=SUSPECT_AFTER)
    request = ClaimRequest(pool.id, ("common",), (KIND,), 1, group_size=NO_SUSPECTS)
    assert [task.id for task in pool.store.claim(request).tasks] == [innocent.id]
    assert pool.store.claim(request).tasks == []
    assert [task.id for task in pool.claim()] == [suspect.id]


async def test_the_async_store_does_the_same(clock: Clock) -> None:
    queue = AsyncMemoryQueue(clock=clock)
    store = await queue.store()
    pool = PoolRecord(uuid4(), "async", "host", 1, ("common",), (KIND,), 1)
    task = await queue.insert_task(Parse())
    request = ClaimRequest(pool.id, ("common",), (KIND,), 10)

    assert not (await store.claim(request)).registered
    await store.register(pool)
    claim = await store.claim(request)
    assert [claimed.id for claimed in claim.tasks] == [task.id]
    outcome = Outcome(task.id, 1, TaskState.FINISHED)
    assert await store.complete(uuid4(), [outcome]) == set()
    assert await store.complete(pool.id, [outcome]) == {task.id}
    clock.now += MINUTE
    assert await store.prune(PruneRequest(("common",), timedelta(0), None, 10)) == 1
    await store.unregister(pool.id)
    assert not (await store.claim(request)).registered
    await store.close()


# Claim ----------------------------------------------------------------------------------------------------------------


def test_what_a_claim_returns(queue: MemoryQueue, pool: Pool, clock: Clock) -> None:
    task = queue.insert_task(Parse(n=5), priority=1, max_retries=7)
    clock.now += MINUTE

    claim = pool.ask()

    assert claim == Claim(claim.tasks, NOW + MINUTE, NO_TRANSACTIONS, registered=True)
    (claimed,) = claim.tasks
    assert claimed == ClaimedTask(task.id, KIND, '{"n": 5, "text": ""}', 1, 0, 7, 0, "common", 1, NOW)
    row = found(queue, task.id)
    assert (row.state, row.attempt, row.pool_id) == (TaskState.IN_PROGRESS, 1, pool.id)
    assert row.claimed_at == row.updated_at == NOW + MINUTE
    assert row.scheduled_at == NOW
    assert pool.claim() == []


places = st.tuples(st.sampled_from("abc"), st.integers(-2, 2), st.integers(0, 3))


@given(st.lists(places, max_size=30), st.permutations("abc"), st.integers(0, 30))
def test_claims_come_by_the_order_of_types_then_priority_then_time_then_id(
    given: list[tuple[str, int, int]], types: list[str], limit: int
) -> None:
    clock = Clock()
    queue = MemoryQueue(clock=clock)
    pool = Pool(Driven(queue.store()))
    for task_type, priority, minutes in given:
        queue.insert_task(Parse(), task_type=task_type, priority=priority, scheduled_at=NOW - minutes * MINUTE)

    claimed = pool.claim(limit, types=types) + pool.claim(100, types=types)

    assert len(claimed) == len(given)
    keys = [(types.index(task.task_type), task.priority, task.scheduled_at, task.id) for task in claimed]
    assert keys == sorted(keys)


def test_only_what_was_asked_for_is_claimed(queue: MemoryQueue, pool: Pool, clock: Clock) -> None:
    queue.insert_task(Parse(), task_type="else")
    queue.insert_task(Other())
    queue.insert_task(Parse(), delay=MINUTE)
    due = queue.insert_task(Parse())

    assert [task.id for task in pool.claim(kinds=[KIND])] == [due.id]
    assert len(pool.claim(kinds=[OTHER])) == 1
    clock.now += MINUTE
    assert len(pool.claim(kinds=[KIND])) == 1
    assert len(pool.claim(types=["else"])) == 1


def test_a_pool_that_is_not_registered_claims_nothing(queue: MemoryQueue, pool: Pool) -> None:
    task = queue.insert_task(Parse())
    pool.store.unregister(pool.id)

    claim = pool.ask()

    assert (claim.tasks, claim.registered) == ([], False)
    assert found(queue, task.id) == task
    pool.store.unregister(pool.id)  # once more is harmless


# Complete -------------------------------------------------------------------------------------------------------------


def test_the_fence_lets_only_the_holder_write(queue: MemoryQueue, pool: Pool) -> None:
    queue.insert_task(Parse())
    other = Pool(pool.store)
    (first,) = pool.claim()

    assert other.end(first, SUCCESS) == set()  # another pool
    assert pool.end(first._replace(attempt=2), SUCCESS) == set()  # another attempt
    assert pool.end(first._replace(id=uuid4()), SUCCESS) == set()  # another task
    assert pool.end(first, NOT_RUN) == {first.id}

    (second,) = other.claim()
    assert (second.id, second.attempt) == (first.id, 2)
    assert pool.end(first, SUCCESS) == set()  # it has lost the task
    assert found(queue, first.id).state is TaskState.IN_PROGRESS
    assert other.end(second, SUCCESS) == {first.id}
    assert other.end(second, SUCCESS) == set()  # it holds it no more


def test_only_those_that_found_their_row_are_named(queue: MemoryQueue, pool: Pool) -> None:
    queue.insert_tasks([Parse(), Parse(), Parse()])
    one, two, three = pool.claim()
    outcomes = [Outcome(task.id, task.attempt, TaskState.FINISHED) for task in (one, two, three)]
    outcomes[1] = outcomes[1]._replace(attempt=9)

    assert pool.store.complete(pool.id, outcomes) == {one.id, three.id}


def test_a_given_back_task_is_as_it_was(queue: MemoryQueue, pool: Pool) -> None:
    before = queue.insert_task(Parse(), scheduled_at=NOW - DAY)
    (task,) = pool.claim()
    pool.end(task, NOT_RUN)

    assert found(queue, task.id) == before._replace(attempt=1)


def test_a_snooze_forgets_crashes_and_no_other_end_does(queue: MemoryQueue, pool: Pool) -> None:
    endings = [Snoozed(DAY), NOT_RUN, Failure(ErrorReport("no", None)), SUCCESS]
    for task in queue.insert_tasks([Parse() for _ in endings]):
        queue.state.tasks[task.id] = task._replace(crashes=2, retries=1)
    ended = pool.claim()
    for task, result in zip(ended, endings, strict=True):
        pool.end(task, result)

    rows = [found(queue, task.id) for task in ended]
    assert [(row.crashes, row.retries) for row in rows] == [(0, 1), (2, 1), (2, 2), (2, 1)]


def test_an_outcome_without_state_removes_the_row(queue: MemoryQueue, pool: Pool) -> None:
    queue.insert_task(Parse())
    (task,) = pool.claim()

    assert pool.store.complete(pool.id, [Outcome(task.id, task.attempt, None)]) == {task.id}
    assert queue.tasks == []


def test_a_failure_is_written_down(queue: MemoryQueue, pool: Pool, clock: Clock) -> None:
    queue.insert_task(Parse())
    (task,) = pool.claim()
    clock.now += MINUTE
    pool.end(task, Failure(ErrorReport("ValueError: no", "frames"), delay=DAY))

    row = found(queue, task.id)
    assert (row.state, row.retries, row.attempt) == (TaskState.RETRIED, 1, 1)
    assert (row.pool_id, row.claimed_at) == (None, None)
    assert (row.scheduled_at, row.updated_at) == (NOW + MINUTE + DAY, NOW + MINUTE)
    assert row.error_message == "ValueError: no"
    time = (NOW + MINUTE).isoformat()
    assert row.errors == ({"number": 1, "error": "ValueError: no", "traceback": "frames", "time": time},)


def test_the_last_ten_failures_are_kept(queue: MemoryQueue, pool: Pool) -> None:
    queue.insert_task(Parse())
    for number in range(1, 26):
        (task,) = pool.claim()
        pool.end(task, Failure(ErrorReport(f"E: {number}", None)))

    row = queue.tasks[0]
    assert [entry["error"] for entry in row.errors] == [f"E: {number}" for number in range(16, 26)]
    assert [entry["number"] for entry in row.errors] == list(range(16, 26))
    assert row.error_message == "E: 25"
    assert row.retries == 25


# Prune ----------------------------------------------------------------------------------------------------------------

FAILURE = Failure(ErrorReport("E", None))


@pytest.mark.parametrize(
    ("keep_finished", "keep_failed", "left"),
    [
        (None, None, {"finished", "cancelled", "failed", "due", "held"}),
        (DAY, None, {"failed", "due", "held"}),
        (None, DAY, {"finished", "cancelled", "due", "held"}),
        (DAY, DAY, {"due", "held"}),
        (3 * DAY, 3 * DAY, {"finished", "cancelled", "failed", "due", "held"}),
        (2 * DAY, 2 * DAY, {"finished", "cancelled", "failed", "due", "held"}),
    ],
)
def test_prune(
    queue: MemoryQueue,
    pool: Pool,
    clock: Clock,
    keep_finished: timedelta | None,
    keep_failed: timedelta | None,
    left: set[str],
) -> None:
    results: dict[str, Result] = {"finished": SUCCESS, "cancelled": Cancelled("why"), "failed": FAILURE}
    for name, result in results.items():
        queue.insert_task(Parse(text=name), max_retries=0)
        (task,) = pool.claim()
        pool.end(task, result)
    queue.insert_task(Parse(text="held"))
    pool.claim()
    queue.insert_task(Parse(text="due"))
    clock.now += 2 * DAY

    pruned = pool.store.prune(PruneRequest(("common",), keep_finished, keep_failed, 100))

    assert {task.metadata["text"] for task in queue.tasks} == left
    assert pruned == 5 - len(left)


def test_prune_keeps_to_its_limit(queue: MemoryQueue, pool: Pool, clock: Clock) -> None:
    queue.insert_tasks(Parse() for _ in range(5))
    for task in pool.claim():
        pool.end(task, SUCCESS)
    clock.now += MINUTE
    request = PruneRequest(("common",), timedelta(0), None, 2)

    assert [pool.store.prune(request) for _ in range(4)] == [2, 2, 1, 0]


# By hand, and unique tasks: what the clock shows; the conformance suite holds the rest --------------------------------


class Once(Parse):
    task_config = TaskConfig(kind="memory.Once", uniq=True)


def test_a_row_that_was_moved_and_back_is_not_as_it_was_read(queue: MemoryQueue, clock: Clock) -> None:
    task = queue.insert_task(Parse())
    clock.now += timedelta(microseconds=1)
    queue.update_task_state(queue.update_task_state(task, TaskState.CANCELLED), TaskState.NEW)

    with pytest.raises(StaleTask):
        queue.update_task_state(task, TaskState.FINISHED)


@pytest.mark.parametrize(("waits", "due"), [(-DAY, NOW + MINUTE), (timedelta(0), NOW + MINUTE), (DAY, NOW + DAY)])
def test_a_revived_task_is_due_now_at_the_earliest(
    queue: MemoryQueue, clock: Clock, waits: timedelta, due: datetime
) -> None:
    ended = queue.fail_task(queue.insert_task(Parse(), scheduled_at=NOW + waits), "no")
    clock.now += MINUTE
    revived = queue.update_task_state(ended, TaskState.NEW)

    assert (revived.scheduled_at, revived.updated_at, revived.created_at) == (due, NOW + MINUTE, NOW)
    assert revived.errors == ({"number": 0, "error": "no", "traceback": None, "time": NOW.isoformat()},)


def test_a_revival_forgets_crashes_and_no_other_move_does(queue: MemoryQueue) -> None:
    task = queue.insert_task(Parse())
    queue.state.tasks[task.id] = task._replace(crashes=2, retries=1)
    ended = queue.update_task_state(task, TaskState.FINISHED)
    assert (ended.crashes, ended.retries) == (2, 1)
    revived = queue.update_task_state(ended, TaskState.NEW)
    assert (revived.crashes, revived.retries) == (0, 0)


def test_a_retry_by_hand_is_due_after_its_backoff(queue: MemoryQueue, clock: Clock) -> None:
    queue.insert_task(Parse(), scheduled_at=NOW - DAY)
    held = queue.fetch_and_touch_task()
    assert held is not None
    clock.now += MINUTE

    assert queue.schedule_retry(held, DAY, "no").scheduled_at == NOW + MINUTE + DAY


def test_by_hand_a_queue_holds_tasks_in_its_own_name(queue: MemoryQueue, pool: Pool) -> None:
    queue.insert_tasks([Parse(), Parse()])
    held = queue.fetch_and_touch_task()
    assert held is not None
    assert held.pool_id is not None
    assert queue.state.pools[held.pool_id].record.mode == "manual"

    (claimed,) = pool.claim()
    assert (claimed.id != held.id, pool.end(claimed._replace(id=held.id), SUCCESS)) == (True, set())


def test_scheduled_are_those_that_lie_ahead(queue: MemoryQueue, clock: Clock) -> None:
    queue.insert_task(Parse(), delay=MINUTE)
    later = queue.insert_task(Parse(), delay=MINUTE + timedelta(microseconds=1))
    clock.now += MINUTE

    assert queue.remove_all_scheduled_tasks() == 1
    assert queue.find_task_by_id(later.id) is None


def test_what_was_changed_wakes_and_what_was_there_already_does_not(queue: MemoryQueue) -> None:
    woken: list[str] = []
    queue.state.listeners.add("me", ["common"], lambda _: woken.append("common"), lambda _: None)

    task = queue.insert_task(Once())
    assert len(woken) == 1
    queue.insert_task(Once())
    queue.insert_tasks([Once(), Once()])
    queue.insert_task(Parse(), task_type="other")
    assert len(woken) == 1
    queue.update_task_state(queue.update_task_state(task, TaskState.FAILED), TaskState.NEW)
    assert len(woken) > 1
    queue.state.listeners.remove("me")
    before = len(woken)
    queue.insert_task(Parse())
    assert len(woken) == before


def test_many_threads_insert_one_unique_task(queue: MemoryQueue) -> None:
    with ThreadPoolExecutor(16) as executor:
        rows = list(executor.map(lambda _: queue.insert_task(Once()), range(200)))

    assert [row.conflict for row in rows].count(False) == 1
    assert [task.id for task in queue.tasks] == [rows[0].id]


def test_a_beat_brings_requests_to_cancel_what_a_pool_holds(queue: MemoryQueue) -> None:
    queue.insert_tasks([Parse(), Parse()])
    first, second = queue.fetch_and_touch_task(), queue.fetch_and_touch_task()
    assert first is not None
    assert second is not None
    assert first.pool_id is not None
    asked = first._replace(cancel_request={"reason": "a mistake", "by": "me"})
    queue.state.tasks[first.id] = asked
    held = [(task.id, task.attempt) for task in (first, second)]
    assert queue.state.registry.beat(BeatRequest(first.pool_id, held=held)).cancels == [(first.id, "a mistake", "me")]
    assert queue.state.registry.beat(BeatRequest(first.pool_id)).cancels == []


def test_an_hour_of_the_history_that_is_to_come_hides_nothing() -> None:
    """The clock was ahead when it was added up, and was set back."""
    state = MemoryState()
    now, to_come = state.clock(), hour_of(state.clock()) + timedelta(days=3)
    pair = "common", "A"
    for span, at, count in ((3_600, to_come, 7), (60, to_come, 7), (60, minute_of(now), 5)):
        state.stats.rows[Key(span, at, UUID(int=0), pair)] = StatsRow(finished=count)
    for since in (timedelta(hours=1), timedelta(days=7)):
        [kind] = MemoryQueue(state=state).stats(since).kinds
        assert kind.finished == 12
