"""Sessions that end while their connections lie idle, by the server or by what stands between: no call notices."""

import asyncio
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any
from uuid import uuid4

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, make_url

import fang_async.connection
import fang_async.connections
import fang_threaded.connection
import fang_threaded.connections
from fang_async import AsyncQueue
from fang_core import NotConnected
from fang_threaded import Queue
from tests.modes import AsyncNote, Database, Harness, ThreadedNote, eventually, harness_of
from tests.patience import PATIENT
from tests.proxy import Mode, Proxy

BULK = 1_500  # is pipelined
OTHERS = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"

End = Callable[[], None]


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy


@pytest.fixture(params=["threaded", "threaded on an engine", "async"])
def harness_and_queue(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[tuple[Harness, Any]]:
    mode, _, shared = request.param.partition(" ")
    engine = create_engine(make_url(proxy.url).set(drivername="postgresql+psycopg")) if shared else None
    with harness_of(mode) as harness:
        yield harness, harness.queue(proxy.url if engine is None else engine)
        harness.end()
    if engine is not None:
        engine.dispose()


@pytest.fixture(params=["server", *(mode.name for mode in (Mode.CLOSE, Mode.RESET, Mode.FORGET))])
def end(request: pytest.FixtureRequest, proxy: Proxy, database: Database, monkeypatch: pytest.MonkeyPatch) -> End:
    """Ends all sessions there are; the proxy serves new ones."""
    # Only a NAT that has forgotten a connection must be asked for: all else is there to be seen.
    for module in (fang_threaded.connections, fang_async.connections):
        monkeypatch.setattr(module, "ASK_AFTER", 0.0 if request.param == Mode.FORGET.name else inf)

    def by_server() -> None:
        assert database.rows(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {OTHERS}")

    def by_proxy() -> None:
        assert proxy.set_where(Mode[request.param], b"")

    return by_server if request.param == "server" else by_proxy


def test_what_is_called_after_it_works(harness_and_queue: tuple[Harness, Any], end: End, database: Database) -> None:
    harness, queue = harness_and_queue
    task = harness.call(queue.insert_task, harness.note())
    store = harness.call(queue.store)
    end()
    assert harness.call(queue.find_task_by_id, task.id) == task
    end()
    harness.call(queue.insert_task, harness.note(n=1))
    end()
    assert not harness.call(queue.insert_task, harness.note(n=2), uniq=True).conflict
    end()
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(3)])
    end()
    assert harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(2, 5)], uniq=True)[0].conflict
    end()
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(BULK)])
    end()
    assert harness.call(queue.remove_task, task.id) == 1
    end()
    assert harness.call(store.complete, uuid4(), []) == set()
    harness.call(store.close)
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(1 + 1 + 3 + 2 + BULK,)]


def test_one_that_ends_while_a_statement_is_prepared_has_executed_nothing(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end was under way when the connection was lent."""
    prepare, terminate = asyncpg.Connection._get_statement, "SELECT pg_terminate_backend(pid, 5000)"
    endings: list[Any] = []

    async def ended_meanwhile(*args: Any, **options: Any) -> Any:
        if not endings:
            endings.extend(database.rows(f"{terminate} FROM pg_stat_activity WHERE {OTHERS}"))
        return await prepare(*args, **options)

    async def insert() -> None:
        async with AsyncQueue(url) as queue:
            task = await queue.insert_task(AsyncNote())
            monkeypatch.setattr(asyncpg.Connection, "_get_statement", ended_meanwhile)
            assert await queue.insert_tasks([AsyncNote(n=n) for n in range(2)])
            assert await queue.remove_task(task.id) == 1

    asyncio.run(insert())
    assert endings == [(True,)]
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(2,)]


def test_one_that_fell_silent_is_noticed_before_anything_is_sent(
    harness: Harness, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    for module in (fang_threaded.connections, fang_async.connections):
        monkeypatch.setattr(module, "ASK_AFTER", 0.0)
    for module in (fang_threaded.connection, fang_async.connection):
        monkeypatch.setattr(module, "LIVES_WITHIN", 0.3)
    queue = harness.queue(proxy.url)
    harness.call(queue.insert_task, harness.note())
    assert proxy.set_where(Mode.BLACKHOLE, b"") == 1
    harness.call(queue.insert_task, harness.note())
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(2,)]
    harness.end()


def test_a_busy_connection_is_not_asked(harness: Harness, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    for module in (fang_threaded.connection, fang_async.connection):
        harness.wrap(monkeypatch, module.Connection, "lives", before=asked.append)
    now = time.monotonic()
    queue = harness.queue(url)
    for _ in range(10):
        harness.call(queue.insert_task, harness.note())
    assert not asked or time.monotonic() - now > fang_threaded.connections.ASK_AFTER


async def test_a_loop_that_was_blocked_meanwhile_has_not_seen_it(url: str) -> None:
    async with AsyncQueue(url) as queue:
        with psycopg.connect(url, autocommit=True) as other:  # blocks the loop
            other.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {OTHERS}".encode())
        await queue.insert_task(AsyncNote())


def test_what_is_lost_in_a_transaction_of_an_engine_is_sent_again_once(url: str, database: Database) -> None:
    """Unless its COMMIT was sent."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    database.execute("CREATE SEQUENCE tries")
    database.execute(
        "CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('tries'), pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
    )
    database.execute("CREATE TRIGGER ends AFTER INSERT ON fang.fang_tasks EXECUTE FUNCTION ends()")
    with Queue(engine) as queue, pytest.raises(NotConnected):
        queue.insert_task(ThreadedNote())
    assert database.rows("SELECT last_value FROM tries") == [(2,)]
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(0,)]
    engine.dispose()


# A server without room ------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(url: str, database: Database) -> Iterator[str]:
    """A URL of a role that may have one connection."""
    role = f"r_{uuid4().hex[:12]}"
    database.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")
    database.execute(f"GRANT USAGE ON SCHEMA fang TO {role}")
    database.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA fang TO {role}")
    yield make_url(url).set(username=role).render_as_string(hide_password=False)
    eventually(lambda: not database.rows("SELECT 1 FROM pg_stat_activity WHERE usename = %s", role))
    database.execute(f"DROP OWNED BY {role}")
    database.execute(f"DROP ROLE {role}")


def test_on_a_full_server_callers_wait_for_the_connection_that_there_is(
    harness: Harness, limited: str, database: Database
) -> None:
    queue = harness.queue(limited)
    for insert in [
        harness.begin(queue.insert_task, harness.note(n=n)) for n in range(10)
    ]:  # which make the first one, too
        insert.result(PATIENT)
    for insert in [harness.begin(queue.insert_tasks, [harness.note(n=n) for n in range(BULK)]) for _ in range(3)]:
        insert.result(PATIENT)
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(10 + 3 * BULK,)]
    harness.end()


def test_on_a_full_server_a_caller_without_a_connection_is_told_at_once(harness: Harness, limited: str) -> None:
    with psycopg.connect(limited):
        queue = harness.queue(limited)
        with pytest.raises(NotConnected, match="no room for another connection"):
            harness.call(queue.insert_task, harness.note())
        harness.end()
