"""The server's queue of notifications is full: writes on connections of our own wake nobody, and nothing is refused.

Postgres has 8 GB for it; a server of these tests has half a megabyte, which some session keeps full.
"""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, make_url

from fang_core import AsyncRunnable, Constant, Runnable, TaskConfig, TaskState
from fang_core.errors import NotificationsFull, is_refusal
from fang_core.insertion import NewTask, Overrides
from fang_core.lifecycle import Outcome
from fang_core.liveness import Pulse
from fang_core.store import ClaimRequest
from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from fang_postgres.diagnosis import diagnose
from fang_postgres.operations import Operations
from fang_postgres.statement import Conversation, Operation
from fang_postgres.waking import QUIET_FOR, Quiet
from tests.fixtures import database
from tests.modes import Database, Side, eventually

POOL, DEAD = uuid.UUID(int=7), uuid.UUID(int=8)
STATES = "SELECT DISTINCT state::text FROM fang.fang_tasks"


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """Not the server of other tests: they listen, too."""
    settings = {"search_path": "public", "max_notify_queue_pages": "64"}
    with EmbeddedPostgres(durable=False, settings=settings) as server:
        yield server.url


@pytest.fixture(scope="module")
def template(server_url: str) -> Iterator[str]:
    for url in database(server_url):
        migrate.upgrade(url)
        name = make_url(url).database
        assert name is not None
        yield name


@pytest.fixture
def full(url: str) -> Iterator[None]:
    """A pool waits; a session listens, and stays in a transaction, while another tells it more than it can hold."""
    with psycopg.connect(url, autocommit=True) as teller, psycopg.connect(url, autocommit=True) as listener:
        teller.execute(
            "INSERT INTO fang.fang_pools (id, mode, host, pid, task_types, kinds, workers, waiting)"
            " VALUES (%s, 'threaded', 'h', 1, '{common}', '{Fails,Told}', 1, true)",
            [POOL],
        )
        listener.execute("LISTEN elsewhere")
        listener.execute("BEGIN")
        listener.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            tell_for_ever(teller)
        yield
        listener.execute("ROLLBACK")


def tell_for_ever(teller: psycopg.Connection[Any]) -> None:
    while True:
        teller.execute("SELECT pg_notify('elsewhere', repeat('x', 7900))")


def is_full(error: psycopg.Error) -> bool:
    return isinstance(diagnose(error.sqlstate, error.diag.message_primary or "", schema="fang"), NotificationsFull)


class ThreadedFails(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedFails", backoff=Constant(delay=timedelta(0)))

    def run(self, queue: Any) -> None:
        raise ValueError


class AsyncFails(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncFails", backoff=Constant(delay=timedelta(0)))

    async def run(self, queue: Any) -> None:
        raise ValueError


def test_the_error_says_what_to_do_and_is_no_refusal() -> None:
    error = diagnose("54000", "zu viele Benachrichtigungen in NOTIFY-Schlange", schema="fang")
    assert isinstance(error, NotificationsFull)
    assert "pg_notification_queue_usage()" in str(error)
    assert not is_refusal(error)
    assert is_refusal(diagnose("54000", "index row size 3000 exceeds btree version 4 maximum 2704", schema="fang"))


@pytest.fixture(params=["url", "engine"])
def queue(request: pytest.FixtureRequest, side: Side, url: str) -> Iterator[Any]:
    if request.param == "url":
        yield side.queue(url)
        return
    if side.mode == "async":
        pytest.skip("only threads take an engine")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    yield side.queue(engine)
    side.end()
    engine.dispose()


@pytest.mark.usefixtures("full")
def test_inserts_and_changes_stand_and_the_log_says_why_nobody_is_woken(
    side: Side, queue: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = side.call(queue.insert_task, side.note())
    assert "pools are not woken for 60 s, and poll: the server's NOTIFY queue is full" in caplog.text
    many = side.call(queue.insert_tasks, [side.note(n=n) for n in range(1_500)])
    unique = side.call(queue.insert_tasks, [side.note(n=n) for n in range(3)], uniq=True)
    assert len({one.id, *(task.id for task in (*many, *unique))}) == 1_504
    cancelled = side.call(queue.update_task_state, one, TaskState.CANCELLED)
    assert side.call(queue.update_task_state, cancelled, TaskState.NEW).state is TaskState.NEW
    assert len([line for line in caplog.messages if "are not woken" in line]) == 1


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("count", [1, 1_500])
def test_a_first_insert_that_meets_it_stands_once(side: Side, queue: Any, watched: Database, count: int) -> None:
    side.call(queue.insert_tasks, [side.note(n=n) for n in range(count)])
    assert watched.rows("SELECT count(*) FROM fang.fang_tasks") == [(count,)]


@pytest.fixture
def watched(url: str) -> Iterator[Database]:
    made = Database(url)
    yield made
    made.close()


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("state", [TaskState.NEW, TaskState.RETRIED])
def test_what_is_given_back_or_retried_does_not_fail(
    side: Side, queue: Any, watched: Database, state: TaskState
) -> None:
    store, tasks = hold(side, queue, watched)
    outcomes = [Outcome(task.id, task.attempt, state) for task in tasks]
    assert side.call(store.complete, POOL, outcomes[:5]) == {task.id for task in tasks[:5]}
    assert side.call(store.reconcile, POOL, []) == 5
    side.call(store.close)


def hold(side: Side, queue: Any, watched: Database) -> tuple[Any, list[Any]]:
    watched.execute('INSERT INTO fang.fang_tasks (metadata) SELECT \'{"type": "Told"}\' FROM generate_series(1, 10)')
    store = side.call(queue.store)
    tasks: list[Any] = side.call(store.claim, ClaimRequest(POOL, ("common",), ("Told",), 10)).tasks
    assert len(tasks) == 10
    return store, tasks


@pytest.mark.usefixtures("full")
def test_a_pool_writes_what_it_has_to_try_again(side: Side, url: str, watched: Database) -> None:
    queue = side.queue(url)
    fails = ThreadedFails if side.mode == "threaded" else AsyncFails
    side.pool(queue, poll=timedelta(seconds=0.1))
    side.call(queue.insert_task, fails(), max_retries=1)
    eventually(lambda: watched.rows("SELECT retries FROM fang.fang_tasks WHERE state = 'failed'") == [(1,)], within=20)
    assert watched.rows("SELECT error_message FROM fang.fang_tasks") == [("ValueError",)]


@pytest.mark.usefixtures("full")
def test_the_tasks_of_a_dead_pool_are_taken_back_at_the_second_try(side: Side, queue: Any, watched: Database) -> None:
    store, _ = hold(side, queue, watched)
    heart = side.call(store.heart, False) if side.mode == "threaded" else store.heart(False)
    with pytest.raises(NotificationsFull):
        side.call(heart.rescue, [Pulse(POOL, 0, True, False, 60.0)])
    assert len(side.call(heart.rescue, [Pulse(POOL, 0, True, False, 60.0)])) == 10
    side.call(heart.close)
    side.call(store.close)


@pytest.mark.usefixtures("full")
def test_a_transaction_of_the_callers_fails_at_its_commit(side: Side, url: str) -> None:
    """Only its driver is there to say so."""
    if side.mode == "async":
        pytest.skip("the connection is the caller's own, whatever the mode")
    queue = side.queue(url)
    connection = psycopg.connect(url)
    queue.insert_task(side.note(), connection=connection)
    with pytest.raises(psycopg.errors.ProgramLimitExceeded) as caught:
        connection.commit()
    assert is_full(caught.value)
    connection.close()


# When it is over ------------------------------------------------------------------------------------------------------

OPS = Operations("fang")
INSERT = OPS.insert(NewTask(POOL, "{}", "Told", "common", 0, 20, None), Overrides(), notify=True)


def test_nobody_is_woken_for_a_while() -> None:
    quiet = Quiet()
    assert quiet.of(INSERT, 5.0) is INSERT
    quiet.begin(5.0)
    assert quiet.of(INSERT, 5.0).params == {**INSERT.params, "p_notify": False}
    version = OPS.version()
    assert quiet.of(version, 5.0) is version
    assert quiet.of(INSERT, 5.0 + QUIET_FOR) is INSERT


def test_a_whole_conversation_wakes_nobody() -> None:
    def conversation() -> Conversation[int]:
        one: int = yield INSERT
        other: int = yield INSERT
        return one + other

    quiet = Quiet()
    quiet.begin(0.0)
    held = quiet.of_all(conversation(), 0.0)
    asked: list[Operation[Any]] = [next(held), held.send(1)]
    assert [operation.params["p_notify"] for operation in asked] == [False, False]
    with pytest.raises(StopIteration) as end:
        held.send(2)
    assert end.value.value == 3
