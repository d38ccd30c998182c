"""An idle pool that polls once an hour: whatever makes a task due wakes it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from fang_async import AsyncQueue
from fang_core import MemoryQueue, TaskState
from fang_core.backends.memory.state import MemoryState
from fang_core.claims import idle
from fang_core.claims.idle import LONGEST_SLEEP
from fang_postgres.sql import fragments
from fang_postgres.statements import statements
from fang_threaded import Queue
from tests.modes import GATES, RAN, Database, Harness, IdlePools, eventually, ran
from tests.patience import PATIENT
from tests.postgres.filed import build_anew

SHORT = timedelta(milliseconds=100)
Insert = Callable[[Harness, str], None]


def by_threaded_queue(harness: Harness, url: str) -> None:
    with Queue(url) as queue:
        queue.insert_task(harness.note(n=1))


def in_bulk(harness: Harness, url: str) -> None:
    with Queue(url) as queue:
        queue.insert_tasks([harness.note(n=1)])


def unique_in_bulk(harness: Harness, url: str) -> None:
    with Queue(url, duplicated_tasks=False) as queue:
        queue.insert_tasks([harness.note(n=1)])


def by_async_queue(harness: Harness, url: str) -> None:
    async def insert() -> None:
        async with AsyncQueue(url) as queue:
            await queue.insert_task(harness.note(n=1))

    asyncio.run(insert())


def in_the_callers_transaction(harness: Harness, url: str) -> None:
    with psycopg.connect(url) as connection:
        Queue(url).insert_task(harness.note(n=1), connection=connection)
        assert RAN.empty()


@pytest.mark.parametrize(
    "insert", [by_threaded_queue, in_bulk, unique_in_bulk, by_async_queue, in_the_callers_transaction]
)
def test_an_insert_wakes_an_idle_pool(harness: Harness, url: str, idle_pools: IdlePools, insert: Insert) -> None:
    harness.pool(harness.queue(url))
    idle_pools.wait()
    insert(harness, url)
    assert ran() == [1]


def test_a_task_that_is_revived_by_hand_wakes_an_idle_pool(harness: Harness, url: str, idle_pools: IdlePools) -> None:
    queue = harness.queue(url)
    task = harness.call(queue.insert_task, harness.note(n=1))
    failed = harness.call(queue.update_task_state, task, TaskState.FAILED)
    harness.pool(queue)
    idle_pools.wait()
    harness.call(queue.update_task_state, failed, TaskState.NEW)
    assert ran() == [1]


def test_what_a_stopping_pool_gives_back_wakes_an_idle_one(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = harness.queue(url)
    stopping = harness.pool(queue)
    idle_pools.wait()
    monkeypatch.setattr(stopping._lifetime.dispatch._demand, "ahead", lambda pace: 100)
    monkeypatch.setattr("fang_core.claims.prefetch.PATIENCE", 60)
    harness.call(queue.insert_tasks, [harness.note(n=1, waits=True), *[harness.note(n=n) for n in range(2, 7)]])
    assert ran() == [1]
    assert database.rows("SELECT count(*) FROM fang.fang_tasks WHERE state = 'in_progress'") == [(6,)]
    harness.pool(queue)
    idle_pools.wait()
    stopped = harness.begin(stopping.stop)
    assert ran(5) == [2, 3, 4, 5, 6]
    GATES["gate"].set()
    assert stopped.result(PATIENT) == 0


def test_a_delayed_task_runs_when_it_is_due_and_not_at_the_next_poll(
    harness: Harness, url: str, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    harness.pool(queue)
    idle_pools.wait()
    harness.call(queue.insert_task, harness.note(n=1), delay=timedelta(seconds=1))
    assert ran() == [1]


@pytest.fixture
def told_a_second_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inserts and sleeps as they are by default, but that everything happens ten times as fast."""
    monkeypatch.setattr(fragments, "TOLD_AHEAD", idle.TOLD_AHEAD / 10)
    monkeypatch.setattr(idle, "LONGEST_SLEEP", LONGEST_SLEEP / 10)
    build_anew(monkeypatch, "insert", "insert_many")
    yield
    statements.cache_clear()


@pytest.mark.usefixtures("told_a_second_ahead")
def test_a_delayed_task_that_nobody_was_told_of_runs_when_it_is_due(
    harness: Harness, url: str, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    harness.pool(queue)
    idle_pools.wait()
    with Notifications(url) as heard:
        harness.call(queue.insert_task, harness.note(n=1), delay=timedelta(seconds=1.5))
        assert heard.so_far() == []
    assert ran() == [1]


@pytest.mark.usefixtures("told_a_second_ahead")
def test_a_retry_that_nobody_was_told_of_runs_when_it_is_due(harness: Harness, url: str, idle_pools: IdlePools) -> None:
    queue = harness.queue(url)
    harness.call(queue.insert_task, harness.note(n=1))
    held = harness.call(queue.fetch_and_touch_task)
    harness.pool(queue)
    idle_pools.wait()
    harness.call(queue.schedule_retry, held, timedelta(seconds=1.5), "later")
    assert ran() == [1]


def test_other_task_types_do_not_wake_it(harness: Harness, url: str, idle_pools: IdlePools) -> None:
    harness.pool(harness.queue(url), task_type="mail")
    idle_pools.wait()
    with Notifications(url) as heard, Queue(url) as queue:
        queue.insert_task(harness.note(), task_type="other")
        queue.insert_task(harness.note(n=2), task_type="mail")
        assert ran() == [2]
        assert heard.so_far() == ["mail"]


def test_a_busy_pool_is_not_notified(harness: Harness, url: str, database: Database, idle_pools: IdlePools) -> None:
    queue = harness.queue(url)
    harness.pool(queue)
    idle_pools.wait()
    assert database.waiting == [True]
    with Notifications(url) as heard:
        harness.call(queue.insert_task, harness.note(n=1, waits=True))
        assert ran() == [1]
        eventually(lambda: database.waiting == [False])
        for n in range(20):
            harness.call(queue.insert_task, harness.note(n=n))
        assert heard.so_far() == ["common"]  # for the first one alone
    GATES["gate"].set()
    assert ran(20) == list(range(20))


def test_where_listening_is_switched_off_a_pool_polls_and_says_nothing(
    harness: Harness, url: str, database: Database
) -> None:
    database.execute(
        "CREATE TABLE announcements (waiting boolean);"
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.announcements VALUES (new.waiting); RETURN new; END';"
        "CREATE TRIGGER noted AFTER UPDATE OF waiting ON fang.fang_pools FOR EACH ROW EXECUTE FUNCTION noted()"
    )
    queue = harness.queue(url)
    harness.pool(queue, poll=SHORT, listen=False)
    with Notifications(url) as heard:
        for n in range(3):
            harness.call(queue.insert_task, harness.note(n=n))
            assert ran() == [n]
        assert heard.so_far() == []
        assert database.listeners == []
    assert database.rows("SELECT * FROM announcements") == []


@pytest.mark.parametrize("from_another_thread", [False, True])
def test_in_memory_an_insert_wakes_an_idle_pool(
    harness: Harness, idle_pools: IdlePools, from_another_thread: bool
) -> None:
    state = MemoryState()
    queue = harness.memory_queue(state)
    harness.pool(queue)
    idle_pools.wait()
    if from_another_thread:
        thread = threading.Thread(target=MemoryQueue(state=state).insert_task, args=[harness.note(n=1)])
        thread.start()
        thread.join()
    else:
        harness.call(queue.insert_task, harness.note(n=1))
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
        for notification in self._connection.notifies(timeout=PATIENT):
            if notification.payload == "the last one":
                return payloads
            payloads.append(notification.payload)
        raise AssertionError("notifications do not arrive")
