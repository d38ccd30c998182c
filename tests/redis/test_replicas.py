"""``replicas=`` of a queue: an insert returns once so many replicas have it, or says that they have not."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from fang_core import BackendError, OutcomeUnknown, UsageError
from fang_core.conformance.tasks import AsyncNote, ThreadedNote
from fang_redis import AsyncRedisQueue, RedisQueue
from tests.redisserver import RedisServer, replicated


@pytest.fixture(scope="module")
def primary() -> Iterator[RedisServer]:
    """A server with one replica."""
    with RedisServer(tcp=True) as primary, RedisServer({"replicaof": f"127.0.0.1 {primary.port}"}) as replica:
        replica.client().close()
        with primary.client() as client:
            while not client.wait(1, 1_000):  # type: ignore[no-untyped-call]
                client.set("synchronized", "soon")
        yield primary


@pytest.mark.parametrize("count", [1, 1_500])
def test_an_insert_returns_when_the_replicas_have_it(primary: RedisServer, count: int) -> None:
    with RedisQueue(primary.url, replicas=1) as queue:
        tasks = queue.insert_tasks([ThreadedNote()] * count)
    assert len(tasks) == count


async def test_so_it_does_in_asyncio(primary: RedisServer) -> None:
    async with AsyncRedisQueue(primary.url, replicas=1) as queue:
        assert not (await queue.insert_task(AsyncNote())).conflict


@pytest.mark.parametrize("count", [1, 1_500])
def test_an_insert_says_that_too_few_have_it_and_which_tasks_are_in_doubt(primary: RedisServer, count: int) -> None:
    with RedisQueue(primary.url, replicas=2) as queue:
        with pytest.raises(OutcomeUnknown, match="of 2 replicas") as caught:
            queue.insert_tasks([ThreadedNote()] * count)
        assert len(caught.value.ids) == count
        (first, *_) = caught.value.ids
        assert queue.find_task_by_id(first) is not None  # type: ignore[arg-type]


def test_so_does_its_repeat_on_another_connection() -> None:
    """A repeat finds its task, and ``WAIT`` of Valkey 9.1 does not wait for a script that wrote nothing."""
    task_id = uuid4()
    with replicated({}) as (primary, replica):
        replica.freeze()
        for _ in range(2):
            with RedisQueue(primary.url, replicas=1) as queue, pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
                queue.insert_task(ThreadedNote(), id=task_id)
        replica.thaw()
        with RedisQueue(primary.url, replicas=1) as queue:
            assert queue.insert_task(ThreadedNote(), id=task_id).conflict


def test_a_full_memory_refuses_an_insert_and_lets_its_repeat_be_confirmed(primary: RedisServer) -> None:
    with RedisQueue(primary.url, replicas=1) as queue, primary.client() as client:
        there = queue.insert_task(ThreadedNote())
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(BackendError, match="memory is full"):
                queue.insert_task(ThreadedNote())
            assert queue.insert_task(ThreadedNote(), id=there.id).conflict
        finally:
            client.config_set("maxmemory", 0)


@pytest.mark.parametrize("replicas", [-1, True, "1", 1.0])
def test_a_number_of_replicas_that_is_none_is_refused(replicas: object) -> None:
    with pytest.raises(UsageError, match="replicas"):
        RedisQueue("redis://localhost", replicas=replicas)  # type: ignore[arg-type]
