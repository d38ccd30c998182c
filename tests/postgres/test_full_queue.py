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
from fang_core.backends.claims import ClaimRequest
from fang_core.errors import NotificationsFull, is_refusal
from fang_core.lifecycle import Outcome
from fang_core.liveness import Pulse
from fang_core.tasks.insertion import NewTask, Overrides
from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from fang_postgres.connections.diagnosis import diagnose
from fang_postgres.operations import Operations
from fang_postgres.pool.waking import QUIET_FOR, Quiet
from fang_postgres.statement import Operation, Script
from tests import clusters
from tests.fixtures import database
from tests.modes import Database, Harness, eventually

MAX_NOTIFY_QUEUE_PAGES_SINCE = 17
POOL, DEAD = uuid.UUID(int=7), uuid.UUID(int=8)
STATES = "SELECT DISTINCT state::text FROM fang.fang_tasks"


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """Not the server of other tests: they listen, too."""
    if clusters.version() < MAX_NOTIFY_QUEUE_PAGES_SINCE:
        pytest.skip("its queue of notifications has 8 GB")
    settings = {"search_path": "public", "max_notify_queue_pages": "64"}
    with EmbeddedPostgres(durable=False, bin_dir=clusters.bin_dir(), settings=settings) as server:
        yield server.url


@pytest.fixture(scope="module")
def template(server_url: str) -> Iterator[str]:
    for url in database(server_url):
        migrate.upgrade(url)
        name = make_url(url).database
        assert name is not None
        yield name


@pytest.fixture
def url(server_url: str, template: str) -> Iterator[str]:
    yield from database(server_url, template)


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
def queue(request: pytest.FixtureRequest, harness: Harness, url: str) -> Iterator[Any]:
    if request.param == "url":
        yield harness.queue(url)
        return
    if harness.mode == "async":
        pytest.skip("only threads take an engine")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    yield harness.queue(engine)
    harness.end()
    engine.dispose()


@pytest.mark.usefixtures("full")
def test_inserts_and_changes_stand_and_the_log_says_why_nobody_is_woken(
    harness: Harness, queue: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = harness.call(queue.insert_task, harness.note())
    assert "pools are not woken for 60 s, and poll: the server's NOTIFY queue is full" in caplog.text
    many = harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(1_500)])
    unique = harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(3)], uniq=True)
    assert len({one.id, *(task.id for task in (*many, *unique))}) == 1_504
    cancelled = harness.call(queue.update_task_state, one, TaskState.CANCELLED)
    assert harness.call(queue.update_task_state, cancelled, TaskState.NEW).state is TaskState.NEW
    assert len([line for line in caplog.messages if "are not woken" in line]) == 1


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("count", [1, 1_500])
def test_a_first_insert_that_meets_it_stands_once(harness: Harness, queue: Any, watched: Database, count: int) -> None:
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(count)])
    assert watched.rows("SELECT count(*) FROM fang.fang_tasks") == [(count,)]


@pytest.fixture
def watched(url: str) -> Iterator[Database]:
    made = Database(url)
    yield made
    made.close()


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("state", [TaskState.NEW, TaskState.RETRIED])
def test_what_is_given_back_or_retried_does_not_fail(
    harness: Harness, queue: Any, watched: Database, state: TaskState
) -> None:
    store, tasks = hold(harness, queue, watched)
    outcomes = [Outcome(task.id, task.attempt, state) for task in tasks]
    assert harness.call(store.complete, POOL, outcomes[:5]) == {task.id for task in tasks[:5]}
    assert harness.call(store.reconcile, POOL, []) == 5
    harness.call(store.close)


def hold(harness: Harness, queue: Any, watched: Database) -> tuple[Any, list[Any]]:
    watched.execute('INSERT INTO fang.fang_tasks (metadata) SELECT \'{"type": "Told"}\' FROM generate_series(1, 10)')
    store = harness.call(queue.store)
    tasks: list[Any] = harness.call(store.claim, ClaimRequest(POOL, ("common",), ("Told",), 10)).tasks
    assert len(tasks) == 10
    return store, tasks


@pytest.mark.usefixtures("full")
def test_a_pool_writes_what_it_has_to_try_again(harness: Harness, url: str, watched: Database) -> None:
    queue = harness.queue(url)
    fails = ThreadedFails if harness.mode == "threaded" else AsyncFails
    harness.pool(queue, poll=timedelta(seconds=0.1))
    harness.call(queue.insert_task, fails(), max_retries=1)
    eventually(lambda: watched.rows("SELECT retries FROM fang.fang_tasks WHERE state = 'failed'") == [(1,)])
    assert watched.rows("SELECT error_message FROM fang.fang_tasks") == [("ValueError",)]


@pytest.mark.usefixtures("full")
def test_the_tasks_of_a_dead_pool_are_taken_back_at_the_second_try(
    harness: Harness, queue: Any, watched: Database
) -> None:
    store, _ = hold(harness, queue, watched)
    heart = harness.call(store.heart, False) if harness.mode == "threaded" else store.heart(False)
    with pytest.raises(NotificationsFull):
        harness.call(heart.rescue, [Pulse(POOL, 0, True, False, 60.0)])
    assert len(harness.call(heart.rescue, [Pulse(POOL, 0, True, False, 60.0)])) == 10
    harness.call(heart.close)
    harness.call(store.close)


@pytest.mark.usefixtures("full")
def test_a_transaction_of_the_callers_fails_at_its_commit(harness: Harness, url: str) -> None:
    """Only its driver is there to say so."""
    if harness.mode == "async":
        pytest.skip("the connection is the caller's own, whatever the mode")
    queue = harness.queue(url)
    connection = psycopg.connect(url)
    queue.insert_task(harness.note(), connection=connection)
    with pytest.raises(psycopg.errors.ProgramLimitExceeded) as caught:
        connection.commit()
    assert is_full(caught.value)
    connection.close()


# When it is over ------------------------------------------------------------------------------------------------------

OPS = Operations("fang")
INSERT = OPS.insert(NewTask(POOL, "{}", "Told", ("common", 0, 20, None, None), None), Overrides(), notify=True)


def test_nobody_is_woken_for_a_while() -> None:
    quiet = Quiet()
    assert quiet.of(INSERT, 5.0) is INSERT
    quiet.begin(5.0)
    assert quiet.of(INSERT, 5.0).params == {**INSERT.params, "p_notify": False}
    version = OPS.version()
    assert quiet.of(version, 5.0) is version
    assert quiet.of(INSERT, 5.0 + QUIET_FOR) is INSERT


def test_a_whole_conversation_wakes_nobody() -> None:
    def script() -> Script[int]:
        one: int = yield INSERT
        other: int = yield INSERT
        return one + other

    quiet = Quiet()
    quiet.begin(0.0)
    held = quiet.of_all(script(), 0.0)
    asked: list[Operation[Any]] = [next(held), held.send(1)]
    assert [operation.params["p_notify"] for operation in asked] == [False, False]
    with pytest.raises(StopIteration) as end:
        held.send(2)
    assert end.value.value == 3
