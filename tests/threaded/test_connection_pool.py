"""Connections that are lent and come back."""

import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from fang_core.errors import BackendError, BackendUnavailable, PayloadError
from fang_postgres.operations import Operations
from fang_threaded import Queue, Runnable
from fang_threaded.connection_pool import ConnectionPool
from fang_threaded.database import PsycopgDatabase
from tests.modes import eventually
from tests.patience import PATIENT


class Loan(Runnable):
    def run(self, queue: Any) -> None: ...


class Payload(Runnable):
    value: Any = None

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def pool(url: str) -> Iterator[ConnectionPool]:
    made: list[psycopg.Connection[Any]] = []

    def connect() -> psycopg.Connection[Any]:
        made.append(psycopg.connect(url, autocommit=True))
        return made[-1]

    yield ConnectionPool(connect, 2)
    for connection in made:
        connection.close()


def test_the_last_that_came_back_goes_out_first(pool: ConnectionPool) -> None:
    first, second = pool.take(), pool.take()
    pool.give_back(first)
    pool.give_back(second)
    assert [pool.take(), pool.take()] == [second, first]


def test_no_more_than_its_size_and_a_wait_for_one(pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = pool.take(), pool.take()
    monkeypatch.setattr("fang_postgres.connections.acquire_timeout.WAIT_FOR_ONE", 0.01)
    with pytest.raises(BackendError, match="raise max_pool_size"):
        pool.take()
    monkeypatch.undo()
    taken: list[Any] = []
    waiting = threading.Thread(target=lambda: taken.append(pool.take()))
    waiting.start()
    pool.give_back(first)
    waiting.join(PATIENT)
    assert taken == [first]


def test_who_waits_gives_up_where_nobody_got_one_for_so_long_and_not_in_a_line_that_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, judged = 0.0, threading.Semaphore(0)
    asked: set[int] = set()

    def monotonic() -> float:
        asked.add(threading.get_ident())
        judged.release()
        return now

    monkeypatch.setattr("fang_threaded.connection_pool.time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr("fang_postgres.connections.acquire_timeout.WAIT_FOR_ONE", 0.01)  # of both clocks
    pool = ConnectionPool(SimpleNamespace, 1)  # type: ignore[arg-type]
    pool.take()
    with ThreadPoolExecutor() as executor:
        waiting = {executor.submit(pool.take) for _ in range(2)}
        eventually(lambda: len(asked) == 3)
        now = 0.009
        pool._leave()  # it comes back
        done, waiting = wait(waiting, 10, FIRST_COMPLETED)
        assert (len(done), len(waiting)) == (1, 1)
        now = 0.018
        while judged.acquire(blocking=False):
            pass
        for _ in range(3):
            assert judged.acquire(timeout=PATIENT)
        (last,) = waiting
        assert not last.done()
        now = 0.02
        assert isinstance(last.exception(10), BackendError)


def test_a_caller_that_has_a_place_and_no_connection_yet_moves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now, connects, connected = 0.0, threading.Event(), threading.Event()

    def connect() -> Any:
        connects.set()
        assert connected.wait(PATIENT)
        return SimpleNamespace()

    monkeypatch.setattr("fang_threaded.connection_pool.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("fang_postgres.connections.acquire_timeout.WAIT_FOR_ONE", 0.01)
    pool = ConnectionPool(connect, 1)
    with ThreadPoolExecutor() as executor:
        first = executor.submit(pool.take)
        assert connects.wait(PATIENT)
        last = executor.submit(pool.take)
        eventually(pool._places._is_line)
        now = 0.01
        assert isinstance(last.exception(10), BackendError)
        connected.set()
        first.result(PATIENT)


def test_a_waiting_pool_has_every_second_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ConnectionPool(SimpleNamespace, 1)  # type: ignore[arg-type]
    turns: list[str] = []

    def take(name: str) -> None:
        pool.take(of_pool=name == "pool")
        turns.append(name)
        pool._leave()

    pool.take()
    with ThreadPoolExecutor(8) as executor:
        for number, name in enumerate(["insert", "insert", "insert", "pool", "pool"], start=1):
            executor.submit(take, name)
            eventually(lambda number=number: _waiting(pool) == number)  # type: ignore[misc]
        pool._leave()
    assert turns == ["pool", "insert", "pool", "insert", "insert"]


def _waiting(pool: ConnectionPool) -> int:
    return len(pool._places._of_pools) + len(pool._places._of_callers)


def test_one_that_nobody_used_is_closed_instead_of_being_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("fang_threaded.connection_pool.time", SimpleNamespace(monotonic=lambda: now))
    pool = ConnectionPool(partial(psycopg.connect, url, autocommit=True), 3, unused_for=60.0)
    first, second, third = [pool.take() for _ in range(3)]
    pool.give_back(first)
    now = 30.0
    pool.give_back(second)
    now = 89.0
    assert pool.take() is second
    pool.give_back(third)
    now = 150.0
    fresh = pool.take()
    assert fresh not in (first, second, third)
    assert first.closed  # it lay there for longer
    assert third.closed
    assert not second.closed  # that is lent
    for connection in (second, fresh):
        pool.give_back(connection)
    pool.close()


def test_a_failed_connect_takes_no_place() -> None:
    def connect() -> psycopg.Connection[Any]:
        raise psycopg.OperationalError("nobody there")

    pool = ConnectionPool(connect, 1)
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            pool.take()


@pytest.mark.parametrize("statement", ["BEGIN", "BEGIN; SELECT 1/0"])
def test_one_in_a_transaction_is_not_kept(pool: ConnectionPool, statement: str) -> None:
    connection = pool.take()
    with suppress(psycopg.DataError):
        connection.execute(statement.encode())
    pool.give_back(connection)
    assert connection.closed
    assert pool.take() is not connection


def test_one_that_comes_back_after_the_end_is_closed(pool: ConnectionPool) -> None:
    lent, idle = pool.take(), pool.take()
    pool.give_back(idle)
    pool.close()
    assert idle.closed
    assert not lent.closed
    pool.give_back(lent)
    assert lent.closed


def test_a_bulk_whose_connection_dies_leaves_nothing(url: str) -> None:
    with Queue(url, max_pool_size=1) as queue, psycopg.connect(url, autocommit=True) as other:
        kill = "CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS "
        kill += "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        other.execute(kill.encode())
        other.execute("CREATE TRIGGER kill AFTER INSERT ON fang.fang_tasks EXECUTE FUNCTION kill()")
        with pytest.raises(BackendUnavailable):
            queue.insert_tasks([Loan(), Loan()])
        other.execute("DROP TRIGGER kill ON fang.fang_tasks")
        assert other.execute("SELECT count(*) FROM fang.fang_tasks").fetchone() == (0,)
        assert len(queue.insert_tasks([Loan(), Loan()])) == 2


def test_an_interrupt_within_begin_ends_the_connection(pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None: ...

    connection = pool.take()
    pool.give_back(connection)
    monkeypatch.setattr(psycopg.Connection, "transaction", lambda _: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        PsycopgDatabase(pool, "fang").run_all([Operations("fang").clock()] * 2)
    assert connection.closed
    assert pool.take() is not connection


@pytest.mark.parametrize("trouble", [OSError, RuntimeError, psycopg.OperationalError])
def test_a_bulk_that_fails_on_its_way_says_why_whatever_its_cleanup_meets(
    url: str, monkeypatch: pytest.MonkeyPatch, trouble: type[Exception]
) -> None:
    """There is no thread to be had, say, or no connection on which to ask for a cancellation."""

    def cancel(*_: Any) -> None:
        raise trouble("in the cleanup")

    monkeypatch.setattr("fang_threaded.database.cancel", cancel)
    with Queue(url, max_pool_size=1) as queue:
        with pytest.raises(PayloadError):
            queue.insert_tasks([*(Payload() for _ in range(2_500)), Payload(value=object())])
        assert queue.insert_task(Payload()) is not None
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM fang.fang_tasks").fetchone() == (1,)
