"""What a connection of a queue keeps, and what it may have been left with."""

import os
import socket
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.adapt import AdaptersMap
from sqlalchemy import StaticPool, create_engine, make_url, text

from fang_core import RetentionMode, TaskConfig
from fang_core.backends.pools import PoolRecord
from fang_core.driving import drive
from fang_core.errors import BackendError, BackendUnavailable, StatementRefused, UsageError
from fang_core.liveness import BeatRequest
from fang_postgres.connections.connecting import SETTINGS
from fang_postgres.operations import Operations
from fang_threaded import Queue, Runnable, WorkerPool, interrupting
from fang_threaded.connection import Connection
from fang_threaded.connection_timeouts import connect_within
from fang_threaded.connections import Connections
from fang_threaded.database import PsycopgDatabase
from tests.driven import Driven
from tests.hostile import NonsenseDumper, dumpers_of_nonsense, loaders_of_nonsense
from tests.modes import ThreadedNote, eventually, ran
from tests.proxy import Proxy


class Noop(Runnable):
    def run(self, queue: Any) -> None: ...


class Asks(Runnable):
    task_config = TaskConfig(timeout=timedelta(milliseconds=100), max_retries=0)

    def run(self, queue: Any) -> None:
        while True:
            queue.find_task_by_id(uuid4())


def test_a_run_that_only_calls_its_queue_is_interrupted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupting, "_is_in_task", lambda _: False)  # so it seems, whenever that is looked at
    with Queue(url) as queue:
        asks = queue.insert_task(Asks())
        pool = WorkerPool(queue, stuck_after=timedelta(seconds=3))
        assert pool.drain() == 1
        ended = queue.find_task_by_id(asks.id)
        assert ended is not None
        assert ended.error_message == "TimedOut: the run took longer than its timeout of 0.1 s"


def test_a_pool_keeps_no_lock_on_its_record(url: str) -> None:
    """A process that is stopped before it has read a reply could not be declared dead."""
    pool = PoolRecord(uuid4(), "threaded", "here", 1, ("common",), (), 1)

    def look(_: Any) -> bool:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT 1 FROM fang.fang_pools FOR UPDATE SKIP LOCKED").fetchone()
        return found is not None

    with Queue(url) as queue:
        store = Driven(queue.store())
        store.register(pool)
        assert drive(store._claims.run(replace(store._operations.set_waiting(pool.id, True), decode=look)))
        store.close()


def test_a_connection_that_a_run_has_spoilt_is_not_used_again(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0)
    with engine.connect() as connection:
        connection.execute(text("SET SESSION default_transaction_read_only = on"))
        connection.commit()
    with Queue(engine) as queue:
        with pytest.raises(BackendError):
            queue.insert_task(Noop())
        task = queue.insert_task(Noop())
        assert queue.find_task_by_id(task.id) is not None
    engine.dispose()


def test_an_engine_may_stream_the_results_of_the_application(url: str) -> None:
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), execution_options={"stream_results": True, "yield_per": 1}
    )
    with Queue(engine) as queue:
        queue.insert_tasks([Noop() for _ in range(3)])
        WorkerPool(queue).drain()
        assert queue.count_by_kind() == {}
    engine.dispose()


def test_a_heart_has_our_settings_on_an_engine_with_others(url: str) -> None:
    """Serializable beats would fail on each other."""
    others = "-c default_transaction_isolation=serializable -c statement_timeout=1h -c lock_timeout=1h"
    address = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(address, isolation_level="SERIALIZABLE", connect_args={"options": others})
    with Queue(engine) as queue:
        store = Driven(queue.store())
        for locks in (True, False):
            heart = store.heart(locks)
            heart.beat(BeatRequest(uuid4(), False))
            assert heart._connection is not None
            found = [
                heart._connection.driver_connection.execute(f"SHOW {name}".encode()).fetchone() for name in SETTINGS
            ]
            ours = [(value,) for value in ("read committed", "off", "1min", "10s", "1min", "0", "UTF8")]
            ours += [("ISO, MDY",), ("postgres",), ("on",), ("UTC",), *[("off",)] * 3]
            assert (found == ours) is locks  # behind a pooler the session is everybody's
            heart.close()
        store.close()
    engine.dispose()


def test_a_heart_waits_for_a_connection_no_longer_than_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of the application's may have no timeout."""
    monkeypatch.setattr(Connections, "connects_within", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        engine = create_engine(f"postgresql+psycopg://u@127.0.0.1:{server.getsockname()[1]}/d")
        connections = Connections(engine, 1, Operations("fang"))
        drive(connections.writes())
        heart = connections.heart(True)
        with pytest.raises(BackendUnavailable, match="no connection within"):
            drive(heart.beat(BeatRequest(uuid4(), False)))
    eventually(lambda: "fang-connecting" not in [thread.name for thread in threading.enumerate()])


def test_a_heart_beats_though_no_thread_can_be_started(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of threads, or in Python 3.12.0 to 3.12.2 once the main thread has ended."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Queue(url) as queue:
        heart = queue._connections.heart(True)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        for _ in range(2):  # the first one connects
            assert not drive(heart.beat(BeatRequest(uuid4(), False))).registered
        drive(heart.close())


def test_a_connection_that_comes_too_late_is_closed(url: str) -> None:
    come, late = threading.Event(), psycopg.connect(url)

    def connect() -> psycopg.Connection[Any]:
        come.wait()
        return late

    with pytest.raises(psycopg.OperationalError):
        connect_within(0.01, connect)
    come.set()
    eventually(lambda: late.closed)


def test_neither_claims_nor_writes_use_one_that_lay_idle(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fang_threaded.connections.UNUSED_FOR", 0.0)
    connections = Connections(url, 2, Operations("fang"))
    drive(connections.lend())
    for database in connections._databases or ():
        assert isinstance(database, PsycopgDatabase)
        idle = database.connection_pool.take()
        database.connection_pool.give_back(idle)
        database.connection_pool.give_back(database.connection_pool.take())
        assert idle.closed
    drive(connections.give_back())


def test_a_long_answer_is_no_silence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fang_threaded.connection.ANSWER_WITHIN", 1.0)
    rows = "SELECT repeat('x', 100000), pg_sleep(0.05) FROM generate_series(1, 30)"  # each too wide to be held back
    with Connection.connect(url, autocommit=True) as connection:
        assert len(connection.execute(rows).fetchall()) == 30
        with pytest.raises(psycopg.OperationalError, match="no answer to a statement for 1 s"):
            connection.execute("SELECT pg_sleep(60)")
        assert connection.broken


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="not on this system")
@pytest.mark.parametrize(("query", "idle"), [({}, 30), ({"keepalives_idle": "7"}, 7)])
def test_a_peer_that_is_gone_is_noticed_by_tcp(url: str, query: dict[str, str], idle: int) -> None:
    with Proxy(url) as proxy, Queue(make_url(proxy.url).update_query_dict(query)) as queue:
        connection = queue._connections.dedicated()
        with socket.socket(fileno=os.dup(connection.fileno())) as peer:
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        connection.close()


def test_a_connection_on_which_a_value_was_refused_is_kept(url: str) -> None:
    with Queue(url, max_pool_size=1) as queue:
        database = drive(queue._connections.writes())
        assert isinstance(database, PsycopgDatabase)

        def backend() -> int:
            connection = database.connection_pool.take()
            database.connection_pool.give_back(connection)
            return connection.info.backend_pid

        before = backend()
        with pytest.raises(StatementRefused):
            database.run(replace(queue._operations.find(uuid4()), params={"p_id": "no uuid"}))
        assert backend() == before


def test_an_engine_with_one_connection_for_all_threads_is_refused(url: str) -> None:
    """Each thread's statements would fall into another's transaction, and roll back with it."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=StaticPool)
    with pytest.raises(UsageError, match="QueuePool"), Queue(engine) as queue:
        queue.remove_all_tasks()


def test_what_an_application_registers_for_all_connections_is_not_used(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = AdaptersMap(psycopg.adapters)
    with psycopg.connect(url) as connection:  # one of the application's, as it was
        connection._adapters = hostile
        loaders_of_nonsense(connection)
        dumpers_of_nonsense(connection)
    hostile.register_dumper(list, NonsenseDumper)
    monkeypatch.setattr(psycopg.postgres, "adapters", hostile)
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == ("nonsense",)
    with Queue(url) as queue:
        one, *many = queue.insert_tasks([ThreadedNote(n=n) for n in range(20)])
        assert queue.insert_task(ThreadedNote(n=20), uniq=True, delay=timedelta(0)).state == "new"
        assert queue.find_task_by_id(one.id) == one
        with WorkerPool(queue, retention_mode=RetentionMode.KEEP_ALL):
            assert ran(21) == list(range(21))
        found = queue.find_task_by_id(many[0].id)
        assert found is not None
        assert (found.state, found.metadata["n"], found.scheduled_at) == ("finished", 1, many[0].scheduled_at)
