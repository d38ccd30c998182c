"""A queue on a Cluster of several nodes: it finds the node that has its slot, and follows the slot."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from fang_core import Runnable
from fang_core.driving import drive
from fang_core.errors import BackendError
from fang_core.liveness import BeatRequest
from fang_redis import AsyncRedisQueue, RedisQueue
from tests.redis.nodes import Cluster, cluster
from tests.redisserver import RedisServer, wait_for


class Clustered(Runnable):
    n: int = 0

    def run(self, queue: Any) -> None: ...


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def nodes(made: Cluster) -> list[RedisServer]:
    """Its nodes, without a task."""
    with RedisQueue(made.nodes[0].url) as queue:
        queue.remove_all_tasks()
    return made.nodes


def test_a_queue_of_any_node_finds_its_slot(nodes: list[RedisServer]) -> None:
    for node in nodes:
        with RedisQueue(node.url) as queue:
            task = queue.insert_task(Clustered())
            assert queue.find_task_by_id(task.id) == task
            tasks = queue.insert_tasks([Clustered(n=n) for n in range(5)])
            assert len(tasks) == 5
            store = queue.store()
            heart = store.heart(True)
            beat = drive(heart.beat(BeatRequest(task.id)))
            assert not beat.registered
            drive(heart.close())
            drive(store.close())
    with RedisQueue(nodes[0].url) as queue:
        assert queue.remove_all_tasks() == 18


def test_a_queue_of_any_node_finds_its_slot_in_asyncio(nodes: list[RedisServer]) -> None:
    async def use(node: RedisServer) -> None:
        async with AsyncRedisQueue(node.url) as queue:
            tasks = await asyncio.gather(*(queue.insert_task(Clustered(n=n)) for n in range(5)))
            assert [await queue.find_task_by_id(task.id) for task in tasks] == tasks

    for node in nodes:
        asyncio.run(use(node))


def test_a_node_that_is_gone_is_looked_for_at_the_address_that_was_given(
    made: Cluster, nodes: list[RedisServer]
) -> None:
    owner, seed = made.owner(), made.other()
    with RedisQueue(seed.url) as queue:
        queue.insert_task(Clustered())
        assert queue._server.moved["port"] == owner.port
        owner.kill()
        with pytest.raises(BackendError):
            queue.insert_task(Clustered())
        assert queue._server.moved == {}
        owner.start()
        wait_for(lambda: _inserts(queue), "the queue does not find its slot again")


def _inserts(queue: RedisQueue) -> bool:
    try:
        queue.insert_task(Clustered())
    except BackendError:
        return False
    return True
