"""The LISTEN connection: one for a queue, replaced when it dies or falls silent, gone when nobody waits any more."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

import fang_async.listener
import fang_threaded.listener
from fang_core.events import Events
from fang_threaded import Queue
from tests.modes import GATES, Database, Nights, Side, eventually, ran, side_of
from tests.proxy import Mode, Proxy

LISTENS = rb"(?<!UN)LISTEN "  # asyncpg sends UNLISTEN whenever a connection goes back to its pool


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fang_threaded.listener, fang_async.listener):
        monkeypatch.setattr(module, "PING_EVERY", 0.2)
        monkeypatch.setattr(module, "PING_TIMEOUT", 0.2)


class Told(Events):
    def __init__(self) -> None:
        self.failures: list[BaseException] = []

    def backend_failed(self, pool_id: UUID, error: BaseException) -> None:
        self.failures.append(error)


def insert(side: Side, url: str, n: int) -> None:
    """In a program of its own, so to say."""
    with psycopg.connect(url, autocommit=True) as connection:
        Queue(url).insert_task(side.note(n=n), connection=connection)


def test_pools_of_one_queue_share_a_connection_which_goes_with_the_last_one(
    side: Side, url: str, database: Database, nights: Nights
) -> None:
    queue = side.queue(url)
    pools = [side.pool(queue, task_type=task_type) for task_type in ("common", "mail")]
    nights.fall(2)
    eventually(lambda: len(database.listeners) == 1)
    shared = database.listeners
    assert len(shared) == 1
    insert(side, url, 1)
    assert ran() == [1]
    side.stop(pools[0])
    assert database.listeners == shared
    side.stop(pools[1])
    eventually(lambda: database.listeners == [])
    assert database.waiting == []
    side.pool(queue)  # and once more
    nights.fall()
    insert(side, url, 2)
    assert ran() == [2]


def test_a_dead_connection_is_replaced_and_inserts_wake_again(
    side: Side, url: str, database: Database, nights: Nights, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    side.pool(side.queue(url), events=[told])
    nights.fall()
    eventually(lambda: len(database.listeners) == 1)
    for n in range(3):
        (old,) = database.listeners
        database.execute("SELECT pg_terminate_backend(%s)", old)
        eventually(lambda old=old: database.listeners and database.listeners != [old])
        nights.fall()  # the new connection has woken it
        insert(side, url, n)
        assert ran() == [n]
        nights.fall()
        assert len(told.failures) == n + 1
    assert "pools are not woken" in str(told.failures[0])
    assert caplog.text.count("LISTEN works again, and inserts wake pools") == 3


def test_what_was_inserted_while_nobody_could_listen_is_found_at_the_next_connect(
    proxy: Proxy, side: Side, url: str, database: Database, nights: Nights
) -> None:
    side.pool(side.queue(proxy.url))
    nights.fall()
    eventually(lambda: len(database.listeners) == 1)
    proxy.set(Mode.REFUSE)
    assert proxy.set_where(Mode.RESET, LISTENS) == 1
    eventually(lambda: database.listeners == [])
    insert(side, url, 1)
    proxy.set(Mode.PASS)
    assert ran() == [1]


@pytest.mark.usefixtures("quick_pings")
def test_a_silent_connection_is_replaced_by_its_ping(
    proxy: Proxy, side: Side, url: str, database: Database, nights: Nights
) -> None:
    side.pool(side.queue(proxy.url))
    eventually(lambda: len(database.listeners) == 1)  # until its first ping
    nights.fall()
    before = proxy.accepted
    assert proxy.set_where(Mode.BLACKHOLE, LISTENS) == 1
    insert(side, url, 1)  # its notification goes into the black hole
    assert ran() == [1]
    assert proxy.accepted > before
    nights.fall()
    insert(side, url, 2)
    assert ran() == [2]


def test_until_then_tasks_wait_no_longer_than_the_poll(proxy: Proxy, side: Side, url: str, database: Database) -> None:
    side.pool(side.queue(proxy.url), poll=timedelta(milliseconds=100))
    eventually(lambda: database.waiting == [True] and len(database.listeners) == 1)
    assert proxy.set_where(Mode.BLACKHOLE, LISTENS) == 1
    for n in range(3):
        insert(side, url, n)
        assert ran(within=2) == [n]  # a ping comes after ten seconds


@pytest.mark.usefixtures("quick_pings")
def test_pings_do_not_swallow_notifications(side: Side, url: str, nights: Nights) -> None:
    side.pool(side.queue(url))
    for n in range(4):
        nights.fall()
        insert(side, url, n)
        assert ran(within=2) == [n]


def test_a_pool_can_be_stopped_while_its_listener_connects(
    proxy: Proxy, side: Side, url: str, nights: Nights, database: Database
) -> None:
    pool = side.pool(side.queue(proxy.url))
    nights.fall()
    eventually(lambda: len(database.listeners) == 1)
    proxy.set(Mode.REFUSE)
    assert proxy.set_where(Mode.RESET, LISTENS) == 1
    assert side.stop(pool) == 0
    assert database.rows("SELECT count(*) FROM fang.fang_pools") == [(0,)]


def test_a_pool_that_left_runs_behind_listens_no_more_when_they_have_ended(url: str, database: Database) -> None:
    with side_of("threaded") as side:
        queue = side.queue(url)
        pool = side.pool(queue, grace_period=timedelta(milliseconds=50))
        side.call(queue.insert_task, side.note(waits=True))
        ran()
        assert side.stop(pool) == 1
        GATES["gate"].set()
        eventually(lambda: database.listeners == [])
        eventually(lambda: database.waiting == [])


def test_a_listener_whose_event_loop_ended_under_it_is_started_anew(url: str, nights: Nights) -> None:
    with side_of("async") as side:
        queue = side.queue(url)
        first = side.pool(queue, task_type="mail")
        nights.fall()

        async def cancel() -> None:
            queue._connections.listener._task.cancel()

        side.call(cancel)
        eventually(queue._connections.listener._task.done)
        side.pool(queue)
        nights.fall()
        insert(side, url, 1)
        assert ran() == [1]
        side.stop(first)
