"""An insert that takes along the claim of a pool of its process: what the pool gets of it, and what it must not."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import pytest
import redis

from fang_core import BackendError, BackendUnavailable, Limit, OutcomeUnknown
from fang_core.backends.claims import Claim, ClaimRequest, ReadyClaim, SendAlong
from fang_core.backends.pools import PoolRecord
from fang_core.driving import drive
from fang_core.record import Task, TaskState
from fang_core.tasks.registry import Mode
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_redis.connections import handing
from fang_redis.connections.links import Link
from fang_threaded import WorkerPool
from tests.modes import RAN, ThreadedNote
from tests.patience import PATIENT
from tests.redis.indexes import assert_exact
from tests.redisserver import RedisServer

T = TypeVar("T")

KIND: Final = "tests.ThreadedNote"
HOUR: Final = timedelta(hours=1)


class Resting:
    """A pool that rests with its claim ready, as far as its queue sees it, in either mode."""

    def __init__(self, mode: Mode, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner() if mode == "async" else None
        self.queue: Any = AsyncRedisQueue(url, **options) if mode == "async" else RedisQueue(url, **options)
        self.do(self.queue.open())
        self.store = self.do(self.queue.store())
        self.id = uuid4()
        self.woken = 0
        self.sent: ReadyClaim | None = None
        self.reads = True
        self._thread = ThreadPoolExecutor(1)  # the pool's, which reads the replies
        self._answer: Future[Claim] | None = None
        record = PoolRecord(self.id, mode, "host", os.getpid(), ("common",), (KIND,), 1, timedelta(seconds=60), 3)
        self.do(self.store.register(record))
        self.do(self.store.set_waiting(self.id, True))
        self.offer()

    def offer(self, *task_types: str) -> None:
        """Has one more claim ready."""
        ready = self.store.ready(ClaimRequest(self.id, task_types or ("common",), (KIND,), 10))

        def hand_over(send: SendAlong) -> Callable[[], None] | None:
            if not send(ready):
                return None
            self.sent = ready
            return self._wake

        async def offer() -> None:
            ready.offer(hand_over)

        self.do(offer())

    def _wake(self) -> None:
        self.woken += 1
        if self._runner is None and self.sent is not None and self.reads:
            self._answer = self._thread.submit(drive, self.sent.answer())

    def do(self, call: Any) -> Any:
        if self._runner is not None:
            return self._runner.run(call) if asyncio.iscoroutine(call) else call
        return drive(call) if isinstance(call, Coroutine) else call

    def insert(self, **options: Any) -> Task:
        task: Task = self.do(self.queue.insert_task(ThreadedNote(), **options))
        return task

    def answer(self) -> Claim:
        """What the claim has brought that an insert has sent."""
        assert self.sent is not None
        if self._answer is not None:
            return self._answer.result(PATIENT)
        claim: Claim = self.do(self.sent.answer())
        return claim

    def change_loop(self) -> None:
        """Ends the event loop; what follows is done on another one."""
        assert self._runner is not None
        self._runner.close()
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._thread.shutdown()
        self.do(self.store.close())
        self.do(self.queue.close())
        if self._runner is not None:
            self._runner.close()


@pytest.fixture(params=["threaded", "async"])
def mode(request: pytest.FixtureRequest) -> Mode:
    mode: Mode = request.param
    return mode


@pytest.fixture
def pool(mode: Mode, redis_url: str) -> Iterator[Resting]:
    pool = Resting(mode, redis_url)
    pool.insert(delay=HOUR, task_type="other")  # so that the server knows the script
    yield pool
    pool.close()


def published(client: redis.Redis) -> int:
    """How many messages the server has published since it was asked last."""
    stats: dict[str, Any] = client.info("commandstats")  # type: ignore[assignment]
    client.config_resetstat()
    return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])


def ids(tasks: Sequence[Any]) -> list[UUID]:
    return [task.id for task in tasks]


# What goes along ------------------------------------------------------------------------------------------------------


def test_a_pool_that_rests_has_the_task_at_once_and_nobody_is_woken(pool: Resting, redis_client: redis.Redis) -> None:
    published(redis_client)
    task = pool.insert()
    assert (task.state, task.conflict, pool.woken) == (TaskState.NEW, False, 1)
    claim = pool.answer()
    assert [(each.id, each.attempt) for each in claim.tasks] == [(task.id, 1)]
    assert published(redis_client) == 0


def test_an_insert_of_several_takes_it_along_too(pool: Resting) -> None:
    tasks = pool.do(pool.queue.insert_tasks([ThreadedNote(n=n) for n in range(3)]))
    assert ids(pool.answer().tasks) == ids(tasks)


def test_a_claim_goes_along_once(pool: Resting, redis_client: redis.Redis) -> None:
    pool.insert()
    first, pool.sent = pool.sent, None
    published(redis_client)
    pool.insert()
    assert first is not None
    assert pool.sent is None
    assert published(redis_client) == 1


def test_tasks_that_waited_before_go_first(pool: Resting, redis_url: str) -> None:
    with RedisQueue(redis_url) as other:
        first = other.insert_task(ThreadedNote(), priority=-1)
    task = pool.insert()
    assert ids(pool.answer().tasks) == [first.id, task.id]


def test_tasks_of_a_type_that_is_served_before_go_first(pool: Resting, redis_url: str) -> None:
    with RedisQueue(redis_url) as other:
        first = other.insert_task(ThreadedNote(), task_type="other")
    pool.offer("other", "common")
    task = pool.insert()
    assert ids(pool.answer().tasks) == [first.id, task.id]


def test_a_task_that_is_all_that_its_pool_would_claim_takes_one_script_and_wakes_no_other_pool(
    pool: Resting, redis_client: redis.Redis, redis_url: str
) -> None:
    other = Resting("threaded", redis_url)
    with RedisQueue(redis_url) as elsewhere:
        elsewhere.insert_task(ThreadedNote(), delay=HOUR, priority=1)  # no claim brings it yet
    redis_client.config_resetstat()  # type: ignore[no-untyped-call]
    task = pool.insert(priority=1, headers={"trace": "1"}, timeout=timedelta(seconds=9), max_retries=7)
    (claimed,) = pool.answer().tasks
    stats: dict[str, Any] = redis_client.info("commandstats")  # type: ignore[assignment]
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert "cmdstat_publish" not in stats
    assert (claimed.id, claimed.attempt, claimed.kind, claimed.task_type) == (task.id, 1, KIND, "common")
    assert (claimed.priority, claimed.headers, claimed.max_retries) == (1, {"trace": "1"}, 7)
    assert (claimed.timeout, claimed.scheduled_at) == (timedelta(seconds=9), task.scheduled_at)
    there = pool.do(pool.queue.find_task_by_id(task.id))
    assert (there.state, there.pool_id, there.attempt) == (TaskState.IN_PROGRESS, pool.id, 1)
    assert_exact(redis_client)
    other.close()


def test_other_pools_that_wait_are_woken(pool: Resting, redis_client: redis.Redis, redis_url: str) -> None:
    """The claim may not bring the task: here the script does not look whether it does."""
    other = Resting("threaded", redis_url)
    published(redis_client)
    task = pool.insert(uniq=True)
    assert published(redis_client) == 1
    assert ids(pool.answer().tasks) == [task.id]
    other.close()


def test_a_twin_that_is_there_is_the_inserts_answer_and_no_news_to_the_pool(pool: Resting) -> None:
    first = pool.insert(uniq=True)
    assert ids(pool.answer().tasks) == [first.id]
    pool.offer()
    again = pool.insert(uniq=True)
    assert (again.id, again.conflict, again.state) == (first.id, True, TaskState.IN_PROGRESS)
    assert pool.answer().tasks == []


# What does not --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"delay": HOUR}, {"task_type": "other"}], ids=["a task that is due later", "a type of other pools"]
)
def test_no_claim_goes_along_with_what_it_would_not_bring(pool: Resting, options: dict[str, Any]) -> None:
    pool.insert(**options)
    assert pool.sent is None


def test_no_claim_goes_along_with_a_kind_that_the_pool_does_not_know(pool: Resting) -> None:
    class UnknownNote(ThreadedNote):
        pass

    pool.do(pool.queue.insert_task(UnknownNote()))
    assert pool.sent is None


def test_replicas_are_waited_for_before_a_run(mode: Mode, redis_url: str) -> None:
    """A failover would lose the task that runs."""
    pool = Resting(mode, redis_url, replicas=1)
    with pytest.raises(OutcomeUnknown):
        pool.insert()
    assert pool.sent is None
    pool.close()


def test_no_limit_is_exceeded_by_a_claim_that_was_ready_before_it_was_set(pool: Resting) -> None:
    pool.do(pool.queue.limits.set("common", [Limit(1)]))
    tasks = [pool.insert(), pool.insert()]
    claim = pool.answer()
    assert (claim.tasks, claim.managed) == ([], ("common",))
    assert [pool.do(pool.queue.find_task_by_id(task.id)).state for task in tasks] == [TaskState.NEW] * 2


def test_a_child_that_was_forked_speaks_for_no_pool_of_its_parent(redis_url: str) -> None:
    pool = Resting("threaded", redis_url)
    child = os.fork()
    if not child:
        pool.insert()  # which connects
        pool.insert()
        os._exit(pool.sent is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    task = pool.insert()
    assert ids(pool.answer().tasks)[2:] == [task.id]
    pool.close()


def test_no_claim_goes_along_once_its_event_loop_has_ended(redis_url: str) -> None:
    """Its pool went with the loop, and was never stopped."""
    pool = Resting("async", redis_url)
    pool.change_loop()
    pool.insert()
    assert pool.sent is None
    pool.close()


def test_no_claim_of_a_pool_that_has_stopped_goes_along(pool: Resting) -> None:
    pool.do(pool.store.close())
    pool.insert()
    assert pool.sent is None


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_a_server_that_has_forgotten_the_scripts_gets_the_insert_again_and_wakes_the_pool(
    pool: Resting, redis_client: redis.Redis
) -> None:
    """The claim may have come before the task then."""
    redis_client.script_flush()
    published(redis_client)
    task = pool.insert()
    assert published(redis_client) == 1
    assert ids(pool.answer().tasks) in ([], [task.id])


def test_an_insert_that_is_refused_says_so_and_the_pool_has_its_answer(
    pool: Resting, redis_client: redis.Redis
) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Exception, match="memory is full"):
            pool.insert()
    finally:
        redis_client.config_set("maxmemory", 0)
    assert pool.answer().tasks == []


def test_if_the_reply_is_lost_the_insert_is_in_doubt_and_the_pool_hears_of_it(mode: Mode) -> None:
    with RedisServer() as server:
        pool = Resting(mode, server.url)
        server.freeze()
        killing = threading.Timer(0.2, server.kill)
        killing.start()
        with pytest.raises(OutcomeUnknown, match="closed the connection"):
            pool.insert()
        assert pool.woken
        with pytest.raises(BackendUnavailable, match="closed the connection"):
            pool.answer()
        killing.join()
        pool.close()


@pytest.mark.parametrize("options", [{}, {"uniq": True}], ids=["a plain task", "a unique one"])
def test_a_claim_that_fails_says_nothing_of_the_insert(
    pool: Resting, redis_client: redis.Redis, options: dict[str, Any]
) -> None:
    redis_client.rename("{fang}:beats", "kept")
    redis_client.set("{fang}:beats", "spoilt")
    task = pool.insert(**options)
    assert (task.state, pool.woken) == (TaskState.NEW, 1)
    with pytest.raises(BackendError, match="WRONGTYPE"):
        pool.answer()
    redis_client.rename("kept", "{fang}:beats")
    assert pool.do(pool.queue.find_task_by_id(task.id)).state is TaskState.NEW


def test_a_pool_hears_of_a_claim_that_has_failed_in_the_middle(pool: Resting, redis_client: redis.Redis) -> None:
    """What it has taken is in no line any more, so that the next claim would find nothing, and no fault."""
    redis_client.set(f"{{fang}}:held:{pool.id}", "spoilt")
    pool.insert()
    with pytest.raises(BackendError, match="WRONGTYPE"):
        pool.answer()


def test_an_insert_that_fails_when_its_task_is_claimed_already_has_written_nothing(
    pool: Resting, redis_client: redis.Redis
) -> None:
    redis_client.rename("{fang}:ids", "kept")
    redis_client.set("{fang}:ids", "spoilt")
    task_id = uuid4()
    with pytest.raises(BackendError, match="WRONGTYPE"):
        pool.insert(id=task_id)
    assert pool.answer().tasks == []
    redis_client.rename("kept", "{fang}:ids")
    assert_exact(redis_client)
    pool.offer()
    again = pool.insert(id=task_id)
    assert not again.conflict
    assert ids(pool.answer().tasks) == [task_id]
    assert_exact(redis_client)


def test_a_thread_that_is_stopped_when_it_has_taken_a_claim_over_leaves_no_pool_waiting(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the time limit of a run, or by Ctrl-C, which strike anywhere."""
    pool = Resting("threaded", redis_url)

    def struck(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Link, "begin", struck)
    with pytest.raises(KeyboardInterrupt):
        pool.insert()
    monkeypatch.undo()
    with pytest.raises(BackendUnavailable) as lost:
        pool.answer()
    assert "Timeout" not in str(lost.value)
    pool.close()


def test_a_thread_that_is_stopped_while_it_waits_takes_nothing_from_the_pool(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Resting("threaded", redis_url)

    def struck(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(handing.SharedReply, "inserted", struck)
    with pytest.raises(KeyboardInterrupt):
        pool.insert()
    monkeypatch.undo()
    assert len(pool.answer().tasks) == 1
    pool.insert(delay=HOUR)  # on the connection that the pool has given back
    pool.close()


def test_an_insert_does_not_wait_for_ever_for_a_pool_that_passes_no_reply_on(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing, "PASSED_ON_WITHIN", 0.01)
    pool = Resting("threaded", redis_url)
    pool.reads = False
    with pytest.raises(OutcomeUnknown, match="passed no reply on"):
        pool.insert()
    assert len(pool.answer().tasks) == 1
    pool.close()


# Pools ----------------------------------------------------------------------------------------------------------------


def test_a_pool_that_rests_runs_what_is_inserted_through_its_queue_without_being_woken(
    redis_url: str, redis_client: redis.Redis
) -> None:
    while not RAN.empty():
        RAN.get()
    deadline, is_over = time.monotonic() + PATIENT, False
    with RedisQueue(redis_url) as queue, WorkerPool(queue):
        for number in count():
            published(redis_client)
            queue.insert_task(ThreadedNote(n=number))
            assert RAN.get(timeout=PATIENT) == number
            is_over = published(redis_client) == 0
            if is_over or time.monotonic() > deadline:
                break
    assert is_over
