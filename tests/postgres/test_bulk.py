"""Bulk inserts, whose rows are made while the ones before are on their way."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from pydantic import field_serializer
from sqlalchemy import create_engine, event, make_url

from fang_async import AsyncQueue
from fang_core import NotConnected, OutcomeUnknown, PayloadError, Runnable, TaskConfig
from fang_postgres.connections.connecting import SETTINGS
from fang_postgres.operations import Operations
from fang_threaded import Queue
from tests.modes import Harness
from tests.patience import PATIENT
from tests.postgres.blocking import await_waiting

MANY = 2_500
MADE = threading.Event()
DIES = """
    CREATE FUNCTION dies() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
    CREATE TRIGGER dies AFTER INSERT ON fang.fang_tasks EXECUTE FUNCTION dies();
"""
COUNT = "SELECT count(*) FROM fang.fang_tasks"


class Numbered(Runnable):
    """Says when the last but few of many is made into a row."""

    task_config = TaskConfig(kind="bulk.Numbered")
    n: int
    text: str = ""

    @field_serializer("n")
    def say(self, n: int) -> int:
        if n == MANY - 1_000:
            MADE.set()
        return n

    def run(self, queue: Any) -> None: ...


class Urgent(Numbered):
    task_config = TaskConfig(kind="bulk.Urgent", priority=-2, timeout=timedelta(seconds=5), expires=timedelta(hours=1))


@pytest.fixture
def watcher(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def lock(watcher: psycopg.Connection[Any], url: str) -> Iterator[psycopg.Connection[Any]]:
    """Inserts have reached the server, and wait there for the end of this transaction."""
    MADE.clear()
    waits = "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS "
    waits += "$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$"
    watcher.execute(waits.encode())
    watcher.execute("CREATE TRIGGER waits BEFORE INSERT ON fang.fang_tasks EXECUTE FUNCTION waits()")
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        yield connection


def test_rows_are_made_while_others_are_in_flight(
    harness: Harness, url: str, lock: psycopg.Connection[Any], watcher: psycopg.Connection[Any]
) -> None:
    inserting = harness.begin(harness.queue(url).insert_tasks, [Numbered(n=n) for n in range(MANY)])
    await_waiting(watcher, 1)
    assert MADE.wait(PATIENT)
    assert not inserting.done()
    lock.rollback()
    assert [task.metadata["n"] for task in inserting.result(PATIENT)] == list(range(MANY))
    stored = watcher.execute("SELECT metadata->>'n' FROM fang.fang_tasks ORDER BY scheduled_at, id").fetchall()
    assert [int(n) for (n,) in stored] == list(range(MANY))


@pytest.mark.parametrize("classes", [(Numbered, Urgent), (Urgent, Numbered), (Urgent, Urgent)])
def test_each_row_has_the_options_of_its_own_class(
    harness: Harness, url: str, watcher: psycopg.Connection[Any], classes: tuple[type[Numbered], ...]
) -> None:
    harness.call(harness.queue(url).insert_tasks, [cls(n=n) for n, cls in enumerate(classes)])
    stored = watcher.execute(
        "SELECT priority, timeout, expires_at - scheduled_at FROM fang.fang_tasks ORDER BY metadata->'n'"
    ).fetchall()
    of = {Numbered: (0, None, None), Urgent: (-2, timedelta(seconds=5), timedelta(hours=1))}
    assert stored == [of[cls] for cls in classes]


def test_in_a_session_of_an_application_each_has_ended_when_the_next_is_made(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with Queue(engine) as queue:
        inserted = queue.insert_tasks([Numbered(n=n) for n in range(MANY)])
        assert [task.metadata["n"] for task in inserted] == list(range(MANY))
        assert queue.remove_all_tasks() == MANY
    engine.dispose()


def test_in_a_session_of_an_application_no_guarded_statement_is_compiled(url: str) -> None:
    """What is switched off makes plans look expensive before Postgres 18."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    seen: list[str] = []

    @event.listens_for(engine, "after_cursor_execute")
    def look(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if "DELETE FROM" in statement:
            seen.append(cursor.connection.execute("SHOW jit").fetchone()[0])

    with Queue(engine) as queue:
        queue.insert_tasks([Numbered(n=1)])
        assert queue.remove_all_tasks() == 1
    engine.dispose()
    assert set(seen) == {"off"}


def test_a_bad_one_leaves_nothing_of_those_that_were_sent(
    harness: Harness, url: str, watcher: psycopg.Connection[Any]
) -> None:
    queue = harness.queue(url, max_pool_size=1)
    with pytest.raises(PayloadError, match="NUL"):
        harness.call(queue.insert_tasks, [*(Numbered(n=n) for n in range(MANY)), Numbered(n=MANY, text="\0")])
    assert watcher.execute(COUNT).fetchone() == (0,)
    assert len(harness.call(queue.insert_tasks, [Numbered(n=1)])) == 1


@pytest.mark.usefixtures("lock")
def test_a_bad_one_does_not_wait_for_those_that_were_sent(
    harness: Harness, url: str, watcher: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "lock_timeout", "60s")
    with pytest.raises(PayloadError, match="NUL"):
        harness.call(
            harness.queue(url).insert_tasks, [*(Numbered(n=n) for n in range(1_500)), Numbered(n=0, text="\0")]
        )
    assert watcher.execute(COUNT).fetchone() == (0,)


@pytest.mark.usefixtures("lock")
def test_a_bad_one_does_not_wait_either_where_the_server_forgets_the_first_request_to_cancel(
    url: str, watcher: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where it has not begun the statement yet. With asyncio the connection is then given up after 5 s."""
    monkeypatch.setitem(SETTINGS, "lock_timeout", "60s")
    ask, asked = psycopg.Connection.cancel_safe, iter(range(100))
    monkeypatch.setattr(psycopg.Connection, "cancel_safe", lambda *args, **kw: next(asked) and ask(*args, **kw))
    with Queue(url) as queue, pytest.raises(PayloadError, match="NUL"):
        queue.insert_tasks([*(Numbered(n=n) for n in range(1_500)), Numbered(n=0, text="\0")])
    assert watcher.execute(COUNT).fetchone() == (0,)
    assert next(asked) > 1


def test_a_connection_that_is_lost_in_the_only_statement_leaves_it_open_and_all_ids_are_told(
    harness: Harness, url: str, watcher: psycopg.Connection[Any]
) -> None:
    queue = harness.queue(url)
    watcher.execute(DIES.encode())
    with pytest.raises(OutcomeUnknown) as unknown:
        harness.call(queue.insert_tasks, [Numbered(n=1), Numbered(n=2)])
    assert len(set(unknown.value.ids)) == 2
    assert watcher.execute(COUNT).fetchone() == (0,)


def test_a_connection_that_is_lost_before_the_commit_of_several_statements_leaves_nothing(
    harness: Harness, url: str, watcher: psycopg.Connection[Any]
) -> None:
    queue = harness.queue(url)
    watcher.execute(DIES.encode())
    with pytest.raises(NotConnected):
        harness.call(queue.insert_tasks, [Numbered(n=n) for n in range(1_001)])
    assert watcher.execute(COUNT).fetchone() == (0,)


@pytest.mark.parametrize("uniq", [True, False])
def test_small_and_unique_ones_are_made_before_a_connection_is_asked_for(harness: Harness, uniq: bool) -> None:
    queue = harness.queue("postgresql://someone@127.0.0.1:1/nowhere")
    with pytest.raises(PayloadError, match="NUL"):
        harness.call(queue.insert_tasks, [Numbered(n=1), Numbered(n=2, text="\0")], uniq=uniq)
    with pytest.raises(NotConnected):
        harness.call(queue.insert_tasks, [Numbered(n=1), Numbered(n=2)], uniq=uniq)


def test_an_interrupt_is_told_as_such(
    url: str, watcher: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Operations.insert_many
    calls = iter(range(10))

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return made(*args, **kwargs)

    monkeypatch.setattr(Operations, "insert_many", interrupted)
    tasks = [Numbered(n=n) for n in range(MANY)]

    async def asynchronously() -> None:
        async with AsyncQueue(url) as queue:
            await queue.insert_tasks(tasks)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(asynchronously())
    calls = iter(range(10))
    with pytest.raises(KeyboardInterrupt), Queue(url) as queue:
        queue.insert_tasks(tasks)
    assert watcher.execute(COUNT).fetchone() == (0,)


async def test_one_that_is_cancelled_leaves_nothing(
    url: str, lock: psycopg.Connection[Any], watcher: psycopg.Connection[Any]
) -> None:
    async with AsyncQueue(url, max_pool_size=1) as queue:
        inserting = asyncio.create_task(queue.insert_tasks([Numbered(n=n) for n in range(MANY)]))
        await asyncio.to_thread(await_waiting, watcher, 1)
        inserting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await inserting
        lock.rollback()
        assert len(await queue.insert_tasks([Numbered(n=1)])) == 1
        assert watcher.execute(COUNT).fetchone() == (1,)
