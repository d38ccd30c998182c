"""An idle pool that polls once an hour: whatever makes a task due wakes it."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from fang_async import AsyncQueue
from fang_core import MemoryQueue, TaskState, demand
from fang_core.demand import LONGEST_SLEEP
from fang_core.memory_state import MemoryState
from fang_postgres.sql import fragments
from fang_postgres.statements import statements
from fang_threaded import Queue
from tests.modes import GATES, RAN, Database, Nights, Side, eventually, ran

SHORT = timedelta(milliseconds=100)
Insert = Callable[[Side, str], None]


def by_threaded_queue(side: Side, url: str) -> None:
    with Queue(url) as queue:
        queue.insert_task(side.note(n=1))


def in_bulk(side: Side, url: str) -> None:
    with Queue(url) as queue:
        queue.insert_tasks([side.note(n=1)])


def unique_in_bulk(side: Side, url: str) -> None:
    with Queue(url, duplicated_tasks=False) as queue:
        queue.insert_tasks([side.note(n=1)])


def by_async_queue(side: Side, url: str) -> None:
    async def insert() -> None:
        async with AsyncQueue(url) as queue:
            await queue.insert_task(side.note(n=1))

    side.call(insert)


def in_the_callers_transaction(side: Side, url: str) -> None:
    with psycopg.connect(url) as connection:
        Queue(url).insert_task(side.note(n=1), connection=connection)
        assert RAN.empty()


@pytest.mark.parametrize(
    "insert", [by_threaded_queue, in_bulk, unique_in_bulk, by_async_queue, in_the_callers_transaction]
)
def test_an_insert_wakes_an_idle_pool(side: Side, url: str, nights: Nights, insert: Insert) -> None:
    side.pool(side.queue(url))
    nights.fall()
    insert(side, url)
    assert ran() == [1]


def test_a_task_that_is_revived_by_hand_wakes_an_idle_pool(side: Side, url: str, nights: Nights) -> None:
    queue = side.queue(url)
    task = side.call(queue.insert_task, side.note(n=1))
    failed = side.call(queue.update_task_state, task, TaskState.FAILED)
    side.pool(queue)
    nights.fall()
    side.call(queue.update_task_state, failed, TaskState.NEW)
    assert ran() == [1]


def test_what_a_stopping_pool_gives_back_wakes_an_idle_one(
    side: Side, url: str, database: Database, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = side.queue(url)
    stopping = side.pool(queue)
    nights.fall()
    monkeypatch.setattr(stopping._shift.supply._demand, "ahead", lambda pace: 100)
    monkeypatch.setattr("fang_core.stock.PATIENCE", 60)
    side.call(queue.insert_tasks, [side.note(n=1, waits=True), *[side.note(n=n) for n in range(2, 7)]])
    assert ran() == [1]
    assert database.rows("SELECT count(*) FROM fang.fang_tasks WHERE state = 'in_progress'") == [(6,)]
    side.pool(queue)
    nights.fall()
    stopped = side.begin(stopping.stop)
    assert ran(5) == [2, 3, 4, 5, 6]
    GATES["gate"].set()
    assert stopped.result(10) == 0


def test_a_delayed_task_runs_when_it_is_due_and_not_at_the_next_poll(side: Side, url: str, nights: Nights) -> None:
    queue = side.queue(url)
    side.pool(queue)
    nights.fall()
    side.call(queue.insert_task, side.note(n=1), delay=timedelta(seconds=1))
    assert ran() == [1]


@pytest.fixture
def told_a_second_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inserts and sleeps as they are by default, but that everything happens ten times as fast."""
    monkeypatch.setattr(fragments, "TOLD_AHEAD", demand.TOLD_AHEAD / 10)
    monkeypatch.setattr(demand, "LONGEST_SLEEP", LONGEST_SLEEP / 10)
    statements.cache_clear()
    yield
    statements.cache_clear()


@pytest.mark.usefixtures("told_a_second_ahead")
def test_a_delayed_task_that_nobody_was_told_of_runs_when_it_is_due(side: Side, url: str, nights: Nights) -> None:
    queue = side.queue(url)
    side.pool(queue)
    nights.fall()
    with Notifications(url) as heard:
        side.call(queue.insert_task, side.note(n=1), delay=timedelta(seconds=1.5))
        assert heard.so_far() == []
    assert ran() == [1]


@pytest.mark.usefixtures("told_a_second_ahead")
def test_a_retry_that_nobody_was_told_of_runs_when_it_is_due(side: Side, url: str, nights: Nights) -> None:
    queue = side.queue(url)
    side.call(queue.insert_task, side.note(n=1))
    held = side.call(queue.fetch_and_touch_task)
    side.pool(queue)
    nights.fall()
    side.call(queue.schedule_retry, held, timedelta(seconds=1.5), "later")
    assert ran() == [1]


def test_other_task_types_do_not_wake_it(side: Side, url: str, nights: Nights) -> None:
    side.pool(side.queue(url), task_type="mail")
    nights.fall()
    with Notifications(url) as heard, Queue(url) as queue:
        queue.insert_task(side.note(), task_type="other")
        queue.insert_task(side.note(n=2), task_type="mail")
        assert ran() == [2]
        assert heard.so_far() == ["mail"]


def test_a_busy_pool_is_not_notified(side: Side, url: str, database: Database, nights: Nights) -> None:
    queue = side.queue(url)
    side.pool(queue)
    nights.fall()
    assert database.waiting == [True]
    with Notifications(url) as heard:
        side.call(queue.insert_task, side.note(n=1, waits=True))
        assert ran() == [1]
        eventually(lambda: database.waiting == [False])
        for n in range(20):
            side.call(queue.insert_task, side.note(n=n))
        assert heard.so_far() == ["common"]  # for the first one alone
    GATES["gate"].set()
    assert ran(20) == list(range(20))


def test_where_listening_is_switched_off_a_pool_polls_and_says_nothing(
    side: Side, url: str, database: Database
) -> None:
    database.execute(
        "CREATE TABLE announcements (waiting boolean);"
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.announcements VALUES (new.waiting); RETURN new; END';"
        "CREATE TRIGGER noted AFTER UPDATE OF waiting ON fang.fang_pools FOR EACH ROW EXECUTE FUNCTION noted()"
    )
    queue = side.queue(url)
    side.pool(queue, poll=SHORT, listen=False)
    with Notifications(url) as heard:
        for n in range(3):
            side.call(queue.insert_task, side.note(n=n))
            assert ran() == [n]
        assert heard.so_far() == []
        assert database.listeners == []
    assert database.rows("SELECT * FROM announcements") == []


@pytest.mark.parametrize("from_another_thread", [False, True])
def test_in_memory_an_insert_wakes_an_idle_pool(side: Side, nights: Nights, from_another_thread: bool) -> None:
    state = MemoryState()
    queue = side.memory_queue(state)
    side.pool(queue)
    nights.fall()
    if from_another_thread:
        thread = threading.Thread(target=MemoryQueue(state=state).insert_task, args=[side.note(n=1)])
        thread.start()
        thread.join()
    else:
        side.call(queue.insert_task, side.note(n=1))
    assert ran() == [1]


class Notifications:
    """The payloads that were sent on Fang's channel."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def __enter__(self) -> "Notifications":
        self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier("fang_fang")))
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def so_far(self) -> list[Any]:
        """Up to now: notifications come in the order of their commits, and the last one is ours."""
        self._connection.execute("SELECT pg_notify('fang_fang', 'the last one')")
        payloads = []
        for notification in self._connection.notifies(timeout=5):
            if notification.payload == "the last one":
                return payloads
            payloads.append(notification.payload)
        raise AssertionError("notifications do not arrive")
