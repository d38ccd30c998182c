"""A queue on a Cluster of several nodes: it finds the node that has its slot, and follows the slot."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fang_core import Runnable
from fang_core.driving import drive
from fang_core.errors import BackendError
from fang_core.liveness import BeatRequest
from fang_redis import AsyncRedisQueue, RedisQueue
from tests.ports import free_port
from tests.redisserver import RedisServer, wait_for

SLOTS = 16_384


class Clustered(Runnable):
    n: int = 0

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def nodes() -> Iterator[list[RedisServer]]:
    """Three, each with a third of the slots."""
    with ExitStack() as stack:
        settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        # By itself a node talks to others at its port + 10000, which some connection may have taken.
        nodes = [RedisServer({**settings, "cluster-port": str(free_port())}, tcp=True) for _ in range(3)]
        for node in nodes:
            stack.enter_context(node)
        for number, node in enumerate(nodes):
            with node.client() as client:
                slots = range(number * SLOTS // 3, (number + 1) * SLOTS // 3)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                if number:
                    first = nodes[0]
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, first.settings["cluster-port"])

        def is_formed(node: RedisServer) -> bool:
            with node.client() as client:
                said: Any = client.execute_command("CLUSTER", "INFO")
                text = str(said)
                return ("cluster_state:ok" in text or "'ok'" in text) and "known_nodes" in text and "3" in text

        def has_all_slots(node: RedisServer) -> bool:
            with node.client() as client:
                return len(client.execute_command("CLUSTER", "SLOTS")) == 3

        for node in nodes:
            wait_for(lambda node=node: is_formed(node) and has_all_slots(node), "no cluster came about")
        yield nodes


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


def test_a_node_that_is_gone_is_looked_for_at_the_address_that_was_given(nodes: list[RedisServer]) -> None:
    owner = next(node for node in nodes if _owns(node))
    seed = next(node for node in nodes if node is not owner)
    with RedisQueue(seed.url) as queue:
        queue.insert_task(Clustered())
        assert queue._server.moved["port"] == owner.port
        owner.kill()
        with pytest.raises(BackendError):
            queue.insert_task(Clustered())
        assert queue._server.moved == {}
        owner.start()
        wait_for(lambda: _inserts(queue), "the queue does not find its slot again")


def _owns(node: RedisServer) -> bool:
    with node.client() as client:
        slot = int(client.execute_command("CLUSTER", "KEYSLOT", "{fang}:"))
        mine = client.execute_command("CLUSTER", "MYID")
        for low, high, (_, _, owner, *_), *_ in client.execute_command("CLUSTER", "SLOTS"):
            if low <= slot <= high:
                return bool(owner == mine)
    return False


def _inserts(queue: RedisQueue) -> bool:
    try:
        queue.insert_task(Clustered())
    except BackendError:
        return False
    return True
