"""A Cluster that hands the queue's slot over, or loses the node that has it: nothing is lost, and pools go on."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import pytest

from fang_async import AsyncRunnable, AsyncWorkerPool
from fang_core import Runnable
from fang_core.errors import BackendUnavailable, NotConnected
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_threaded import WorkerPool
from tests.patience import PATIENT
from tests.redis.nodes import Cluster, cluster
from tests.redisserver import wait_for

Trouble: TypeAlias = Callable[[Cluster], AbstractContextManager[None]]
AT_ONCE = 40
LONG = "x" * 200_000
"""So that the first reply comes before the last call is sent."""

RAN: list[int] = []


class Moved(Runnable):
    n: int = 0

    def run(self, queue: Any) -> None:
        RAN.append(self.n)


class MovedSoon(AsyncRunnable):
    n: int = 0
    text: str = ""

    async def run(self, queue: Any) -> None:
        RAN.append(self.n)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """One that loses no node."""
    with cluster() as made:
        yield made


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@contextmanager
def lost(nodes: Cluster) -> Iterator[None]:
    """Kills the owner, and waits at the end until its replica has taken over."""
    replica = nodes.add_replica()
    owner = nodes.owner()
    nodes.nodes.remove(owner)
    owner.kill()
    yield
    wait_for(lambda: nodes.owns(replica), "the replica does not take over")


@contextmanager
def handed_over(nodes: Cluster) -> Iterator[None]:
    """Hands the slot over; half of its keys have moved meanwhile."""
    source, target = nodes.begin_hand_over()
    nodes.move_keys(source, target, 3)
    yield
    nodes.end_hand_over(source, target)


def test_while_a_slot_is_handed_over_calls_are_refused_and_write_nothing(nodes: Cluster) -> None:
    with RedisQueue(nodes.other().url) as queue:
        tasks = queue.insert_tasks([Moved(n=n) for n in range(5)])
        with handed_over(nodes):
            for call in (
                lambda: queue.insert_task(Moved(n=9)),
                lambda: queue.insert_tasks([Moved(n=n) for n in range(2_000)]),
                queue.fetch_and_touch_task,
            ):
                with pytest.raises(NotConnected, match="hands the queue's slot over"):
                    call()
        assert queue.count_tasks().count == len(tasks)
        assert WorkerPool(queue, number_of_workers=1).drain() == len(tasks)


async def test_of_calls_at_once_each_hears_that_nothing_was_written(nodes: Cluster) -> None:
    """One whose connection is given up because of another call's reply would not know."""
    async with AsyncRedisQueue(nodes.other().url) as queue:
        await queue.insert_task(MovedSoon())
        with handed_over(nodes):
            said = await asyncio.gather(
                *(queue.insert_task(MovedSoon(n=n, text=LONG)) for n in range(AT_ONCE)), return_exceptions=True
            )
            assert {type(error) for error in said} == {NotConnected}
        await asyncio.gather(*(queue.insert_task(MovedSoon(n=n)) for n in range(AT_ONCE)))
        assert (await queue.count_tasks()).count == AT_ONCE + 1
        await queue.remove_all_tasks()


def test_a_pool_goes_on_where_the_slot_is(nodes: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    goes_on(nodes, handed_over)
    assert_calm(caplog)


async def test_so_does_one_of_asyncio(nodes: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    await goes_on_in_asyncio(nodes, handed_over)
    assert_calm(caplog)


def test_a_pool_goes_on_at_a_replica_that_takes_over(mortal: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    goes_on(mortal, lost)
    assert_calm(caplog)


async def test_so_does_one_of_asyncio_there(mortal: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    await goes_on_in_asyncio(mortal, lost)
    assert_calm(caplog)


def goes_on(nodes: Cluster, trouble: Trouble) -> None:
    """Runs tasks, brings the trouble about, and runs tasks again."""
    with RedisQueue(nodes.other().url) as queue, WorkerPool(queue, number_of_workers=2):
        queue.insert_tasks([Moved(n=n) for n in range(50)])
        wait_for(lambda: set(RAN) >= set(range(50)), "they have not run")
        with trouble(nodes), pytest.raises(BackendUnavailable):
            queue.insert_task(Moved(n=50))
        for n in range(100, 150):
            wait_for(lambda n=n: is_inserted(queue, n), "no insert is accepted")
        wait_for(lambda: set(RAN) >= set(range(100, 150)), "the pool does not go on")
        wait_for(lambda: queue.count_tasks().count == 0, "outcomes are not written")


async def goes_on_in_asyncio(nodes: Cluster, trouble: Trouble) -> None:
    async with AsyncRedisQueue(nodes.other().url) as queue, AsyncWorkerPool(queue, number_of_workers=2):
        await queue.insert_tasks([MovedSoon(n=n) for n in range(50)])
        await asyncio.to_thread(wait_for, lambda: set(RAN) >= set(range(50)), "they have not run")
        with trouble(nodes), pytest.raises(BackendUnavailable):
            await queue.insert_task(MovedSoon(n=50))
        for n in range(100, 150):
            await insert_soon(queue, n)
        await asyncio.to_thread(wait_for, lambda: set(RAN) >= set(range(100, 150)), "the pool does not go on")
    with RedisQueue(nodes.other().url) as after:
        assert after.count_tasks().count == 0


def assert_calm(caplog: pytest.LogCaptureFixture) -> None:
    assert not any(record.levelno > logging.WARNING or record.exc_info for record in caplog.records)


def test_a_node_is_looked_for_where_it_was_last_if_that_of_the_url_is_gone(mortal: Cluster) -> None:
    seed, owner = mortal.other(), mortal.owner()
    with RedisQueue(seed.url) as queue:
        queue.insert_task(Moved())
        for node in (seed, owner):
            node.kill()
        for _ in range(3):
            assert not is_inserted(queue, 1)
        owner.start()
        wait_for(lambda: is_inserted(queue, 1), "the queue asks the node of its URL alone")


def is_inserted(queue: RedisQueue, n: int) -> bool:
    try:
        queue.insert_task(Moved(n=n))
    except BackendUnavailable:
        return False
    return True


async def insert_soon(queue: AsyncRedisQueue, n: int) -> None:
    async with asyncio.timeout(PATIENT):
        while True:
            try:
                await queue.insert_task(MovedSoon(n=n))
                return
            except BackendUnavailable:
                await asyncio.sleep(0.01)
