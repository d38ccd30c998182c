"""The LISTEN connection: one for a queue, replaced when it dies or falls silent, gone when nobody waits any more."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

import fang_postgres.pool.listener
from fang_core.events import Events
from fang_threaded import Queue
from tests.modes import GATES, HOUR, Database, Harness, IdlePools, eventually, harness_of, ran
from tests.proxy import Mode, Proxy

LISTENS = rb"(?<!UN)LISTEN "  # asyncpg sends UNLISTEN whenever a connection goes back to its pool


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fang_postgres.pool.listener, "PING_EVERY", 0.2)
    monkeypatch.setattr(fang_postgres.pool.listener, "PING_TIMEOUT", 0.2)


class Told(Events):
    def __init__(self) -> None:
        self.failures: list[BaseException] = []

    def backend_failed(self, pool_id: UUID, error: BaseException) -> None:
        self.failures.append(error)


def insert(harness: Harness, url: str, n: int) -> None:
    """In a program of its own, so to say."""
    with psycopg.connect(url, autocommit=True) as connection:
        Queue(url).insert_task(harness.note(n=n), connection=connection)


def test_pools_of_one_queue_share_a_connection_which_goes_with_the_last_one(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    pools = [harness.pool(queue, task_type=task_type) for task_type in ("common", "mail")]
    idle_pools.wait(2)
    eventually(lambda: len(database.listeners) == 1)
    shared = database.listeners
    assert len(shared) == 1
    insert(harness, url, 1)
    assert ran() == [1]
    harness.stop(pools[0])
    assert database.listeners == shared
    harness.stop(pools[1])
    eventually(lambda: database.listeners == [])
    assert database.waiting == []
    harness.pool(queue)  # and once more
    idle_pools.wait()
    insert(harness, url, 2)
    assert ran() == [2]


def test_a_dead_connection_is_replaced_and_inserts_wake_again(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    harness.pool(harness.queue(url), events=[told])
    idle_pools.wait()
    eventually(lambda: len(database.listeners) == 1)
    for n in range(3):
        (old,) = database.listeners
        database.execute("SELECT pg_terminate_backend(%s)", old)
        eventually(lambda old=old: database.listeners and database.listeners != [old])
        idle_pools.wait()  # the new connection has woken it
        insert(harness, url, n)
        assert ran() == [n]
        idle_pools.wait()
        assert len(told.failures) == n + 1
    assert "pools are not woken" in str(told.failures[0])
    assert caplog.text.count("LISTEN works again, and inserts wake pools") == 3


def test_what_was_inserted_while_nobody_could_listen_is_found_at_the_next_connect(
    proxy: Proxy, harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    harness.pool(harness.queue(proxy.url))
    idle_pools.wait()
    eventually(lambda: len(database.listeners) == 1)
    proxy.set(Mode.REFUSE)
    assert proxy.set_where(Mode.RESET, LISTENS) == 1
    eventually(lambda: database.listeners == [])
    insert(harness, url, 1)
    proxy.set(Mode.PASS)
    assert ran() == [1]


@pytest.mark.usefixtures("quick_pings")
def test_a_silent_connection_is_replaced_by_its_ping(
    proxy: Proxy, harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    harness.pool(harness.queue(proxy.url))
    eventually(lambda: len(database.listeners) == 1)  # until its first ping
    idle_pools.wait()
    before = proxy.accepted
    assert proxy.set_where(Mode.BLACKHOLE, LISTENS) == 1
    insert(harness, url, 1)  # its notification goes into the black hole
    assert ran() == [1]
    assert proxy.accepted > before
    idle_pools.wait()
    insert(harness, url, 2)
    assert ran() == [2]


def test_until_then_tasks_wait_no_longer_than_the_poll(
    proxy: Proxy, harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fang_postgres.pool.listener, "PING_EVERY", HOUR.total_seconds())
    harness.pool(harness.queue(proxy.url), poll=timedelta(milliseconds=100))
    eventually(lambda: database.waiting == [True] and len(database.listeners) == 1)
    assert proxy.set_where(Mode.BLACKHOLE, LISTENS) == 1
    for n in range(3):
        insert(harness, url, n)
        assert ran(within=2) == [n]


@pytest.mark.usefixtures("quick_pings")
def test_pings_do_not_swallow_notifications(harness: Harness, url: str, idle_pools: IdlePools) -> None:
    harness.pool(harness.queue(url))
    for n in range(4):
        idle_pools.wait()
        insert(harness, url, n)
        assert ran(within=2) == [n]


def test_a_pool_can_be_stopped_while_its_listener_connects(
    proxy: Proxy, harness: Harness, url: str, idle_pools: IdlePools, database: Database
) -> None:
    pool = harness.pool(harness.queue(proxy.url))
    idle_pools.wait()
    eventually(lambda: len(database.listeners) == 1)
    proxy.set(Mode.REFUSE)
    assert proxy.set_where(Mode.RESET, LISTENS) == 1
    assert harness.stop(pool) == 0
    assert database.rows("SELECT count(*) FROM fang.fang_pools") == [(0,)]


def test_a_pool_that_left_runs_behind_listens_no_more_when_they_have_ended(url: str, database: Database) -> None:
    with harness_of("threaded") as harness:
        queue = harness.queue(url)
        pool = harness.pool(queue, grace_period=timedelta(milliseconds=50))
        harness.call(queue.insert_task, harness.note(waits=True))
        ran()
        assert harness.stop(pool) == 1
        GATES["gate"].set()
        eventually(lambda: database.listeners == [])
        eventually(lambda: database.waiting == [])


def test_a_listener_whose_event_loop_ended_under_it_is_started_anew(url: str, idle_pools: IdlePools) -> None:
    with harness_of("async") as harness:
        queue = harness.queue(url)
        first = harness.pool(queue, task_type="mail")
        idle_pools.wait()

        async def cancel() -> None:
            queue._connections.listener._service.cancel()

        harness.call(cancel)
        eventually(lambda: queue._connections.listener._service.has_ended)
        harness.pool(queue)
        idle_pools.wait()
        insert(harness, url, 1)
        assert ran() == [1]
        harness.stop(first)
