"""Calls that wait for a database that is away, on queues that were made with ``wait_for_database``."""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Any

import pytest

from fang_core import NotConnected, OutcomeUnknown, ReadOnlyServer
from tests.faults.pgproxy import ReplyDropper
from tests.modes import Database, Harness, eventually, harness_of, ran
from tests.patience import PATIENT
from tests.proxy import Mode, Proxy

LONG = timedelta(seconds=60)
BULK = 1_500  # is pipelined


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy


def tries(proxy: Proxy) -> None:
    """Waits until a call has tried again."""
    before = proxy.accepted
    eventually(lambda: proxy.accepted >= before + 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda queue, note: (queue.insert_task, note(n=1)),
        lambda queue, note: (queue.insert_tasks, [note(n=n) for n in range(BULK)]),
        lambda queue, note: (queue.fetch_and_touch_task,),
        lambda queue, note: (queue.open,),
    ],
    ids=["insert_task", "insert_tasks", "fetch_and_touch_task", "open"],
)
def test_a_call_waits_and_does_what_it_is_for_once(
    harness: Harness, proxy: Proxy, database: Database, call: Callable[..., Any]
) -> None:
    queue = harness.queue(proxy.url, wait_for_database=LONG)
    harness.call(queue.insert_task, harness.note())
    proxy.set(Mode.RESET)
    calling = harness.begin(*call(queue, harness.note))
    tries(proxy)
    connection_pool = harness.call(queue._connections.writes).connection_pool
    eventually(lambda: connection_pool._places.taken == 0)  # it holds no place while it waits
    proxy.set(Mode.PASS)
    calling.result(PATIENT)
    expected = {"insert_task": 2, "insert_tasks": 1 + BULK}.get(call(queue, harness.note)[0].__name__, 1)
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(expected,)]
    harness.end()


def test_many_calls_wait_and_follow_the_first_that_succeeds(harness: Harness, proxy: Proxy, database: Database) -> None:
    queue = harness.queue(proxy.url, wait_for_database=LONG)
    proxy.set(Mode.RESET)
    before = proxy.accepted
    calling = [harness.begin(queue.insert_task, harness.note(n=n)) for n in range(50)]
    eventually(lambda: proxy.accepted >= before + 50)  # each has tried
    proxy.set(Mode.PASS)
    for call in calling:
        call.result(PATIENT)
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(50,)]
    harness.end()


def test_a_pool_starts_once_the_database_is_there(harness: Harness, proxy: Proxy) -> None:
    queue = harness.queue(proxy.url, wait_for_database=LONG)
    proxy.set(Mode.RESET)
    starting = harness.begin(queue.store)
    tries(proxy)
    proxy.set(Mode.PASS)
    harness.call(starting.result(PATIENT).close)
    harness.call(queue.insert_task, harness.note(n=7))
    harness.pool(queue)
    assert ran() == [7]
    harness.end()


def test_the_wait_is_bounded_and_none_by_default(harness: Harness, proxy: Proxy) -> None:
    proxy.set(Mode.RESET)
    for within, least in ((timedelta(seconds=1), 3), (timedelta(0), 1)):
        queue = harness.queue(proxy.url, wait_for_database=within)
        before = proxy.accepted
        with pytest.raises(NotConnected):
            harness.call(queue.insert_task, harness.note())
        assert proxy.accepted - before >= least
    assert proxy.accepted - before == 1
    harness.end()


def test_a_server_that_takes_no_writes_yet_is_waited_for(harness: Harness, url: str, database: Database) -> None:
    """As after a failover, whose address leads to a standby that is not promoted yet."""
    database.execute("CREATE SEQUENCE tries")
    database.execute(
        "CREATE FUNCTION stands_by() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM nextval('tries'); RAISE EXCEPTION 'cannot execute INSERT' USING ERRCODE = '25006'; END $$"
    )
    database.execute("CREATE TRIGGER stands_by BEFORE INSERT ON fang.fang_tasks EXECUTE FUNCTION stands_by()")
    with pytest.raises(ReadOnlyServer):
        harness.call(harness.queue(url).insert_task, harness.note())
    calling = harness.begin(harness.queue(url, wait_for_database=LONG).insert_task, harness.note())
    eventually(lambda: database.rows("SELECT last_value FROM tries")[0][0] > 2)
    database.execute("DROP TRIGGER stands_by ON fang.fang_tasks")
    calling.result(PATIENT)
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(1,)]


def test_what_may_have_been_written_is_told_at_once(harness: Harness, url: str, database: Database) -> None:
    with ReplyDropper(url) as dropper:
        queue = harness.queue(dropper.url, wait_for_database=LONG)
        harness.call(queue.open)
        dropper.drop(b"INSERT INTO fang.fang_tasks", 1)
        with pytest.raises(OutcomeUnknown):
            harness.call(queue.insert_task, harness.note())
        assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(1,)]
        harness.end()


def test_a_waiting_call_ends_when_its_queue_is_closed(harness: Harness, proxy: Proxy) -> None:
    queue = harness.queue(proxy.url, wait_for_database=LONG)
    proxy.set(Mode.RESET)
    calling = harness.begin(queue.insert_task, harness.note())
    tries(proxy)
    harness.call(queue.close)
    with pytest.raises(NotConnected):
        calling.result(PATIENT)


def test_a_waiting_call_can_be_cancelled(proxy: Proxy, database: Database) -> None:
    with harness_of("async") as harness:
        queue = harness.queue(proxy.url, wait_for_database=LONG)
        proxy.set(Mode.RESET)
        calling = harness.begin(queue.insert_task, harness.note())
        tries(proxy)
        calling.cancel()
        with pytest.raises(CancelledError):
            calling.result(PATIENT)
        proxy.set(Mode.PASS)
        harness.call(queue.insert_task, harness.note())
        assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(1,)]
        harness.end()
